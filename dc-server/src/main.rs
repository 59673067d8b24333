//! `causeway`: the program.

use std::{env, io, process::ExitCode};

use dc_server::cli::{self, Io, Start};

/// Answers are built of many small allocations, and this allocator makes them cheap.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let mut words = env::args_os().map(|word| word.to_string_lossy().into_owned());
    let program = words.next().unwrap_or_default();
    let name = program.rsplit('/').next().unwrap_or_default();
    let start = Start {
        program: name.to_owned(),
        words: words.collect(),
        env: env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect(),
        itself: env::current_exe().unwrap_or_default(),
        dir: env::current_dir().unwrap_or_default(),
    };
    let io = Io { input: &mut io::stdin(), out: &mut io::stdout(), err: &mut io::stderr() };
    cli::execute(&start, io)
}

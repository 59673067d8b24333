//! `keygen`: a key for the LAN pool.

use base64::{Engine, engine::general_purpose::STANDARD};
use rand::{TryRng, rngs::SysRng};

use super::{Api, Call, Command, Run};

/// Bytes of a key: AES-256.
const KEY_LEN: usize = 32;

pub(super) const COMMAND: Command = Command {
    name: "keygen",
    about: "Makes a key that seals the LAN pool",
    usage: "",
    help: "Makes a random key of 32 bytes, in base64, for encrypt in a file or -encrypt.",
    flags: Vec::new,
    api: Api::None,
    run: Run::Call(run),
};

fn run(call: &mut Call<'_>) -> anyhow::Result<u8> {
    let mut key = [0; KEY_LEN];
    SysRng.try_fill_bytes(&mut key)?;
    call.say(STANDARD.encode(key))?;
    Ok(0)
}

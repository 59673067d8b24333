//! Real scripts that hang, fork, flood and fail.

use std::time::Duration;

use super::*;
use crate::{
    catalog::Health,
    checks::{
        Finding, script,
        tests::{IMPATIENCE, PATIENCE, roll::Roll},
    },
};

fn shell(line: &str, timeout: Duration) -> Program {
    Program::new(["/bin/sh", "-c", line].map(Text::from).to_vec(), timeout, 4096)
}

async fn find(line: &str) -> Finding {
    script::find(&mut shell(line, PATIENCE)).await
}

#[tokio::test]
async fn exit_codes_say_how_it_is() {
    assert_eq!(find("echo fine").await, Finding::passing("fine\n".to_owned()));
    assert_eq!(find("echo so-so; exit 1").await, Finding::warning("so-so\n".to_owned()));
    assert_eq!(find("echo bad; exit 2").await, Finding::critical("bad\n".to_owned()));
    assert_eq!(find("exit 127").await, Finding::critical(String::new()));
    assert_eq!(find("kill -9 $$").await, Finding::critical(String::new()));
}

#[tokio::test]
async fn both_outputs_are_kept_in_their_order_and_the_end_of_much() {
    let finding = find("echo one; echo two >&2; echo three").await;
    assert_eq!(finding.output, "one\ntwo\nthree\n");
    let finding = find("i=0; while [ $i -lt 1000 ]; do echo 123456789; i=$((i+1)); done").await;
    assert_eq!(finding.health, Health::Passing);
    let (head, tail) = finding.output.split_once("\n...\n").unwrap();
    assert_eq!(head, "Captured 4096 of 10000 bytes");
    assert_eq!(tail.len(), 4096);
    assert!(tail.ends_with("9\n123456789\n"));
}

#[tokio::test]
async fn nothing_can_be_read_from_the_agent() {
    assert_eq!(find("cat; echo end").await, Finding::passing("end\n".to_owned()));
}

#[tokio::test]
async fn what_can_not_be_run_is_critical_with_the_reason() {
    for (args, reason) in [
        (vec!["/nowhere/check".into()], "No such file"),
        (vec!["/etc".into()], "ermission denied"),
        (vec![], "no program"),
    ] {
        let finding = script::find(&mut Program::new(args, PATIENCE, 4096)).await;
        assert_eq!(finding.health, Health::Critical);
        assert!(finding.output.contains(reason), "{}", finding.output);
    }
}

#[tokio::test]
async fn a_flood_is_cut_off() {
    let mut roll = Roll::new();
    let line = roll.script("exec 9>$PIPE; echo here >&9; exec yes");
    let mut program = shell(&line, PATIENCE);
    let (finding, ()) = tokio::join!(script::find(&mut program), roll.call(1));
    assert_eq!(finding.health, Health::Critical);
    assert!(finding.output.starts_with("The check printed too much and was killed\n\nCaptured"));
    assert!(finding.output.len() < 5000);
    roll.all_gone().await;
}

#[tokio::test]
async fn what_hangs_is_killed_with_all_its_children() {
    let mut roll = Roll::new();
    // Deaf to SIGTERM; a child in its group, one in a group of its own as `timeout` makes it, one in
    // a session of its own.
    let line = roll.script(
        "trap '' TERM INT HUP; echo begun; exec 9>$PIPE; echo here >&9
         sh -c 'echo here >&9; exec sleep 1000' &
         timeout 1000 sh -c 'echo here >&9; exec sleep 1000' &
         setsid sh -c 'echo here >&9; exec sleep 1000' &
         while true; do sleep 1000; done",
    );
    let mut program = shell(&line, Duration::from_secs(3));
    let (finding, ()) = tokio::join!(script::find(&mut program), roll.call(4));
    let output = "Timed out (3s) running check\n\nbegun\n".to_owned();
    assert_eq!(finding, Finding::critical(output));
    roll.all_gone().await;
}

#[tokio::test]
async fn what_was_left_in_the_background_is_killed_and_not_waited_for() {
    let mut roll = Roll::new();
    // The child holds the output open.
    let line = roll.script(
        "exec 9>$PIPE; sh -c 'echo here >&9; : > $PIPE.up; exec sleep 1000' &
         while [ ! -e $PIPE.up ]; do :; done; echo done",
    );
    let mut program = shell(&line, PATIENCE);
    let (finding, ()) = tokio::join!(script::find(&mut program), roll.call(1));
    assert_eq!(finding, Finding::passing("done\n".to_owned()));
    roll.all_gone().await;
}

#[tokio::test]
async fn who_is_no_longer_waited_for_is_killed() {
    let mut roll = Roll::new();
    let line =
        roll.script("exec 9>$PIPE; echo here >&9; sh -c 'echo here >&9; exec sleep 1000' & wait");
    let mut program = shell(&line, PATIENCE);
    tokio::select! {
        _ = program.run() => panic!("it runs for ever"),
        () = roll.call(2) => {}
    }
    roll.all_gone().await;
}

#[tokio::test]
async fn a_program_can_run_again_and_again() {
    let mut program = shell("sleep 1000", IMPATIENCE);
    for _ in 0..2 {
        assert_eq!(program.run().await.unwrap().end, End::TimedOut);
    }
}

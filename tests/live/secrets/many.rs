//! As many sessions as a machine can have: each has its secrets.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{kept, lines};
use crate::capture::Tlsdump;
use crate::container::{Container, Host, Place};
use crate::lab::Lab;
use crate::process::{Process, run};

const VERSIONS: [&str; 2] = ["1.3", "1.2"];
const THREADS: usize = 2;

/// The built `tests/programs/handshakes.c`.
#[track_caller]
fn program(lab: &Lab, options: &[&str]) -> PathBuf {
    let program = lab.path("handshakes");
    let mut gcc = Command::new("gcc");
    gcc.args(["-O1", "-Wall", "-Wextra", "-Wno-unused-parameter", "-Werror", "-o"]).arg(&program);
    gcc.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/programs/handshakes.c"));
    run(gcc.args(options).args(["-lssl", "-lcrypto", "-lpthread"])).succeeds();
    program
}

/// Some processes have sessions, `each` in each thread, while a neighbour has some too. Their secrets, and no
/// other, are in the capture.
#[track_caller]
fn have(lab: &Lab, program: &Path, options: &[&str], processes: usize, each: usize) {
    let (container, neighbour) = (Container::new(lab), Container::new(lab));
    let tlsdump = Tlsdump::start(lab, &[&[container.option().as_str()], options].concat());
    let command = |place: &Container, keys: &str, version: &str, each: usize| {
        let mut command = place.command(program);
        command.arg(lab.certificate()).arg(lab.path(keys));
        command.args([version, &THREADS.to_string(), &each.to_string()]);
        command
    };
    let keys = |i: usize| format!("own{i}");
    let start = |i| Process::start(&command(&container, &keys(i), VERSIONS[i % 2], each));
    let running: Vec<_> = (0..processes).map(start).collect();
    run(&command(&neighbour, "neighbour", VERSIONS[0], 5)).succeeds();
    running.into_iter().for_each(|process| println!("{}", process.end().succeeds().stdout));
    let captured = tlsdump.stop();
    let own: BTreeSet<_> = (0..processes).flat_map(|i| lines(lab, &keys(i))).collect();
    let sessions = processes * THREADS * each;
    assert_eq!(own.len(), sessions / 2 * 5 + sessions / 2, "of each second process a line, else five");
    assert!(!captured.ended.stderr.contains("lost: "), "{}", captured.ended);
    assert!(!captured.ended.stderr.contains("secrets were lost"), "{}", captured.ended);
    let kept = kept(&captured);
    assert_eq!(kept.symmetric_difference(&own).count(), 0, "{} of {}", kept.len(), own.len());
}

#[test]
fn of_two_thousand_sessions_as_fast_as_it_goes() {
    let lab = Lab::new();
    have(&lab, &program(&lab, &[]), &["--buffer=64M"], 4, 250);
}

/// As Android has it: Debian's package android-libboringssl-dev.
#[test]
fn of_boringssl() {
    let lab = Lab::new();
    let directory = run(&Host.shell("echo /usr/lib/*/android", &[])).succeeds().stdout;
    let directory = directory.trim();
    let (library, path) = (format!("-L{directory}"), format!("-Wl,-rpath,{directory}"));
    let program = program(&lab, &["-I/usr/include/android", &library, &path]);
    let libraries = ["ssl", "crypto"].map(|name| format!("--lib={directory}/lib{name}.so.0"));
    have(&lab, &program, &libraries.each_ref().map(String::as_str), 2, 10);
}

//! Runs Wireshark's programs on a capture, with no user's settings.

// Each test uses its own part of it.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::process::Command;

use tempfile::TempDir;

/// Runs a program on a capture, in UTC and without a user's settings, and gives what it prints.
pub fn run(program: &str, before: &[&str], file: &[u8], after: &[&str]) -> String {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("capture.pcapng");
    fs::write(&path, file).unwrap();
    let output = Command::new(program)
        .args(before)
        .arg(&path)
        .args(after)
        .env("TZ", "UTC")
        .env("HOME", dir.path())
        .env("XDG_CONFIG_HOME", dir.path())
        .output()
        .unwrap_or_else(|e| panic!("cannot run {program} ({e}); apt-get install tshark tcpdump"));
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{program} {before:?} {after:?}: {}\n{out}\n{err}", output.status);
    out.into_owned()
}

pub fn tshark(file: &[u8], arguments: &[&str]) -> String {
    run("tshark", &["-n", "-r"], file, arguments)
}

/// The lines that tshark prints of these fields, tab separated.
pub fn fields(file: &[u8], filter: &str, names: &[&str]) -> Vec<String> {
    let arguments: Vec<&str> =
        ["-Y", filter, "-T", "fields"].into_iter().chain(names.iter().flat_map(|n| ["-e", n])).collect();
    tshark(file, &arguments).lines().map(str::to_owned).collect()
}

/// What one side of a stream sent, as `follow` shows it; `protocol` is `tcp` or `tls`.
pub fn followed(file: &[u8], protocol: &str, stream: usize, from_client: bool) -> Vec<u8> {
    let printed = tshark(file, &["-q", "-z", &format!("follow,{protocol},raw,{stream}")]);
    // What the other side sent is indented.
    let hex =
        printed.lines().filter(|l| l.trim().len() > 1 && l.trim().bytes().all(|b| b.is_ascii_hexdigit()));
    let mine = hex.filter(|line| line.starts_with('\t') != from_client).map(str::trim);
    let digit = |b: u8| char::from(b).to_digit(16).unwrap() as u8;
    mine.flat_map(|line| {
        line.as_bytes().chunks(2).map(|h| digit(h[0]) << 4 | digit(h[1])).collect::<Vec<_>>()
    })
    .collect()
}

//! Blocks that mean nothing, given to an output.

// Each test uses its own part of it.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tlsdump::file::output::{Output, Settings};
use tlsdump::file::sink::{Part, Sink as _};

use super::draw::noise;

/// A block of that many bytes; nothing of it is true but its length.
pub fn block(length: usize) -> Vec<u8> {
    let mut block = noise(length);
    block[4..8].copy_from_slice(&(length as u32).to_le_bytes());
    block
}

pub fn replay() -> Settings {
    Settings { wait: true, ..Settings::default() }
}

pub fn cut() -> Settings {
    Settings { cut: true, wait: true, ..Settings::default() }
}

pub fn open(path: &Path, settings: Settings) -> Output {
    Output::open(path, settings, Box::new(|_| {})).unwrap()
}

pub fn give(output: &mut Output, block: &[u8]) -> std::io::Result<()> {
    output.buffer().extend_from_slice(block);
    output.block()
}

/// A part with that in it.
pub fn part(output: &mut Output, number: u32, block: &[u8]) {
    output.begin(Part { number, at: 0 }).unwrap();
    give(output, block).unwrap();
    output.end().unwrap();
}

/// A capture that is one part of two blocks.
pub fn write(path: &Path, settings: Settings) {
    let mut output = open(path, settings);
    output.begin(Part { number: 1, at: 0 }).unwrap();
    give(&mut output, &block(16)).unwrap();
    give(&mut output, &block(32)).unwrap();
    output.end().unwrap();
    output.close().unwrap();
}

pub fn expected() -> Vec<u8> {
    [block(16), block(32)].concat()
}

pub fn refusal(path: &Path, settings: Settings) -> String {
    format!("{:#}", Output::open(path, settings, Box::new(|_| {})).unwrap_err())
}

pub fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

/// Names of the files in a directory.
pub fn list(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort_unstable();
    names
}

pub fn fifo(dir: &TempDir) -> PathBuf {
    let fifo = dir.path().join("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    fifo
}

/// Waits until `is` is so.
pub fn eventually(mut is: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is() {
        assert!(begun.elapsed() < Duration::from_secs(20), "it never came about");
        thread::sleep(Duration::from_millis(5));
    }
}

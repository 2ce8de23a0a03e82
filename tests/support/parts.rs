//! The parts that a capture of a made-up stream (`made_stream.rs`) has left in a directory.

// Each test uses its own part of it.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::made_stream::{SESSIONS, pattern, port, seed};
use super::pcapng::{self, Capture};
use super::streams;

/// A file of a capture.
#[derive(Debug)]
pub struct Part {
    pub path: PathBuf,
    pub capture: Capture,
    /// Bytes of each session, written and read.
    pub moved: [[Vec<u8>; 2]; SESSIONS as usize],
}

impl Part {
    /// A finished part: nothing may be missing or wrong in it.
    #[track_caller]
    pub fn whole(path: &Path) -> Self {
        let bytes = fs::read(path).unwrap();
        let bytes = if is_compressed(path) { unpacked(path, &bytes) } else { bytes };
        let capture = pcapng::read(&bytes).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert!(!capture.interfaces.is_empty(), "{}: no interface", path.display());
        for (number, _) in capture.interfaces.iter().enumerate() {
            let told = capture.statistics.iter().filter(|statistics| statistics.interface == number);
            let told: Vec<_> = told.filter_map(|statistics| statistics.ifrecv).collect();
            let there = capture.packets.iter().filter(|packet| packet.interface == number).count();
            assert_eq!(told, [there as u64], "{}: statistics of interface {number}", path.display());
        }
        Self::of(path, capture)
    }

    /// One that was being written: it is read as far as it goes. None if that is nowhere.
    #[track_caller]
    pub fn begun(path: &Path) -> Option<Self> {
        let mut bytes = fs::read(path).unwrap();
        if path.to_str().unwrap().contains(".zst") {
            let mut read = Vec::new();
            let _ = zstd::stream::read::Decoder::new(bytes.as_slice()).unwrap().read_to_end(&mut read);
            bytes = read;
        }
        bytes.truncate(pcapng::whole_blocks(&bytes));
        if bytes.is_empty() {
            return None;
        }
        let capture = pcapng::read(&bytes).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Some(Self::of(path, capture))
    }

    fn of(path: &Path, capture: Capture) -> Self {
        let mut moved: [[Vec<u8>; 2]; SESSIONS as usize] = Default::default();
        let conversations = streams::conversations(&capture);
        for conversation in conversations.unwrap_or_else(|error| panic!("{}: {error}", path.display())) {
            let session = usize::from(conversation.client.port() - port(0));
            for (all, stream) in moved[session].iter_mut().zip([conversation.written(), conversation.read()])
            {
                assert_eq!(stream.gaps(), [], "{}", path.display());
                all.extend_from_slice(stream.bytes());
            }
        }
        Self { path: path.to_owned(), capture, moved }
    }

    /// Times of its packets, the first and the last, nanoseconds since 1970.
    pub fn span(&self) -> (u64, u64) {
        let times = || self.capture.packets.iter().map(|packet| packet.at);
        (times().min().unwrap(), times().max().unwrap())
    }
}

/// Bytes of the sessions in all parts together; they must be those that were given, from the first on, with
/// none missing between them.
#[track_caller]
pub fn in_order(parts: &[Part]) -> [[u64; 2]; SESSIONS as usize] {
    let mut moved = [[0; 2]; SESSIONS as usize];
    for part in parts {
        for (session, both) in part.moved.iter().enumerate() {
            for (direction, bytes) in both.iter().enumerate() {
                let at = &mut moved[session][direction];
                let expected = pattern(seed(session as u64, direction), *at, bytes.len());
                let path = part.path.display();
                assert!(*bytes == expected, "{path}: session {session} at {at}: not what was moved");
                *at += bytes.len() as u64;
            }
        }
    }
    moved
}

/// The files in a directory that end so, by name.
pub fn files(directory: &Path, fits: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.filter(|name| fits(name)).collect();
    names.sort_unstable();
    names.into_iter().map(|name| directory.join(name)).collect()
}

/// Finished parts.
pub fn finished(directory: &Path) -> Vec<PathBuf> {
    files(directory, |name| name.ends_with(".pcapng") || name.ends_with(".pcapng.zst"))
}

/// Files under temporary names.
pub fn drafts(directory: &Path) -> Vec<PathBuf> {
    files(directory, |name| name.contains(".part"))
}

/// `capinfos` opens all of them.
#[track_caller]
pub fn capinfos(files: &[PathBuf]) {
    for files in files.chunks(1000) {
        let output = Command::new("capinfos").arg("-c").args(files).output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && told.is_empty(), "{told}");
    }
}

/// tshark shows as many packets of an unfinished part as there are, and no other complaint than that it ends
/// early.
#[track_caller]
pub fn tshark_opens(part: &Part) {
    let mut tshark = Command::new("tshark");
    tshark.args(["-n", "-r"]).arg(&part.path).args(["-T", "fields", "-e", "frame.number"]);
    let output = tshark.output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    let complaints = told.lines().filter(|line| !line.contains("Running as user"));
    let complaints: Vec<_> = complaints.filter(|line| !line.contains("cut short in the middle")).collect();
    assert!(complaints.is_empty(), "{}: {complaints:?}", part.path.display());
    let shown = String::from_utf8_lossy(&output.stdout).lines().count();
    assert_eq!(shown, part.capture.packets.len(), "{}: {told}", part.path.display());
}

fn is_compressed(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "zst")
}

/// The file must be one frame with a right checksum.
#[track_caller]
fn unpacked(path: &Path, bytes: &[u8]) -> Vec<u8> {
    let frame = zstd::zstd_safe::find_frame_compressed_size(bytes);
    assert_eq!(frame.ok(), Some(bytes.len()), "{}: not one frame", path.display());
    zstd::decode_all(bytes).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

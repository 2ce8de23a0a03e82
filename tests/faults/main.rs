//! What becomes of a capture's files when something goes wrong: the program is killed, the disk fails,
//! somebody meddles with the files, the clock jumps. It is the real program, with a stream that is made while
//! it runs.
//!
//! `docs/RELIABILITY.md` says what holds, and how to repeat each more often; with `--nocapture` the tests
//! print what they have seen.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../support"]
mod support {
    pub mod fed;
    pub mod made_stream;
    pub mod parts;
    pub mod pcapng;
    pub mod streams;
}

mod clock;
mod disk;
mod killed;
mod meddling;
mod names;

/// How often a fault is tried: by default `regular`, otherwise as the environment says.
fn times(regular: u64) -> u64 {
    std::env::var("TLSDUMP_TEST_FAULTS").map_or(regular, |times| times.parse().unwrap())
}

//! Pipes and devices as the output, and readers that are slow or go away.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support {
    pub mod draw;
    pub mod output;
}

use std::fs::{self, File};
use std::io::{ErrorKind, Read as _};
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use support::output::{block, cut, eventually, expected, fifo, give, open, refusal, replay, write};
use tempfile::TempDir;
use tlsdump::file::output::{CHUNK_BYTES, QUEUE_CHUNKS, Settings};
use tlsdump::file::sink::{Part, Sink as _};

#[test]
fn pipes_and_devices_are_written_to() {
    write(Path::new("/dev/null"), replay());

    let dir = TempDir::new().unwrap();
    let fifo = fifo(&dir);
    let reader = thread::spawn({
        let fifo = fifo.clone();
        move || fs::read(fifo).unwrap()
    });
    write(&fifo, replay());
    assert_eq!(reader.join().unwrap(), expected());

    // As a shell's >(command) gives it.
    let (mut reader, writer) = std::io::pipe().unwrap();
    write(&Path::new("/dev/fd").join(writer.as_raw_fd().to_string()), replay());
    drop(writer);
    let mut read = Vec::new();
    reader.read_to_end(&mut read).unwrap();
    assert_eq!(read, expected());
}

#[test]
fn a_stream_has_no_parts_and_is_not_compressed() {
    let null = Path::new("/dev/null");
    assert_eq!(refusal(null, cut()), "/dev/null is one stream: it has no parts");
    let compressed = Settings { compress: Some(3), ..replay() };
    assert_eq!(refusal(null, compressed), "/dev/null is a stream: compress its file");
}

#[test]
fn a_reader_that_left_is_told_as_such_even_if_nothing_is_written() {
    let dir = TempDir::new().unwrap();
    let fifo = fifo(&dir);
    let reader = thread::spawn({
        let fifo = fifo.clone();
        move || drop(File::open(fifo).unwrap())
    });
    let mut output = open(&fifo, replay());
    reader.join().unwrap();
    let begun = Instant::now();
    let error = loop {
        if let Err(error) = output.flush() {
            break error;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "nobody noticed");
        thread::sleep(Duration::from_millis(5));
    };
    assert_eq!(error.kind(), ErrorKind::BrokenPipe);
    let shown = fifo.display();
    assert_eq!(error.to_string(), format!("cannot write to {shown}: nobody reads it any more"));
}

#[test]
fn a_slow_reader_makes_nobody_wait_and_the_queue_is_bounded() {
    let (mut reader, writer) = std::io::pipe().unwrap();
    let path = Path::new("/dev/fd").join(writer.as_raw_fd().to_string());
    let mut output = open(&path, Settings::default());
    drop(writer);
    output.begin(Part { number: 1, at: 0 }).unwrap();
    let block = block(CHUNK_BYTES / 4);
    let mut taken = 0;
    let begun = Instant::now();
    while !output.is_full() {
        give(&mut output, &block).unwrap();
        taken += 1;
    }
    assert!(begun.elapsed() < Duration::from_secs(20));
    // The queue, what the thread has in hand, and what waits for room.
    let chunks = taken / 4;
    assert!((QUEUE_CHUNKS..=QUEUE_CHUNKS + 4).contains(&chunks), "{chunks} chunks");
    assert!(output.is_full());

    let reading = thread::spawn(move || {
        let mut read = Vec::new();
        reader.read_to_end(&mut read).unwrap();
        read
    });
    eventually(|| !output.is_full());
    give(&mut output, &block).unwrap();
    output.end().unwrap();
    output.close().unwrap();
    assert_eq!(reading.join().unwrap(), block.repeat(taken + 1));
}

#[test]
fn a_capture_ends_though_its_reader_takes_nothing() {
    let (reader, writer) = std::io::pipe().unwrap();
    let path = Path::new("/dev/fd").join(writer.as_raw_fd().to_string());
    let mut output = open(&path, Settings::default());
    drop(writer);
    output.begin(Part { number: 1, at: 0 }).unwrap();
    give(&mut output, &block(4 * CHUNK_BYTES)).unwrap();
    output.end().unwrap();
    let error = output.close().unwrap_err();
    assert_eq!(error.to_string(), "the reader takes nothing: what was left for it is lost");
    drop(reader);
}

#[test]
fn a_reader_that_leaves_while_the_queue_is_full_is_told_as_such() {
    let (reader, writer) = std::io::pipe().unwrap();
    let path = Path::new("/dev/fd").join(writer.as_raw_fd().to_string());
    let mut output = open(&path, Settings::default());
    drop(writer);
    output.begin(Part { number: 1, at: 0 }).unwrap();
    let block = block(CHUNK_BYTES);
    while !output.is_full() {
        give(&mut output, &block).unwrap();
    }
    drop(reader);
    eventually(|| !output.is_full());
    let begun = Instant::now();
    let error = loop {
        if let Err(error) = give(&mut output, &block) {
            break error;
        }
        output.is_full();
        assert!(begun.elapsed() < Duration::from_secs(20), "nobody noticed");
    };
    assert_eq!(error.kind(), ErrorKind::BrokenPipe, "{error}");
}

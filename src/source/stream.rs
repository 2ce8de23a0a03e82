//! Recorded streams: what the kernel side emitted, kept in a file (`--record`) and given again (`-r`).
//!
//! The format is in `docs/stream-format.md`: a header of 16 bytes (magic, version), then blocks, each of them
//! its length, the CRC-32 of its contents, and whole records as in [`crate::wire`].

use std::io::{self, ErrorKind, Read, Write};

use anyhow::{Context as _, bail, ensure};

use crate::wire::Records;

use super::{Source, State};

/// First bytes of a recorded stream. The line end and the 0x1A show damage by text conversion.
const MAGIC: [u8; 8] = *b"TLSDUMP\x1a";
/// Version of the format; a reader refuses any other.
const VERSION: u32 = 1;
/// Bytes of the header: magic, version, reserved.
const HEADER_BYTES: usize = 16;
/// Largest block: a batch of a source is cut into blocks no larger than this.
const BLOCK_BYTES_MAX: usize = 1 << 20;

/// Passes the records of a source on and writes them to a recorded stream.
#[derive(Debug)]
pub struct Tee<S, W> {
    source: S,
    out: W,
}

impl<S: Source, W: Write> Tee<S, W> {
    /// Begins the recorded stream on `out`.
    ///
    /// # Errors
    /// `out` can't be written.
    pub fn new(source: S, mut out: W) -> anyhow::Result<Self> {
        let mut header = [0; HEADER_BYTES];
        header[..8].copy_from_slice(&MAGIC);
        header[8..12].copy_from_slice(&VERSION.to_le_bytes());
        out.write_all(&header).context("cannot write the recorded stream")?;
        Ok(Self { source, out })
    }
}

impl<S: Source, W: Write> Source for Tee<S, W> {
    fn fill(&mut self, batch: &mut Vec<u8>) -> anyhow::Result<State> {
        let before = batch.len();
        let state = self.source.fill(batch);
        write_blocks(&mut self.out, &batch[before..]).context("cannot write the recorded stream")?;
        state
    }
}

/// Writes whole records as blocks, none of them cutting a record, and flushes, so that a reader sees them.
fn write_blocks(out: &mut impl Write, mut records: &[u8]) -> io::Result<()> {
    while !records.is_empty() {
        let mut len = 0;
        for record in Records::new(records) {
            if len + record.len() > BLOCK_BYTES_MAX {
                break;
            }
            len += record.len();
        }
        if len == 0 {
            return Err(io::Error::other("a source gave something that is no record"));
        }
        let (block, rest) = records.split_at(len);
        out.write_all(&(len as u32).to_le_bytes())?;
        out.write_all(&crc32fast::hash(block).to_le_bytes())?;
        out.write_all(block)?;
        records = rest;
    }
    out.flush()
}

/// A recorded stream as a source.
#[derive(Debug)]
pub struct Replay<R> {
    input: R,
    /// Bytes read so far: where an error is.
    position: u64,
}

impl<R: Read> Replay<R> {
    /// Checks the header.
    ///
    /// # Errors
    /// `input` can't be read, is not a recorded stream, or is one of another version.
    pub fn new(mut input: R) -> anyhow::Result<Self> {
        let mut header = [0; HEADER_BYTES];
        let got = read_up_to(&mut input, &mut header)?;
        ensure!(
            got == HEADER_BYTES && header[..8] == MAGIC,
            "not a stream recorded by tlsdump (make one with --record; a pcapng file is opened by tshark -r)"
        );
        let version = header[8..12].first_chunk().map_or(0, |v| u32::from_le_bytes(*v));
        ensure!(
            version == VERSION,
            "recorded in version {version} of the format, this tlsdump reads version {VERSION}"
        );
        Ok(Self { input, position: HEADER_BYTES as u64 })
    }

    /// Appends the contents of the block that begins at `at`, of `len` bytes.
    fn block(&mut self, batch: &mut Vec<u8>, len: usize, crc: u32, at: u64) -> anyhow::Result<()> {
        let begin = batch.len();
        batch.reserve(len);
        let got = (&mut self.input).take(len as u64).read_to_end(batch)?;
        self.position += got as u64;
        ensure!(got == len, "cut short at byte {}: the last block is not whole", self.position);
        let right = crc32fast::hash(&batch[begin..]) == crc;
        ensure!(right, "damaged at byte {at}: the checksum of a block is wrong");
        Ok(())
    }

    fn read(&mut self, buffer: &mut [u8]) -> anyhow::Result<usize> {
        let got = read_up_to(&mut self.input, buffer)?;
        if got != buffer.len() && got != 0 {
            bail!("cut short at byte {}: the last block is not whole", self.position + got as u64);
        }
        self.position += got as u64;
        Ok(got)
    }
}

impl<R: Read> Source for Replay<R> {
    fn fill(&mut self, batch: &mut Vec<u8>) -> anyhow::Result<State> {
        let at = self.position;
        let mut header = [0; 8];
        if self.read(&mut header)? == 0 {
            return Ok(State::End);
        }
        let [l0, l1, l2, l3, crc @ ..] = header;
        let len = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
        ensure!(len > 0 && len <= BLOCK_BYTES_MAX, "damaged at byte {at}: a block of {len} bytes");
        let begin = batch.len();
        let block = self.block(batch, len, u32::from_le_bytes(crc), at);
        if block.is_err() {
            batch.truncate(begin);
        }
        block.map(|()| State::Open)
    }
}

/// Fills `buffer` as far as the input goes.
fn read_up_to(input: &mut impl Read, buffer: &mut [u8]) -> anyhow::Result<usize> {
    let mut got = 0;
    while got < buffer.len() {
        match input.read(&mut buffer[got..]) {
            Ok(0) => break,
            Ok(n) => got += n,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(got)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Clock, Event};
    use crate::wire;

    /// Gives its batches one after another.
    struct Batches(Vec<Vec<u8>>);

    impl Source for Batches {
        fn fill(&mut self, batch: &mut Vec<u8>) -> anyhow::Result<State> {
            if self.0.is_empty() {
                return Ok(State::End);
            }
            batch.extend(self.0.remove(0));
            Ok(State::Open)
        }
    }

    fn batches() -> Vec<Vec<u8>> {
        let batch = |records: u64| {
            let mut batch = Vec::new();
            (0..records)
                .for_each(|n| wire::encode(&Event::Clock(Clock { mono: n, wall: records }), &mut batch));
            batch
        };
        vec![batch(1), batch(0), batch(3), batch(60_000)]
    }

    fn drain(source: &mut impl Source) -> (Vec<u8>, anyhow::Result<()>) {
        let mut all = Vec::new();
        loop {
            match source.fill(&mut all) {
                Ok(State::Open) => {}
                Ok(State::End) => return (all, Ok(())),
                Err(error) => return (all, Err(error)),
            }
        }
    }

    fn recorded() -> Vec<u8> {
        let mut file = Vec::new();
        let (passed, result) = drain(&mut Tee::new(Batches(batches()), &mut file).unwrap());
        result.unwrap();
        assert_eq!(passed, batches().concat());
        file
    }

    #[test]
    fn what_was_recorded_is_replayed() {
        let file = recorded();
        let (replayed, result) = drain(&mut Replay::new(file.as_slice()).unwrap());
        result.unwrap();
        assert_eq!(replayed, batches().concat());
    }

    #[test]
    fn a_shortened_file_gives_its_whole_blocks_and_an_error() {
        let file = recorded();
        let whole = batches().concat();
        for len in [17, 23, 24, 30, 47, file.len() / 2, file.len() - 1] {
            let (replayed, result) = drain(&mut Replay::new(&file[..len]).unwrap());
            assert!(whole.starts_with(&replayed));
            assert_eq!(replayed.len() % 24, 0, "only whole records");
            let error = result.unwrap_err().to_string();
            assert!(error.contains(&format!("cut short at byte {len}")), "{error}");
        }
    }

    #[test]
    fn a_damaged_block_is_not_given() {
        let mut file = recorded();
        file[16 + 8 + 10] ^= 1;
        let (replayed, result) = drain(&mut Replay::new(file.as_slice()).unwrap());
        assert!(replayed.is_empty());
        assert!(result.unwrap_err().to_string().contains("damaged at byte 16"));
        file[16..20].copy_from_slice(&u32::MAX.to_le_bytes());
        let (_, result) = drain(&mut Replay::new(file.as_slice()).unwrap());
        assert!(result.unwrap_err().to_string().contains("a block of 4294967295 bytes"));
    }

    #[test]
    fn other_files_are_refused() {
        for file in [&b""[..], b"TLSDUMP", &[0x0a, 0x0d, 0x0d, 0x0a, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]] {
            assert!(Replay::new(file).unwrap_err().to_string().contains("not a stream recorded by tlsdump"));
        }
        let mut later = recorded();
        later[8] = 2;
        assert!(Replay::new(later.as_slice()).unwrap_err().to_string().contains("version 2"));
    }
}

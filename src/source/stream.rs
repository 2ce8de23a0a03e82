//! Recorded streams: what the kernel side emitted, kept in a file (`--record`) and given again (`-r`).
//!
//! The format is in `docs/stream-format.md`: a header of 16 bytes (magic, version), then blocks, each of them
//! its length, the CRC-32 of its contents, and whole records as in [`crate::wire`].

use std::io::ErrorKind;
use std::io::Read;
use std::io::Write;

use anyhow::Context as _;
use anyhow::bail;
use anyhow::ensure;

use super::Source;
use super::State;

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

/// Writes records as blocks, none of them cutting a record, each flushed so that a reader sees it at once.
fn write_blocks(out: &mut impl Write, mut records: &[u8]) -> std::io::Result<()> {
    while !records.is_empty() {
        let mut len = 0;
        while let Some(size) = crate::wire::record_size(&records[len..]) {
            if len + size > BLOCK_BYTES_MAX || len + size > records.len() {
                break;
            }
            len += size;
        }
        debug_assert!(len > 0, "a source gives whole records");
        let (block, rest) = records.split_at(len);
        out.write_all(&(len as u32).to_le_bytes())?;
        out.write_all(&crc32fast::hash(block).to_le_bytes())?;
        out.write_all(block)?;
        if len == 0 {
            break;
        }
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
        let mut block = vec![0; len];
        if self.read(&mut block)? == 0 {
            bail!("cut short at byte {}: the last block is not whole", self.position);
        }
        ensure!(
            crc32fast::hash(&block) == u32::from_le_bytes(crc),
            "damaged at byte {at}: the checksum of a block is wrong"
        );
        batch.append(&mut block);
        Ok(State::Open)
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

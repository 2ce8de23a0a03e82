//! A part as one zstd frame (RFC 8878).
//!
//! Wireshark 4.0 takes a second frame in a file for damage, so a part is one; a flush ends a block within it,
//! and all that stands before the last flush can be read from a file that was cut off.

use std::fs::File;
use std::io::{self, Write as _};

use zstd::stream::write::Encoder;

/// Level where none was asked for: zstd's own.
pub const LEVEL_DEFAULT: i32 = zstd::DEFAULT_COMPRESSION_LEVEL;
/// Levels that can be asked for. Those above need far more memory, to write and to read.
pub const LEVELS: std::ops::RangeInclusive<i32> = 1..=19;

/// A file that is being compressed into.
pub(super) struct Compressed {
    encoder: Encoder<'static, File>,
    /// Whether something was written since the last flush.
    pending: bool,
}

impl std::fmt::Debug for Compressed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Compressed").field("pending", &self.pending).finish_non_exhaustive()
    }
}

impl Compressed {
    /// Begins the frame.
    pub(super) fn new(file: File, level: i32) -> io::Result<Self> {
        let mut encoder = Encoder::new(file, level)?;
        encoder.include_checksum(true)?;
        Ok(Self { encoder, pending: false })
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.pending |= !bytes.is_empty();
        self.encoder.write_all(bytes)
    }

    /// Ends a block, so that everything up to here can be read from the file.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        if !std::mem::take(&mut self.pending) {
            return Ok(());
        }
        self.encoder.flush()
    }

    /// Ends the frame.
    pub(super) fn finish(self) -> io::Result<File> {
        self.encoder.finish()
    }
}

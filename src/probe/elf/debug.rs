//! Symbols that were taken out of a file, and where they went: compressed into a section of it
//! (`.gnu_debugdata`, as Fedora and its kin have it), or into a file of its own, named by the build id (as
//! with Debian's `-dbgsym` packages and `objcopy --only-keep-debug`).

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use liblzma::stream::Stream;
use liblzma::write::XzDecoder;
use rustix::fs::{FileType, MemfdFlags, OFlags};

use super::{Elf, ElfError, Result};
use crate::sys;

/// Largest section of compressed symbols, and most bytes that are made of it.
const PACKED_BYTES_MAX: u64 = 32 << 20;
const UNPACKED_BYTES_MAX: u64 = 256 << 20;
/// Most memory for unpacking.
const MEMORY_BYTES_MAX: u64 = 128 << 20;
/// Largest file of symbols: Chromium's is 1.6 GB.
const FILE_BYTES_MAX: i64 = 4 << 30;
/// Where the files are.
const DIRECTORY: &str = "/usr/lib/debug/.build-id";

/// Unpacks the compressed symbols; None where there are none.
///
/// # Errors
/// When they are damaged or too large.
pub(in crate::probe) fn unpacked(elf: &mut Elf<'_>) -> Result<Option<File>> {
    let Some(section) = elf.section_named(".gnu_debugdata")? else { return Ok(None) };
    if section.range.bytes > PACKED_BYTES_MAX {
        return Err(ElfError::TooMuch("compressed symbols"));
    }
    let memory = rustix::fs::memfd_create("symbols", MemfdFlags::CLOEXEC).map_err(io::Error::from);
    let sink = Limited { file: memory.map_err(ElfError::Io)?.into(), left: UNPACKED_BYTES_MAX };
    let damaged = |_| ElfError::Malformed("compressed symbols");
    let stream =
        Stream::new_stream_decoder(MEMORY_BYTES_MAX, 0).map_err(|error| ElfError::Io(error.into()))?;
    let mut decoder = XzDecoder::new_stream(sink, stream);
    elf.file.stream(section.range, 0, &mut |_, piece, _| {
        decoder.write_all(piece).map_err(damaged)?;
        Ok(false)
    })?;
    decoder.finish().map(|sink| Some(sink.file)).map_err(damaged)
}

/// The file of symbols for a build id in the directory that is kept for them below `root`.
pub(in crate::probe) fn separate(root: &OwnedFd, build_id: &[u8]) -> Option<File> {
    let (first, rest) = build_id.split_first()?;
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let path = PathBuf::from(format!("{DIRECTORY}/{}/{}.debug", hex(&[*first]), hex(rest)));
    let name = sys::open_in_root(root, &path, OFlags::PATH).ok()?;
    let stat = rustix::fs::fstat(&name).ok()?;
    let regular = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
    if !regular || stat.st_size > FILE_BYTES_MAX {
        return None;
    }
    let file = sys::reopen(&name).ok()?;
    let mut elf = Elf::open(&file, super::BYTES_READ_MAX).ok()?;
    let same = elf.build_id().is_ok_and(|id| id == build_id);
    same.then_some(file)
}

/// A file that takes only so many bytes more.
struct Limited {
    file: File,
    left: u64,
}

impl Write for Limited {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.left = self.left.checked_sub(bytes.len() as u64).ok_or(io::ErrorKind::FileTooLarge)?;
        self.file.write_all(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

//! Reading a file in which every number may be a lie: against its size, and against a budget.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::{fmt, io};

use object::LittleEndian as Le;
use object::elf::{self, Sym64};

/// Most bytes that are read of one file, all tables together.
pub const BYTES_READ_MAX: u64 = 1 << 30;
/// Largest of the small tables that are read whole.
const TABLE_BYTES_MAX: u64 = 256 << 10;
/// Size of the pieces in which tables are streamed: a multiple of the size of a symbol.
const PIECE_BYTES: usize = 40_000 * size_of::<Sym64<Le>>();

/// Why a file can't be used.
#[derive(Debug)]
pub enum ElfError {
    /// It doesn't begin like one.
    NotElf,
    /// Not a 64-bit little-endian file.
    Class,
    /// Code of another machine: `e_machine`.
    Machine(u16),
    /// Neither a program nor a shared library: `e_type`.
    Kind(u16),
    /// A table lies beyond the end of the file, or makes no sense.
    Malformed(&'static str),
    /// More than is read of one file.
    TooMuch(&'static str),
    /// It can't be read.
    Io(io::Error),
}

impl fmt::Display for ElfError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotElf => f.write_str("not an ELF file"),
            Self::Class => f.write_str("not a 64-bit little-endian ELF file"),
            Self::Machine(number) => match machine_name(*number) {
                Some(name) => write!(f, "for another machine ({name})"),
                None => write!(f, "for another machine (ELF machine {number})"),
            },
            Self::Kind(number) => write!(f, "neither a program nor a shared library (ELF type {number})"),
            Self::Malformed(what) => write!(f, "damaged ELF file: {what}"),
            Self::TooMuch(what) => write!(f, "too large an ELF file: {what}"),
            Self::Io(error) => write!(f, "can't be read: {error}"),
        }
    }
}

impl std::error::Error for ElfError {}

pub(in crate::probe) type Result<T> = std::result::Result<T, ElfError>;

fn machine_name(number: u16) -> Option<&'static str> {
    match elf::Machine(number) {
        elf::EM_386 => Some("i386"),
        elf::EM_X86_64 => Some("x86_64"),
        elf::EM_ARM => Some("arm"),
        elf::EM_AARCH64 => Some("aarch64"),
        elf::EM_PPC64 => Some("ppc64"),
        elf::EM_S390 => Some("s390"),
        elf::EM_RISCV => Some("riscv"),
        _ => None,
    }
}

/// A stretch of the file.
#[derive(Clone, Copy, Debug)]
pub(in crate::probe) struct Range {
    pub(in crate::probe) offset: u64,
    pub(in crate::probe) bytes: u64,
}

/// What is done with a piece of a table: its position, its bytes, and how many of them were in the piece
/// before. Returns whether that was enough.
pub(super) type Each<'a> = dyn FnMut(u64, &[u8], usize) -> Result<bool> + 'a;

/// A file and what may still be read of it.
#[derive(Debug)]
pub(super) struct Bounded<'a> {
    file: &'a File,
    file_bytes: u64,
    budget: u64,
    bytes_read: u64,
}

impl<'a> Bounded<'a> {
    pub(super) fn new(file: &'a File, budget: u64) -> Result<Self> {
        let file_bytes = file.metadata().map_err(ElfError::Io)?.len();
        Ok(Self { file, file_bytes, budget: budget.min(BYTES_READ_MAX), bytes_read: 0 })
    }

    pub(super) fn file_bytes(&self) -> u64 {
        self.file_bytes
    }

    pub(super) fn bytes_read(&self) -> u64 {
        self.bytes_read
    }

    /// Reads a table that is small in any sound file.
    pub(super) fn read_table(&mut self, range: Range) -> Result<Vec<u8>> {
        if range.bytes > TABLE_BYTES_MAX {
            return Err(ElfError::TooMuch("a table of more than 256 KiB"));
        }
        self.spend(range)?;
        let size = usize::try_from(range.bytes).map_err(|_| ElfError::TooMuch("a table"))?;
        let mut bytes = vec![0; size];
        self.fill(range.offset, &mut bytes)?;
        Ok(bytes)
    }

    /// Gives the bytes of `range` to `each` in pieces. A piece starts with up to `keep` bytes of the one
    /// before.
    pub(super) fn stream(&mut self, range: Range, keep: usize, each: &mut Each<'_>) -> Result<()> {
        self.spend(range)?;
        let mut piece = Vec::with_capacity(keep + PIECE_BYTES);
        let mut done = 0_u64;
        while done < range.bytes {
            piece.drain(..piece.len().saturating_sub(keep));
            let old = piece.len();
            let left = usize::try_from(range.bytes - done).unwrap_or(PIECE_BYTES);
            piece.resize(old + left.min(PIECE_BYTES), 0);
            let fresh = piece.get_mut(old..).unwrap_or_default();
            self.fill(range.offset.saturating_add(done), fresh)?;
            if each(done - old as u64, &piece, old)? {
                break;
            }
            done += (piece.len() - old) as u64;
        }
        Ok(())
    }

    fn spend(&mut self, range: Range) -> Result<()> {
        if range.offset.checked_add(range.bytes).is_none_or(|end| end > self.file_bytes) {
            return Err(ElfError::Malformed("a table beyond the end of the file"));
        }
        let left = self.budget.checked_sub(range.bytes);
        self.budget = left.ok_or(ElfError::TooMuch("tables of more bytes than are read"))?;
        self.bytes_read += range.bytes;
        Ok(())
    }

    fn fill(&self, offset: u64, bytes: &mut [u8]) -> Result<()> {
        self.file.read_exact_at(bytes, offset).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => ElfError::Malformed("the file became shorter"),
            _ => ElfError::Io(error),
        })
    }
}

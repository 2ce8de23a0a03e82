//! What is to be probed, and what is left out.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::PathBuf;

use super::layers::FileId;
use super::random::RandomPlace;
use super::signature::Doubt;
use super::table::{Hook, Library, Purpose};

/// A library to be probed.
#[derive(Debug)]
pub struct Found {
    /// The file, open for reading. Attach to [`crate::sys::fd_path`] of it: the path may lead elsewhere by
    /// now. It is to be kept open while the [`super::Scanner`] lives, lest the inode number go to another
    /// file.
    pub file: File,
    /// The path in its container, for people.
    pub path: PathBuf,
    /// The inode.
    pub id: FileId,
    /// The first row of the table that fits.
    pub library: &'static Library,
    /// File offsets to be probed, each once for each call shape, in order.
    pub hooks: Vec<(Hook, u64)>,
    /// Names of the functions that these are in, in order; some have none.
    pub functions: Vec<&'static str>,
    /// Where its sessions have the client's random number, if that is known.
    pub random: Option<RandomPlace>,
    /// GNU build id, or empty.
    pub build_id: Vec<u8>,
    /// Kind and version as far as the file tells: `OpenSSL 3.0.19`, `OpenSSL 3`.
    pub version: String,
    /// Whether the library is part of a program.
    pub program: bool,
    /// In a file without names, the functions that were not found for certain.
    pub doubts: Vec<Doubt>,
    /// Number of the mount namespace in which it was found first; 0 for one that the user named.
    pub mntns: u32,
}

impl Found {
    /// Whether plaintext passes through it, and not only records.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.hooks.iter().any(|(hook, _)| hook.purpose() == Purpose::Plaintext)
    }

    /// Where records are written in it, if they are.
    ///
    /// # Errors
    /// No further file can be open.
    pub fn record_writer(&self) -> io::Result<Option<RecordWriter>> {
        let places = |hook| {
            let places = self.hooks.iter().filter(move |(of, _)| *of == hook);
            places.map(|(_, offset)| *offset).collect::<Vec<_>>()
        };
        let (offsets, reads) = (places(Hook::Record), places(Hook::RecordRead));
        if offsets.is_empty() {
            return Ok(None);
        }
        Ok(Some(RecordWriter { file: self.file.try_clone()?, offsets, reads }))
    }
}

/// A file by which libraries write records.
#[derive(Debug)]
pub struct RecordWriter {
    /// As [`Found::file`].
    pub file: File,
    /// File offsets to be probed for [`Hook::Record`].
    pub offsets: Vec<u64>,
    /// The same for [`Hook::RecordRead`].
    pub reads: Vec<u64>,
}

/// A file that looked like a library, or a place, and why it is left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// The path in its container.
    pub path: PathBuf,
    /// The reason.
    pub why: String,
    /// Number of its mount namespace.
    pub mntns: u32,
    /// The inode; None for a place that could not be looked at.
    pub id: Option<FileId>,
}

/// What a scan found since the last time it was asked.
#[derive(Debug, Default)]
pub struct Plan {
    /// Each inode once in the life of the [`super::Scanner`].
    pub found: Vec<Found>,
    /// Whether programs may be there that send the records of their library by themselves.
    pub sends_records: bool,
    /// For `-v`.
    pub skipped: Vec<Skipped>,
    /// How many more were skipped than are in the list.
    pub skipped_more: u64,
    /// For an inquiry: which of the processes have a file mapped, by pid in the order of the scan.
    pub users: HashMap<FileId, Vec<u32>>,
}

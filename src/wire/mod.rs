//! Record bytes ↔ events: the only place that knows the layout of `bpf/abi.h`.
//!
//! A record begins with its size (u32, the whole record), its kind (u16) and two reserved bytes. All integers
//! are little endian. Kinds below 16 are made by the kernel side and laid out as in `bpf/abi.h`; those from 16
//! on are made by user space and hold the facts that are not in the kernel's records. `docs/stream-format.md`
//! describes all of them.

mod decode;
mod encode;

use std::fmt;

pub use decode::Glance;
pub use decode::decode;
pub use decode::decode_counters;
pub use decode::decode_session;
pub use decode::glance;
pub use encode::encode;

/// Bytes of the header that begins every record.
pub const HEADER_BYTES: usize = 8;
/// Bytes of a record about a session before its own fields.
pub const CONTEXT_BYTES: usize = 128;
/// Bytes of a data record before its payload.
pub const DATA_HEADER_BYTES: usize = CONTEXT_BYTES + 16;
/// Largest record: one chunk of plaintext (`CHUNK_BYTES` of `bpf/abi.h`), or a record of names.
pub const RECORD_BYTES_MAX: usize = 64 * 1024;

/// Where the task begins in a record about a session, and in one about the end of a process.
pub(crate) const TASK_IN_CONTEXT: usize = HEADER_BYTES + 24;
pub(crate) const TASK_IN_EXIT: usize = HEADER_BYTES + 8;

const KIND_DATA: u16 = 1;
const KIND_CLOSE: u16 = 2;
const KIND_EXIT: u16 = 3;
const KIND_START: u16 = 16;
const KIND_CLOCK: u16 = 17;
const KIND_LIBRARY: u16 = 18;
const KIND_CONTAINER: u16 = 19;
const KIND_COUNTERS: u16 = 20;
const KIND_TOTALS: u16 = 21;

/// Why bytes are not a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// The record ends before its fields do, or its size is not that of its contents.
    Length,
    /// A field has a value that is not defined.
    Value(&'static str),
    /// A kind of record that this version does not know; it can be skipped.
    Kind(u16),
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length => write!(f, "record of wrong length"),
            Self::Value(field) => write!(f, "record with an undefined {field}"),
            Self::Kind(kind) => write!(f, "record of unknown kind {kind}"),
        }
    }
}

impl std::error::Error for DecodeError {}

/// The size that a record's header tells, if `bytes` holds a header and the size is possible.
#[must_use]
pub fn record_size(bytes: &[u8]) -> Option<usize> {
    let size = u32::from_le_bytes(*bytes.first_chunk::<4>()?) as usize;
    (bytes.len() >= HEADER_BYTES && (HEADER_BYTES..=RECORD_BYTES_MAX).contains(&size)).then_some(size)
}

/// Cuts a buffer of records one after another into records. Ends at the first that is not whole.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    rest: &'a [u8],
}

impl<'a> Records<'a> {
    /// Over the records in `bytes`.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// What was not cut yet.
    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (record, rest) = self.rest.split_at_checked(record_size(self.rest)?)?;
        self.rest = rest;
        Some(record)
    }
}

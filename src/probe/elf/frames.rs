//! Where functions begin and end in a file without symbols, by what unwinds their frames.
//!
//! Programs keep it when they are stripped, as exceptions and backtraces need it: `.eh_frame_hdr` has a table
//! of the beginnings of functions in order, `.eh_frame` an entry with its length for each (Linux Standard
//! Base, "Exception Frames"). Some are built without, or with entries for a part of their code only.

use object::LittleEndian as Le;
use object::elf;

use super::{Elf, Place, Range, Result};

/// Largest table: one of 2 million functions.
const TABLE_BYTES_MAX: u64 = 16 << 20;
/// `.eh_frame_hdr`: version; how the address of `.eh_frame`, the count, and the table are written: four bytes
/// each, the table's relative to the section, as all linkers have it.
const HEADER: [u8; 4] = [1, 0x1b, 0x03, 0x3b];
const HEADER_BYTES: u64 = 12;
const WORD: usize = size_of::<u32>();
/// Most entries that are read one by one, and in what pieces.
const ENTRIES_MAX: usize = 2 << 20;
const PIECE_BYTES: u64 = 256 << 10;
/// An entry of `.eh_frame` up to the length of the function: length, place of what it has in common with
/// others, address relative to its own place, length of the function.
const FRAME_BYTES: u64 = 16;

/// The beginnings of functions, and where more is told of each.
#[derive(Debug)]
pub(in crate::probe) struct Frames {
    /// Address of the function and of its entry in `.eh_frame`, in order.
    entries: Vec<(u64, u64)>,
}

impl Frames {
    /// Reads the table, or where there is none, as in static programs, the entries themselves. Empty where
    /// there are none either, or of a form that is not known.
    ///
    /// # Errors
    /// When the file can't be read.
    pub(in crate::probe) fn read(elf: &mut Elf<'_>) -> Result<Self> {
        let mut entries = table(elf)?;
        if entries.is_empty() {
            entries = listed(elf)?;
        }
        // What is not in order is not to be searched.
        Ok(Self { entries: if entries.is_sorted() { entries } else { Vec::new() } })
    }

    /// The function that has this address in it: from where to where.
    ///
    /// # Errors
    /// When the file can't be read.
    pub(in crate::probe) fn function_at(
        &self,
        elf: &mut Elf<'_>,
        address: u64,
    ) -> Result<Option<(u64, u64)>> {
        let after = self.entries.partition_point(|(begin, _)| *begin <= address);
        let Some(&(begin, entry)) = after.checked_sub(1).and_then(|last| self.entries.get(last)) else {
            return Ok(None);
        };
        let Some(bytes) = elf.read_at(entry, FRAME_BYTES)? else { return Ok(None) };
        let word = |at: usize| bytes.get(at..)?.first_chunk().map(|bytes| i32::from_le_bytes(*bytes));
        let (Some(place), Some(length)) = (word(8), word(12)) else { return Ok(None) };
        // Written otherwise than relative to its own place: of an unknown form.
        if entry.wrapping_add(8).wrapping_add_signed(place.into()) != begin {
            return Ok(None);
        }
        let end = begin.saturating_add(u64::from(length.cast_unsigned()));
        Ok((begin..end).contains(&address).then_some((begin, end)))
    }
}

/// The table of `.eh_frame_hdr`.
fn table(elf: &mut Elf<'_>) -> Result<Vec<(u64, u64)>> {
    let mut entries = Vec::new();
    let segment = elf.segments.iter().find(|segment| segment.p_type.get(Le) == elf::PT_GNU_EH_FRAME);
    let Some(segment) = segment else { return Ok(entries) };
    let base = segment.p_vaddr.get(Le);
    let Range { offset, bytes } = Range { offset: segment.p_offset.get(Le), bytes: segment.p_filesz.get(Le) };
    if !(HEADER_BYTES..=TABLE_BYTES_MAX).contains(&bytes)
        || !elf.file.read_table(Range { offset, bytes: HEADER_BYTES })?.starts_with(&HEADER)
    {
        return Ok(entries);
    }
    let table = Range { offset: offset.saturating_add(HEADER_BYTES), bytes: bytes - HEADER_BYTES };
    elf.file.stream(table, 0, &mut |_, piece, _| {
        let (words, _) = piece.as_chunks::<WORD>();
        let (pairs, _) = words.as_chunks::<2>();
        let address = |word| base.wrapping_add_signed(i64::from(i32::from_le_bytes(word)));
        entries.extend(pairs.iter().map(|[begin, entry]| (address(*begin), address(*entry))));
        Ok(false)
    })?;
    Ok(entries)
}

/// The entries of `.eh_frame`, in order.
fn listed(elf: &mut Elf<'_>) -> Result<Vec<(u64, u64)>> {
    let mut entries = Vec::new();
    let Some(Place { address, range }) = elf.section_named(".eh_frame")? else { return Ok(entries) };
    let mut done = 0;
    while done < range.bytes && entries.len() < ENTRIES_MAX {
        let bytes = (range.bytes - done).min(PIECE_BYTES);
        let piece = elf.file.read_table(Range { offset: range.offset.saturating_add(done), bytes })?;
        let mut at = 0;
        while let Some(([length, kind, begin], rest)) = piece.get(at..).and_then(first_words) {
            let next = at + WORD + length as usize;
            // The end, or an entry that is longer than any.
            if length == 0 || rest < length as usize {
                break;
            }
            let place = address.wrapping_add(done + (at + 2 * WORD) as u64);
            // What entries have in common has no kind.
            if kind != 0 {
                let begin = place.wrapping_add_signed(i64::from(begin.cast_signed()));
                entries.push((begin, place.wrapping_sub(2 * WORD as u64)));
            }
            at = next;
        }
        if at == 0 {
            break;
        }
        done += at as u64;
    }
    entries.sort_unstable();
    Ok(entries)
}

/// The first words, and how many bytes follow the first of them.
fn first_words(bytes: &[u8]) -> Option<([u32; 3], usize)> {
    let (words, _) = bytes.first_chunk::<{ 3 * WORD }>()?.as_chunks::<WORD>();
    let [length, kind, begin] = words else { return None };
    Some(([length, kind, begin].map(|word| u32::from_le_bytes(*word)), bytes.len() - WORD))
}

//! Functions by name from the table that Go's runtime has of them (`runtime.pclntab`), in all its formats: of
//! Go 1.2, 1.16, 1.18 and 1.20, each told by its first word (`internal/abi.PCLnTabMagic`, `debug/gosym`).

use std::collections::HashMap;

use super::{CODE_BYTES_MAX, FUNCTIONS, GoError, code, names};
use crate::probe::elf::{Elf, ElfError, Place, Range};

const SECTIONS: [&str; 2] = [".gopclntab", ".data.rel.ro.gopclntab"];
/// Where a C linker may have put the table, without a section of its own.
const MERGED: &str = ".data.rel.ro";

/// Most functions in a table.
const FUNCTIONS_MAX: u64 = 4 << 20;
/// So many entries are looked at in one step.
const STEP: u64 = 256;
/// The words of a header, after its first eight bytes.
const HEADER_WORDS: usize = 8;
/// Which word of `runtime.moduledata` is the address of the code, since a pointer to the table came first.
const MODULE_TEXT_AT: u64 = 22 * 8;

/// A format of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Go12,
    Go116,
    Go118,
}

/// A table, its header read.
#[derive(Debug)]
struct Table {
    place: Place,
    format: Format,
    words: [u64; HEADER_WORDS],
}

/// A function in the table: from where to where, counted from the beginning of all code where the format says
/// so.
#[derive(Clone, Copy, Debug)]
struct Entry {
    function: usize,
    begin: u64,
    end: u64,
}

/// Whether the file has such a table in a section of its own.
pub(super) fn has_table(elf: &mut Elf<'_>) -> Result<bool, ElfError> {
    for name in SECTIONS {
        if elf.section_named(name)?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The wanted functions that the program has: indices in [`FUNCTIONS`], and where in the file each is.
pub(super) fn find(elf: &mut Elf<'_>) -> Result<Vec<(usize, Range)>, GoError> {
    let Some(table) = Table::open(elf)? else { return Ok(Vec::new()) };
    let entries = table.entries(elf)?;
    if entries.is_empty() {
        return Ok(Vec::new());
    }
    for base in table.code_addresses(elf)? {
        let ranges: Vec<_> = entries.iter().filter_map(|entry| entry.range(elf, base)).collect();
        if ranges.len() == entries.len() && are_functions(elf, &ranges)? {
            return Ok(ranges);
        }
    }
    Err(GoError::Table("does not tell where the code is"))
}

/// Whether code of Go begins at each of these places.
fn are_functions(elf: &mut Elf<'_>, ranges: &[(usize, Range)]) -> Result<bool, ElfError> {
    for (_, range) in ranges {
        if !code::begins_function(&elf.read(*range)?) {
            return Ok(false);
        }
    }
    Ok(true)
}

impl Table {
    /// None: the file has no table that is known.
    fn open(elf: &mut Elf<'_>) -> Result<Option<Self>, GoError> {
        for name in SECTIONS {
            if let Some(place) = elf.section_named(name)? {
                return Self::read(elf, place)?.ok_or(GoError::Table("has an unknown format")).map(Some);
            }
        }
        let Some(merged) = elf.section_named(MERGED)? else { return Ok(None) };
        for magic in [Format::Go12, Format::Go116, Format::Go118].map(Format::magics).concat() {
            if let Some(place) = elf.find(merged, first_bytes(magic))? {
                return Ok(Self::read(elf, place)?);
            }
        }
        Ok(None)
    }

    fn read(elf: &mut Elf<'_>, place: Place) -> Result<Option<Self>, ElfError> {
        let header_bytes = (8 + 8 * HEADER_WORDS) as u64;
        let head = elf.read(Range { bytes: header_bytes.min(place.range.bytes), ..place.range })?;
        let format = [Format::Go12, Format::Go116, Format::Go118]
            .into_iter()
            .find(|format| format.magics().iter().any(|magic| head.starts_with(&first_bytes(*magic))));
        let Some(format) = format else { return Ok(None) };
        let mut words = [0; HEADER_WORDS];
        for (word, bytes) in words.iter_mut().zip(head.get(8..).unwrap_or_default().chunks_exact(8)) {
            *word = bytes.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        }
        Ok(Some(Self { place, format, words }))
    }

    /// A part of the table, from an offset in it on.
    fn part(&self, offset: u64, bytes: Option<u64>) -> Result<Range, GoError> {
        let left = self.place.range.bytes.checked_sub(offset);
        let left = left.ok_or(GoError::Table("refers to places beyond its end"))?;
        let bytes = bytes.unwrap_or(left);
        if bytes > left {
            return Err(GoError::Table("refers to places beyond its end"));
        }
        Ok(Range { offset: self.place.range.offset + offset, bytes })
    }

    /// Where names are: the whole table, or the part before that of the compilation units.
    fn names(&self) -> Result<Range, GoError> {
        let [_, _, third, fourth, fifth, ..] = self.words;
        let (begin, end) = match self.format {
            Format::Go12 => return self.part(0, None),
            Format::Go116 => (third, fourth),
            Format::Go118 => (fourth, fifth),
        };
        self.part(begin, Some(end.saturating_sub(begin)))
    }

    /// The offset of the list of functions, and the one that the places in it count from.
    fn list(&self) -> (u64, u64) {
        match self.format {
            Format::Go12 => (16, 0),
            Format::Go116 => (self.words[6], self.words[6]),
            Format::Go118 => (self.words[7], self.words[7]),
        }
    }

    /// Goes through the list, for functions that bear one of the names.
    fn entries(&self, elf: &mut Elf<'_>) -> Result<Vec<Entry>, GoError> {
        let wanted: Vec<_> = names().collect();
        let places = elf.places_of(&wanted, self.names()?)?;
        let count = self.words[0];
        if count > FUNCTIONS_MAX {
            return Err(GoError::Table("is too long"));
        }
        let mut found = Vec::new();
        let mut from = 0;
        while !places.is_empty() && from < count && found.len() < FUNCTIONS.len() {
            self.step(elf, from, STEP.min(count - from), &places, &mut found)?;
            from += STEP;
        }
        Ok(found)
    }

    fn step(
        &self,
        elf: &mut Elf<'_>,
        from: u64,
        count: u64,
        places: &HashMap<u32, usize>,
        found: &mut Vec<Entry>,
    ) -> Result<(), GoError> {
        let (list, base) = self.list();
        let field = self.format.field_bytes();
        // Each entry is an address and a place; the address of the next one is the end.
        let offset = list.saturating_add(from * 2 * field);
        let bytes = elf.read(self.part(offset, Some((2 * count + 1) * field))?)?;
        let fields: Vec<_> = bytes.chunks_exact(field as usize).map(little_endian).collect();
        let (Some(&first), Some(&last)) = (fields.get(1), fields.iter().rev().nth(1)) else { return Ok(()) };
        let (name_at, struct_bytes) = self.format.name_at();
        let span = last.checked_sub(first).and_then(|span| span.checked_add(struct_bytes));
        let span = span.ok_or(GoError::Table("is not in order"))?;
        let structs = elf.read(self.part(base.saturating_add(first), Some(span))?)?;
        for entry in fields.windows(3).step_by(2) {
            let [begin, place, end] = entry else { continue };
            let name = place.checked_sub(first).and_then(|at| usize::try_from(at).ok());
            let name = name.and_then(|at| structs.get(at..)?.get(name_at..)?.first_chunk());
            let name = name.map(|bytes| u32::from_le_bytes(*bytes));
            if let Some(&function) = name.and_then(|name| places.get(&name)) {
                found.push(Entry { function, begin: *begin, end: *end });
            }
        }
        Ok(())
    }

    /// What the addresses may count from. It was in the table's header at first, and is in the module's data
    /// since; in programs that can be moved, a relocation has it. A C linker puts code of its own before that
    /// of Go, so the beginning of the section is only the last resort.
    fn code_addresses(&self, elf: &mut Elf<'_>) -> Result<Vec<u64>, ElfError> {
        if self.format != Format::Go118 {
            return Ok(vec![0]);
        }
        let mut addresses = vec![self.words[2]];
        addresses.extend(elf.relocation(self.place.address.wrapping_add(8 + 2 * 8))?);
        if let Some(module) = elf.section_named(".go.module")? {
            let at = module.address.wrapping_add(MODULE_TEXT_AT);
            addresses.extend(elf.read_at(at, 8)?.map(|bytes| little_endian(&bytes)));
            addresses.extend(elf.relocation(at)?);
        }
        addresses.extend(elf.section_named(".text")?.map(|text| text.address));
        addresses.retain(|&address| address != 0);
        Ok(addresses)
    }
}

impl Entry {
    fn range(&self, elf: &Elf<'_>, base: u64) -> Option<(usize, Range)> {
        let bytes = self.end.checked_sub(self.begin).filter(|bytes| (1..=CODE_BYTES_MAX).contains(bytes))?;
        let offset = elf.code_offset(base.checked_add(self.begin)?)?;
        Some((self.function, Range { offset, bytes }))
    }
}

impl Format {
    /// The first words by which it is told.
    fn magics(self) -> Vec<u32> {
        match self {
            Self::Go12 => vec![0xffff_fffb],
            Self::Go116 => vec![0xffff_fffa],
            // The newer one differs in names that the compiler makes up.
            Self::Go118 => vec![0xffff_fff0, 0xffff_fff1],
        }
    }

    /// Bytes of an address in the list.
    fn field_bytes(self) -> u64 {
        if self == Self::Go118 { 4 } else { 8 }
    }

    /// Where in what the list refers to the place of the name is, behind the address, and how many bytes that
    /// makes.
    fn name_at(self) -> (usize, u64) {
        if self == Self::Go118 { (4, 8) } else { (8, 12) }
    }
}

/// The magic, two zeros, the size of the smallest instruction, and that of an address.
fn first_bytes(magic: u32) -> [u8; 8] {
    let [a, b, c, d] = magic.to_le_bytes();
    [a, b, c, d, 0, 0, code::INSTRUCTION_BYTES, 8]
}

fn little_endian(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

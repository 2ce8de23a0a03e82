//! What is at a place of an ELF file: a section by its name, bytes and words by offset or address.

use object::LittleEndian as Le;
use object::elf::{self, ProgramHeader64, Rela64};
use object::pod;

use super::{Elf, Range, Result, range_of};

#[cfg(target_arch = "x86_64")]
pub(super) const RELATIVE: elf::RelocationType = elf::R_X86_64_RELATIVE;
#[cfg(target_arch = "aarch64")]
pub(super) const RELATIVE: elf::RelocationType = elf::R_AARCH64_RELATIVE;

/// A section that has its contents in the file.
#[derive(Clone, Copy, Debug)]
pub(in crate::probe) struct Place {
    /// Where it is in memory, before the program is moved.
    pub(in crate::probe) address: u64,
    pub(in crate::probe) range: Range,
}

impl Elf<'_> {
    /// The section with that name, if it is one of the program's own.
    pub(in crate::probe) fn section_named(&mut self, name: &str) -> Result<Option<Place>> {
        let Some(names) = self.names else { return Ok(None) };
        let names = self.file.read_table(names)?;
        let named = self.sections.iter().find(|section| {
            let text = names.get(section.sh_name.get(Le) as usize..).unwrap_or_default();
            text.strip_prefix(name.as_bytes()).is_some_and(|rest| rest.first() == Some(&0))
        });
        let own = named.filter(|section| section.sh_type.get(Le) == elf::SHT_PROGBITS);
        Ok(own.map(|section| Place { address: section.sh_addr.get(Le), range: range_of(section) }))
    }

    /// Gives the constants of the file to `each` in pieces, each of which begins with the last `keep` bytes
    /// of the one before, until that returns true. Where no section is told to be theirs, all that is loaded
    /// and not to be written to.
    pub(in crate::probe) fn constants(
        &mut self,
        keep: usize,
        each: &mut dyn FnMut(&[u8]) -> bool,
    ) -> Result<()> {
        self.constants_at(keep, &mut |_, piece| each(piece))
    }

    /// The same with the address of each piece.
    pub(in crate::probe) fn constants_at(
        &mut self,
        keep: usize,
        each: &mut dyn FnMut(u64, &[u8]) -> bool,
    ) -> Result<()> {
        let places = match self.section_named(".rodata")? {
            Some(place) => vec![place],
            None => self.segments.iter().filter(|segment| is_constant(segment)).map(place_of).collect(),
        };
        self.stream_at(&places, keep, each)
    }

    /// Gives all code, and what is loaded with it, to `each` as [`Self::constants_at`] does.
    pub(in crate::probe) fn code(
        &mut self,
        keep: usize,
        each: &mut dyn FnMut(u64, &[u8]) -> bool,
    ) -> Result<()> {
        let places: Vec<_> = self.segments.iter().filter(|segment| is_code(segment)).map(place_of).collect();
        self.stream_at(&places, keep, each)
    }

    fn stream_at(
        &mut self,
        places: &[Place],
        keep: usize,
        each: &mut dyn FnMut(u64, &[u8]) -> bool,
    ) -> Result<()> {
        let mut enough = false;
        for place in places {
            self.file.stream(place.range, keep, &mut |base, piece, _| {
                enough = each(place.address.wrapping_add(base), piece);
                Ok(enough)
            })?;
            if enough {
                break;
            }
        }
        Ok(())
    }

    /// Whether an offset in the file is within a segment of code.
    pub(in crate::probe) fn is_code(&self, offset: u64) -> bool {
        let mut ranges = self.segments.iter().filter(|s| is_code(s)).map(|s| place_of(s).range);
        ranges.any(|range| offset.checked_sub(range.offset).is_some_and(|within| within < range.bytes))
    }

    /// Some bytes of the file, no more than of a small table.
    pub(in crate::probe) fn read(&mut self, range: Range) -> Result<Vec<u8>> {
        self.file.read_table(range)
    }

    /// Up to `bytes` bytes from an address on, fewer at the end of the file; None where nothing is loaded.
    pub(in crate::probe) fn read_at(&mut self, address: u64, bytes: u64) -> Result<Option<Vec<u8>>> {
        let Some(offset) = self.loaded_offset(address, false) else { return Ok(None) };
        let bytes = bytes.min(self.file.file_bytes() - offset);
        self.file.read_table(Range { offset, bytes }).map(Some)
    }

    /// The word that the loader puts to an address when it moves the program to address 0. Where there is
    /// none, the one in the file is valid.
    pub(in crate::probe) fn relocation(&mut self, address: u64) -> Result<Option<u64>> {
        let tables = self.sections.iter().filter(|section| section.sh_type.get(Le) == elf::SHT_RELA);
        let mut found = None;
        for table in tables.map(range_of).collect::<Vec<_>>() {
            self.file.stream(table, 0, &mut |_, piece, _| {
                let mut rest = piece;
                while let Ok((entry, tail)) = pod::from_bytes::<Rela64<Le>>(rest) {
                    rest = tail;
                    if entry.r_offset.get(Le) == address && entry.r_type(Le, false) == RELATIVE {
                        found = Some(entry.r_addend.get(Le).cast_unsigned());
                        return Ok(true);
                    }
                }
                Ok(false)
            })?;
        }
        Ok(found)
    }

    /// Where `bytes` first are within a section, at a multiple of eight.
    pub(in crate::probe) fn find(&mut self, place: Place, bytes: [u8; 8]) -> Result<Option<Place>> {
        let mut found = None;
        self.file.stream(place.range, 0, &mut |base, piece, _| {
            let at = piece.chunks_exact(8).position(|word| word == bytes);
            found = at.map(|words| base + 8 * words as u64);
            Ok(found.is_some())
        })?;
        Ok(found.map(|skipped| Place {
            address: place.address.wrapping_add(skipped),
            range: Range { offset: place.range.offset + skipped, bytes: place.range.bytes - skipped },
        }))
    }
}

fn is_constant(segment: &ProgramHeader64<Le>) -> bool {
    segment.p_type.get(Le) == elf::PT_LOAD && segment.p_flags.get(Le).0 & elf::PF_W.0 == 0
}

fn is_code(segment: &ProgramHeader64<Le>) -> bool {
    segment.p_type.get(Le) == elf::PT_LOAD && segment.p_flags.get(Le).0 & elf::PF_X.0 != 0
}

fn place_of(segment: &ProgramHeader64<Le>) -> Place {
    let range = Range { offset: segment.p_offset.get(Le), bytes: segment.p_filesz.get(Le) };
    Place { address: segment.p_vaddr.get(Le), range }
}

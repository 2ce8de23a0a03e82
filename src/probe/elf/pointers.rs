//! Constant tables of pointers, as they are once the file is loaded.

use object::LittleEndian as Le;
use object::elf::{self, Rela64};
use object::pod;

use super::bounded::Result;
use super::places::RELATIVE;
use super::{Elf, ElfError};

const WORD: usize = size_of::<u64>();

impl Elf<'_> {
    /// The words of the section `.data.rel.ro`, in which constants are that hold addresses. An address within
    /// the file itself is as the file counts them, be it in the section (RELR relocations) or in a table of
    /// its own (RELA); an address in another file is 0 or what the linker left there.
    ///
    /// # Errors
    /// When the section is larger than a small table, or damaged.
    pub fn constant_pointers(&mut self) -> Result<Vec<u64>> {
        let Some(section) = self.section_named(".data.rel.ro")? else { return Ok(Vec::new()) };
        let bytes = self.file.read_table(section.range)?;
        let (words, _) = bytes.as_chunks::<WORD>();
        let mut words: Vec<_> = words.iter().map(|word| u64::from_le_bytes(*word)).collect();
        let Some(relocations) = self.section(elf::SHT_RELA).copied() else { return Ok(words) };
        if relocations.sh_entsize.get(Le) != size_of::<Rela64<Le>>() as u64 {
            return Err(ElfError::Malformed("relocations of another size"));
        }
        self.file.stream(super::range_of(&relocations), 0, &mut |_, piece, _| {
            let mut rest = piece;
            while let Ok((entry, tail)) = pod::from_bytes::<Rela64<Le>>(rest) {
                rest = tail;
                if entry.r_type(Le, false) != RELATIVE {
                    continue;
                }
                let Some(place) = entry.r_offset.get(Le).checked_sub(section.address) else { continue };
                let index = usize::try_from(place).unwrap_or(usize::MAX) / WORD;
                if let Some(word) = words.get_mut(index) {
                    *word = entry.r_addend.get(Le).cast_unsigned();
                }
            }
            Ok(false)
        })?;
        Ok(words)
    }
}

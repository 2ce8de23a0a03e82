//! Reading what is needed from an ELF file that nobody vouches for: functions by name as file offsets, build
//! id, soname, symbol versions.
//!
//! Nothing is mapped (the file may be cut short under us) and nothing is read whole that could be large:
//! tables are streamed in pieces, against a budget of bytes for the whole file. Formats are those of the
//! System V ABI and of the GNU extensions in the Linux Standard Base; the structs come from `object`.

use std::collections::HashMap;
use std::ffi::CStr;
use std::fs::File;

use object::LittleEndian as Le;
use object::elf::{self, Dyn64, FileHeader64, NoteHeader64, ProgramHeader64, SectionHeader64, Sym64};
use object::elf::{Verdaux, Verdef};
use object::pod::{self, Pod};

mod bounded;
pub(super) mod debug;
mod frames;
mod places;
mod pointers;
mod rust;

use bounded::Bounded;
pub use bounded::{BYTES_READ_MAX, ElfError};
pub(super) use bounded::{Range, Result};
pub(super) use frames::Frames;
pub(super) use places::Place;

/// Longest function name that can be looked for.
pub const NAME_BYTES_MAX: usize = 64;
/// Most segments, and most sections, of a file.
const HEADERS_MAX: u16 = 4096;
/// Most places in string tables, and most symbols, that bear one of the wanted names.
const HITS_MAX: usize = 1024;
/// Longest soname and symbol version name.
const STRING_BYTES_MAX: u64 = 256;
/// Most symbol versions that are looked at.
const VERSIONS_MAX: usize = 256;
/// Longest build id.
const BUILD_ID_BYTES_MAX: usize = 64;
/// Longest version number in a text.
const NUMBER_BYTES_MAX: usize = 32;

#[cfg(target_arch = "x86_64")]
const MACHINE: elf::Machine = elf::EM_X86_64;
#[cfg(target_arch = "aarch64")]
const MACHINE: elf::Machine = elf::EM_AARCH64;

/// A function: which of the wanted names, and where its first instruction is in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Function {
    /// Index in the names that were asked for.
    pub name: usize,
    /// File offset, as uprobes take it.
    pub offset: u64,
    /// Its length as the symbol tells it; 0 where it doesn't.
    pub bytes: u64,
}

/// An ELF file for this machine, headers read.
#[derive(Debug)]
pub struct Elf<'a> {
    file: Bounded<'a>,
    kind: elf::FileType,
    segments: Vec<ProgramHeader64<Le>>,
    sections: Vec<SectionHeader64<Le>>,
    names: Option<Range>,
}

impl<'a> Elf<'a> {
    /// Reads the headers. No more than `budget` bytes will be read of the file, and at most
    /// [`BYTES_READ_MAX`].
    ///
    /// # Errors
    /// When it is no ELF program or library for this machine, or its headers are damaged.
    pub fn open(file: &'a File, budget: u64) -> Result<Self> {
        let mut elf = Elf {
            file: Bounded::new(file, budget)?,
            kind: elf::ET_NONE,
            segments: Vec::new(),
            sections: Vec::new(),
            names: None,
        };
        let header_bytes = size_of::<FileHeader64<Le>>() as u64;
        if elf.file.file_bytes() < header_bytes {
            return Err(ElfError::NotElf);
        }
        let bytes = elf.file.read_table(Range { offset: 0, bytes: header_bytes })?;
        let header: FileHeader64<Le> = first(&bytes)?;
        check_header(&header)?;
        elf.kind = header.e_type.get(Le);
        elf.segments =
            elf.headers(header.e_phoff.get(Le), header.e_phnum.get(Le), header.e_phentsize.get(Le))?;
        elf.sections =
            elf.headers(header.e_shoff.get(Le), header.e_shnum.get(Le), header.e_shentsize.get(Le))?;
        elf.names = elf.sections.get(usize::from(header.e_shstrndx.get(Le).0)).map(range_of);
        Ok(elf)
    }

    /// The functions with these names that the file defines, from its dynamic and its full symbol table, each
    /// place once, in order of name and offset. One name can have several places (symbol versions, copies of
    /// a static library). Indirect functions are left out: their address is that of a resolver.
    ///
    /// # Errors
    /// When a table is damaged or too large.
    pub fn functions(&mut self, names: &[&str]) -> Result<Vec<Function>> {
        let symbols = self.symbols(names)?;
        Ok(self.in_code(&symbols))
    }

    /// Those symbols that are in a segment of code, each place once, in order.
    fn in_code(&self, symbols: &[(usize, u64, u64)]) -> Vec<Function> {
        let function = |&(name, address, bytes): &(usize, u64, u64)| {
            self.code_offset(address).map(|offset| Function { name, offset, bytes })
        };
        let mut found: Vec<_> = symbols.iter().filter_map(function).collect();
        found.sort_unstable();
        found.dedup();
        found
    }

    /// The same by address: index of the name, address, length. A file that has only symbols has no code to
    /// give a place in.
    pub(super) fn symbols(&mut self, names: &[&str]) -> Result<Vec<(usize, u64, u64)>> {
        let mut found = Vec::new();
        for kind in [elf::SHT_DYNSYM, elf::SHT_SYMTAB] {
            let Some(table) = self.section(kind).copied() else { continue };
            if table.sh_entsize.get(Le) != size_of::<Sym64<Le>>() as u64 {
                return Err(ElfError::Malformed("symbols of another size"));
            }
            let Some(strings) = self.linked(&table) else { continue };
            let places = self.places_of(names, strings)?;
            if !places.is_empty() {
                self.defined_at(&places, range_of(&table), &mut found)?;
            }
        }
        Ok(found)
    }

    /// The GNU build id, empty where there is none.
    ///
    /// # Errors
    /// When the file can't be read.
    pub fn build_id(&mut self) -> Result<Vec<u8>> {
        let notes: Vec<_> =
            self.segments.iter().filter(|s| s.p_type.get(Le) == elf::PT_NOTE).copied().collect();
        for note in notes {
            let range = Range { offset: note.p_offset.get(Le), bytes: note.p_filesz.get(Le) };
            if let Some(id) = build_id_in(&self.file.read_table(range)?) {
                return Ok(id);
            }
        }
        Ok(Vec::new())
    }

    /// The name by which programs ask for the library (`DT_SONAME`).
    ///
    /// # Errors
    /// When the file can't be read.
    pub fn soname(&mut self) -> Result<Option<String>> {
        let Some(at) = self.dynamic(elf::DT_SONAME)? else { return Ok(None) };
        let table = self.section(elf::SHT_DYNAMIC).copied();
        let strings = table.and_then(|table| self.linked(&table));
        strings.map_or(Ok(None), |strings| self.string(strings, at))
    }

    /// A value of what is there for the dynamic linker.
    fn dynamic(&mut self, tag: elf::DynamicTag) -> Result<Option<u64>> {
        let Some(table) = self.section(elf::SHT_DYNAMIC).copied() else { return Ok(None) };
        let bytes = self.file.read_table(range_of(&table))?;
        let mut rest = bytes.as_slice();
        while let Ok((entry, tail)) = pod::from_bytes::<Dyn64<Le>>(rest) {
            match entry.d_tag.get(Le) {
                elf::DT_NULL => break,
                found if found == tag => return Ok(Some(entry.d_val.get(Le))),
                _ => rest = tail,
            }
        }
        Ok(None)
    }

    /// Whether it is a program rather than a library: not position independent, said to be a position
    /// independent program, or with an interpreter and no soname (the C library too has an interpreter).
    ///
    /// # Errors
    /// When the file can't be read.
    pub fn is_program(&mut self) -> Result<bool> {
        if self.kind == elf::ET_EXEC {
            return Ok(true);
        }
        if self.dynamic(elf::DT_FLAGS_1)?.is_some_and(|flags| flags & elf::DF_1_PIE.0 != 0) {
            return Ok(true);
        }
        let interpreted = self.segments.iter().any(|s| s.p_type.get(Le) == elf::PT_INTERP);
        Ok(interpreted && self.soname()?.is_none())
    }

    /// Whether the loader may put it to any address.
    #[must_use]
    pub fn is_moved(&self) -> bool {
        self.kind != elf::ET_EXEC
    }

    /// Names of the symbol versions that the file defines (`OPENSSL_3.0.0`).
    ///
    /// # Errors
    /// When the file can't be read.
    pub fn defined_versions(&mut self) -> Result<Vec<String>> {
        let Some(table) = self.section(elf::SHT_GNU_VERDEF).copied() else { return Ok(Vec::new()) };
        let Some(strings) = self.linked(&table) else { return Ok(Vec::new()) };
        let bytes = self.file.read_table(range_of(&table))?;
        let mut versions = Vec::new();
        let mut at = 0_usize;
        while versions.len() < VERSIONS_MAX {
            let Some(rest) = bytes.get(at..) else { break };
            let Ok((definition, _)) = pod::from_bytes::<Verdef<Le>>(rest) else { break };
            let name = rest.get(definition.vd_aux.get(Le) as usize..);
            if let Some(Ok((aux, _))) = name.map(pod::from_bytes::<Verdaux<Le>>) {
                versions.extend(self.string(strings, aux.vda_name.get(Le).into())?);
            }
            match definition.vd_next.get(Le) as usize {
                0 => break,
                next => at = at.saturating_add(next),
            }
        }
        Ok(versions)
    }

    /// The first constant text `PREFIX` + version number, such as `OpenSSL 3.0.19` of the text
    /// `OpenSSL 3.0.19 27 Jan 2026`.
    ///
    /// # Errors
    /// When the file can't be read, or its constants are too large.
    pub fn version_text(&mut self, prefixes: &[&str]) -> Result<Option<String>> {
        // Constants can be most of a file, and many libraries have no such text.
        let constants = if prefixes.is_empty() { None } else { self.section_named(".rodata")? };
        let Some(constants) = constants.map(|place| place.range) else { return Ok(None) };
        let longest = prefixes.iter().map(|p| p.len()).max().unwrap_or(0) + NUMBER_BYTES_MAX + 2;
        let mut found = None;
        self.file.stream(constants, longest, &mut |_, piece, _| {
            found = prefixes.iter().find_map(|prefix| version_in(piece, prefix));
            Ok(found.is_some())
        })?;
        Ok(found)
    }

    /// Bytes that have been read so far.
    #[must_use]
    pub fn bytes_read(&self) -> u64 {
        self.file.bytes_read()
    }

    fn headers<T: Pod>(&mut self, offset: u64, count: u16, entry_bytes: u16) -> Result<Vec<T>> {
        if count == 0 || offset == 0 {
            return Ok(Vec::new());
        }
        if usize::from(entry_bytes) != size_of::<T>() {
            return Err(ElfError::Malformed("headers of another size"));
        }
        if count > HEADERS_MAX {
            return Err(ElfError::TooMuch("more than 4096 headers"));
        }
        let bytes =
            self.file.read_table(Range { offset, bytes: u64::from(count) * u64::from(entry_bytes) })?;
        let all = pod::slice_from_all_bytes(&bytes).map_err(|()| ElfError::Malformed("headers"))?;
        Ok(all.to_vec())
    }

    fn section(&self, kind: elf::SectionType) -> Option<&SectionHeader64<Le>> {
        self.sections.iter().find(|section| section.sh_type.get(Le) == kind)
    }

    /// The string table that goes with `table`.
    fn linked(&self, table: &SectionHeader64<Le>) -> Option<Range> {
        let strings = self.sections.get(table.sh_link.get(Le) as usize)?;
        (strings.sh_type.get(Le) == elf::SHT_STRTAB).then(|| range_of(strings))
    }

    /// Where in a string table each wanted name is. A name may be the tail of a longer one, as linkers let
    /// them share their ends.
    pub(super) fn places_of(&mut self, names: &[&str], strings: Range) -> Result<HashMap<u32, usize>> {
        let mut places = HashMap::new();
        self.file.stream(strings, NAME_BYTES_MAX, &mut |base, piece, old| {
            for end in nuls(piece, old) {
                let text = piece.get(..end).unwrap_or_default();
                let ending = names.iter().enumerate().filter(|(_, name)| text.ends_with(name.as_bytes()));
                for (index, name) in ending {
                    let place = base.saturating_add((end - name.len()) as u64);
                    // A symbol refers to its name by 32 bits.
                    places.extend(u32::try_from(place).ok().map(|place| (place, index)));
                }
                if places.len() > HITS_MAX {
                    return Err(ElfError::TooMuch("one function name again and again"));
                }
            }
            Ok(false)
        })?;
        Ok(places)
    }

    /// Adds the functions of a symbol table that have their name at one of `places`.
    fn defined_at(
        &mut self,
        places: &HashMap<u32, usize>,
        table: Range,
        found: &mut Vec<(usize, u64, u64)>,
    ) -> Result<()> {
        self.file.stream(table, 0, &mut |_, piece, _| {
            let mut rest = piece;
            while let Ok((symbol, tail)) = pod::from_bytes::<Sym64<Le>>(rest) {
                rest = tail;
                let Some(&name) = places.get(&symbol.st_name.get(Le)) else { continue };
                if symbol.st_type() == elf::STT_FUNC && symbol.st_shndx.get(Le) != elf::SHN_UNDEF {
                    found.push((name, symbol.st_value.get(Le), symbol.st_size.get(Le)));
                }
                if found.len() > HITS_MAX {
                    return Err(ElfError::TooMuch("one function again and again"));
                }
            }
            Ok(false)
        })?;
        Ok(())
    }

    /// The file offset of an address within a segment of code.
    pub(super) fn code_offset(&self, address: u64) -> Option<u64> {
        self.loaded_offset(address, true)
    }

    /// The file offset of an address within a segment, of code or of any kind.
    fn loaded_offset(&self, address: u64, code: bool) -> Option<u64> {
        self.segments.iter().find_map(|segment| {
            let executable = segment.p_flags.get(Le).0 & elf::PF_X.0 != 0;
            let within = address.checked_sub(segment.p_vaddr.get(Le))?;
            let loaded = segment.p_type.get(Le) == elf::PT_LOAD && within < segment.p_filesz.get(Le);
            let offset = segment.p_offset.get(Le).checked_add(within)?;
            ((executable || !code) && loaded && offset < self.file.file_bytes()).then_some(offset)
        })
    }

    fn string(&mut self, strings: Range, at: u64) -> Result<Option<String>> {
        let Some(left) = strings.bytes.checked_sub(at) else { return Ok(None) };
        let Some(offset) = strings.offset.checked_add(at) else { return Ok(None) };
        let bytes = self.file.read_table(Range { offset, bytes: left.min(STRING_BYTES_MAX) })?;
        let end = bytes.iter().position(|&byte| byte == 0);
        Ok(end.and_then(|end| std::str::from_utf8(&bytes[..end]).ok()).map(str::to_owned))
    }
}

fn check_header(header: &FileHeader64<Le>) -> Result<()> {
    if header.e_ident.magic != elf::ELFMAG {
        return Err(ElfError::NotElf);
    }
    if header.e_ident.class != elf::ELFCLASS64 || header.e_ident.data != elf::ELFDATA2LSB {
        return Err(ElfError::Class);
    }
    if header.e_machine.get(Le) != MACHINE {
        return Err(ElfError::Machine(header.e_machine.get(Le).0));
    }
    match header.e_type.get(Le) {
        elf::ET_EXEC | elf::ET_DYN => Ok(()),
        other => Err(ElfError::Kind(other.0)),
    }
}

fn first<T: Pod>(bytes: &[u8]) -> Result<T> {
    pod::from_bytes(bytes).map(|(value, _)| *value).map_err(|()| ElfError::Malformed("header"))
}

fn range_of(section: &SectionHeader64<Le>) -> Range {
    Range { offset: section.sh_offset.get(Le), bytes: section.sh_size.get(Le) }
}

/// The places of NUL bytes from `from` on.
fn nuls(bytes: &[u8], from: usize) -> impl Iterator<Item = usize> {
    let mut at = from;
    std::iter::from_fn(move || {
        let text = CStr::from_bytes_until_nul(bytes.get(at..)?).ok()?;
        let nul = at + text.count_bytes();
        at = nul + 1;
        Some(nul)
    })
}

/// The build id among notes, all of which are padded to 4 bytes.
fn build_id_in(mut notes: &[u8]) -> Option<Vec<u8>> {
    while let Ok((header, rest)) = pod::from_bytes::<NoteHeader64<Le>>(notes) {
        let name_bytes = header.n_namesz.get(Le) as usize;
        let value_bytes = header.n_descsz.get(Le) as usize;
        let name = rest.get(..name_bytes)?;
        let value = rest.get(name_bytes.checked_next_multiple_of(4)?..)?;
        if name == b"GNU\0" && header.n_type.get(Le) == elf::NT_GNU_BUILD_ID {
            return value.get(..value_bytes).filter(|id| id.len() <= BUILD_ID_BYTES_MAX).map(<[u8]>::to_vec);
        }
        notes = value.get(value_bytes.checked_next_multiple_of(4)?..)?;
    }
    None
}

/// The text `prefix` + version number within constants: at the beginning of a string, and followed by
/// something that is not part of the number.
fn version_in(constants: &[u8], prefix: &str) -> Option<String> {
    nuls(constants, 0).map(|nul| nul + 1).find_map(|start| {
        let rest = constants.get(start..)?.strip_prefix(prefix.as_bytes())?;
        let part = |c: &u8| c.is_ascii_alphanumeric() || b".-+".contains(c);
        let number = rest.get(..rest.iter().take(NUMBER_BYTES_MAX + 1).position(|c| !part(c))?)?;
        let sound = number.first().is_some_and(u8::is_ascii_digit) && number.contains(&b'.');
        sound.then(|| format!("{prefix}{}", String::from_utf8_lossy(number)))
    })
}

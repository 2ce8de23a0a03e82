//! Functions of which the user knows where they are: `--lib FILE@SSL_read=0x…`.

use std::fmt;
use std::fs::File;

use super::elf::{Elf, Frames};
use super::recognise::{Recognised, Unfit};
use super::signs;
use super::table::{Hook, Library, TABLE};

/// Why a function can't be probed where the user says it is.
#[derive(Debug, PartialEq, Eq)]
pub enum GivenError {
    /// No library of the table has a function of that name that is hooked.
    Name(String),
    /// No library has all of them.
    Mixed,
    /// Nothing that is read or written passes through them.
    NoData,
    /// It isn't code.
    NotCode(String, u64),
    /// It is within a function, which begins at the second address.
    Within(String, u64, u64),
}

impl fmt::Display for GivenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => write!(f, "{name:?} is no function that is probed of any known TLS library"),
            Self::Mixed => {
                f.write_str("the functions that were given are of several libraries: give those of one")
            }
            Self::NoData => f.write_str("none of the functions that were given reads or writes: give both"),
            Self::NotCode(name, address) => write!(
                f,
                "{name}=0x{address:x} is not in a segment of code: give the virtual address, as `readelf -s` \
                 or `objdump -d` show it, and neither an offset in the file nor an address in a process"
            ),
            Self::Within(name, address, begin) => write!(
                f,
                "{name}=0x{address:x} is not where a function begins: the one that has it within begins at \
                 0x{begin:x}"
            ),
        }
    }
}

impl std::error::Error for GivenError {}

impl From<GivenError> for Unfit {
    fn from(error: GivenError) -> Self {
        Self::Given(error)
    }
}

/// Takes the functions for those of the first library of the table that has them all, and to be at these
/// virtual addresses. What is read of the file is taken from `budget`, in bytes.
///
/// # Errors
/// When that can't be.
pub(super) fn recognise(
    file: &File,
    places: &[(String, u64)],
    budget: &mut u64,
) -> Result<Recognised, Unfit> {
    let mut elf = Elf::open(file, *budget)?;
    let recognised = at(&mut elf, places);
    *budget = budget.saturating_sub(elf.bytes_read());
    recognised
}

fn at(elf: &mut Elf<'_>, places: &[(String, u64)]) -> Result<Recognised, Unfit> {
    let libraries = named(places)?;
    // OpenSSL and its kin have the same names.
    let told = signs::tls_within(elf)?.unwrap_or_default();
    let library = libraries.iter().find(|library| told.starts_with(library.name));
    let Some(&library) = library.or(libraries.first()) else { return Err(GivenError::Mixed.into()) };
    let frames = Frames::read(elf)?;
    let (mut hooks, mut functions) = (Vec::new(), Vec::new());
    for (name, address) in places {
        let offset = elf.code_offset(*address).ok_or_else(|| GivenError::NotCode(name.clone(), *address))?;
        if let Some((begin, _)) = frames.function_at(elf, *address)?.filter(|(begin, _)| begin != address) {
            return Err(GivenError::Within(name.clone(), *address, begin).into());
        }
        if let Some((name, hook)) = hooked(library, name) {
            hooks.push((hook, offset));
            functions.push(name);
        }
    }
    Ok(Recognised::new(elf, library, hooks, functions))
}

/// The libraries that have all of these functions.
fn named(places: &[(String, u64)]) -> Result<Vec<&'static Library>, GivenError> {
    let known = |name: &str| TABLE.iter().any(|library| hooked(library, name).is_some());
    if let Some((name, _)) = places.iter().find(|(name, _)| !known(name)) {
        return Err(GivenError::Name(name.clone()));
    }
    let has_all = |library: &&'static Library| places.iter().all(|(name, _)| hooked(library, name).is_some());
    let libraries: Vec<_> = TABLE.iter().filter(|library| library.is_tls()).filter(has_all).collect();
    let library = libraries.first().ok_or(GivenError::Mixed)?;
    let mut hooks = places.iter().filter_map(|(name, _)| hooked(library, name));
    if hooks.any(|(_, hook)| hook.moves_data()) { Ok(libraries) } else { Err(GivenError::NoData) }
}

/// A function of the library that is hooked.
fn hooked(library: &'static Library, name: &str) -> Option<(&'static str, Hook)> {
    let symbol = library.symbols.iter().find(|symbol| symbol.name == name)?;
    Some((symbol.name, symbol.hook))
}

//! Functions of a stripped file by the symbols that were kept elsewhere.

use std::fs::File;
use std::os::fd::OwnedFd;

use super::elf::{BYTES_READ_MAX, Elf, Frames, Function, debug};

/// The functions with these names, from compressed symbols in the file itself, or else from a file with its
/// build id in one of `roots`.
///
/// Such a file may belong to somebody else than this one, and a probe that is not at the beginning of an
/// instruction destroys the program. So what it says is taken only if a function really begins there, by what
/// unwinds frames. A file that is damaged counts for none.
pub(super) fn functions(elf: &mut Elf<'_>, names: &[&str], roots: &[&OwnedFd]) -> Vec<Function> {
    if let Ok(Some(file)) = debug::unpacked(elf) {
        let functions = placed(elf, symbols(&file, names));
        if !functions.is_empty() {
            return functions;
        }
    }
    let build_id = elf.build_id().unwrap_or_default();
    for root in roots {
        let Some(file) = debug::separate(root, &build_id) else { continue };
        let Ok(frames) = Frames::read(elf) else { return Vec::new() };
        let mut symbols = symbols(&file, names);
        symbols.retain(|(_, address, _)| {
            let known = frames.function_at(elf, *address).ok().flatten();
            known.is_some_and(|(begin, _)| begin == *address)
        });
        let functions = placed(elf, symbols);
        if !functions.is_empty() {
            return functions;
        }
    }
    Vec::new()
}

/// Index of the name, address, length.
fn symbols(file: &File, names: &[&str]) -> Vec<(usize, u64, u64)> {
    let found = Elf::open(file, BYTES_READ_MAX).and_then(|mut symbols| symbols.symbols(names));
    found.unwrap_or_default()
}

fn placed(elf: &Elf<'_>, symbols: Vec<(usize, u64, u64)>) -> Vec<Function> {
    let place = |(name, address, bytes)| Some(Function { name, offset: elf.code_offset(address)?, bytes });
    let mut functions: Vec<_> = symbols.into_iter().filter_map(place).collect();
    functions.sort_unstable();
    functions.dedup();
    functions
}

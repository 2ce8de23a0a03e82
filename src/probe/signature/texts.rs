//! Where the texts are that signatures go by, and where code refers to them.

use std::collections::BTreeMap;

use memchr::{memchr_iter, memmem};

use crate::probe::elf::{Elf, ElfError};

/// Longest path of a source file, and longest other text.
const TEXT_BYTES_MAX: usize = 512;
/// Most places of texts, and of references to them.
const TEXTS_MAX: usize = 1024;
const REFERENCES_MAX: usize = 1 << 16;
/// `lea`, of which the operand is relative to the next instruction: the distance comes last.
const LEA: u8 = 0x8d;
const RELATIVE_MASK: u8 = 0xc7;
const RELATIVE: u8 = 0x05;
/// Bytes of a distance, or of an address in a program that is not moved.
const WORD: usize = 4;

/// Addresses of texts: by the last that may be one's, the first, and the number of the text. They differ
/// where it can't be told where a text begins: constants that are none may stand before it.
pub(super) type Texts = BTreeMap<u64, (u64, usize)>;

/// Finds the places of texts in the constants of a file: of paths of which the last part is one of `files`,
/// with numbers from 0, and of `names`, with the numbers that follow; those may be the end of a longer text.
/// None where no path is there, in which case nothing else is looked for.
pub(super) fn find(elf: &mut Elf<'_>, files: &[&str], names: &[&str]) -> Result<Option<Texts>, ElfError> {
    let mut texts = Texts::new();
    // The beginnings of such names are few, and so are their places.
    let sought = files.iter().map(|file| ended(file)).map(|text| memmem::Finder::new(&text).into_owned());
    let sought: Vec<_> = sought.collect();
    elf.constants_at(TEXT_BYTES_MAX, &mut |address, piece| {
        for (number, finder) in sought.iter().enumerate() {
            for at in finder.find_iter(piece) {
                if let Some(begin) = path_begin(piece, at) {
                    texts.insert(address + at as u64, (address + begin as u64, number));
                }
            }
        }
        texts.len() > TEXTS_MAX
    })?;
    if texts.is_empty() || texts.len() > TEXTS_MAX {
        return Ok(None);
    }
    let sought: Vec<_> = names.iter().map(|name| ended(name)).collect();
    let mut heads: Vec<_> = sought.iter().filter_map(|text| text.first_chunk::<WORD>().copied()).collect();
    heads.sort_unstable();
    heads.dedup();
    let heads: Vec<_> = heads.iter().map(|head| memmem::Finder::new(head).into_owned()).collect();
    elf.constants_at(TEXT_BYTES_MAX, &mut |address, piece| {
        for at in heads.iter().flat_map(|head| head.find_iter(piece)) {
            let rest = piece.get(at..).unwrap_or_default();
            if let Some(number) = sought.iter().position(|text| rest.starts_with(text)) {
                let address = address + at as u64;
                texts.insert(address, (address, files.len() + number));
            }
        }
        texts.len() > TEXTS_MAX
    })?;
    Ok(Some(texts))
}

/// A text with the zero that ends it.
fn ended(text: &str) -> Vec<u8> {
    [text.as_bytes(), &[0]].concat()
}

/// Where the path may begin that has its last part at `at`: no character is before it.
fn path_begin(piece: &[u8], at: usize) -> Option<usize> {
    let before = piece.get(at.saturating_sub(TEXT_BYTES_MAX)..at)?;
    let begin = before.iter().rposition(|byte| !(b' '..=b'~').contains(byte)).map_or(0, |other| other + 1);
    let directory = before.get(begin..)?;
    (directory.is_empty() || directory.ends_with(b"/")).then_some(at - directory.len())
}

/// The places in the code that refer to texts, with the numbers of these. `fixed`: the program is not moved
/// when it is loaded, so that there can be addresses as they are.
pub(super) fn references(
    elf: &mut Elf<'_>,
    texts: &Texts,
    fixed: bool,
) -> Result<BTreeMap<u64, usize>, ElfError> {
    let mut found = BTreeMap::new();
    let first = texts.values().map(|(first, _)| *first).min();
    let (Some(first), Some((&last, _))) = (first, texts.last_key_value()) else { return Ok(found) };
    let mut refers = |place: u64, target: u64| {
        if (first..=last).contains(&target)
            && let Some((_, (first, number))) = texts.range(target..).next()
            && *first <= target
            && found.len() < REFERENCES_MAX
        {
            found.insert(place, *number);
        }
    };
    elf.code(WORD + 1, &mut |address, piece| {
        for at in memchr_iter(LEA, piece) {
            let Some([operand, word @ ..]) = piece.get(at + 1..).and_then(|rest| rest.first_chunk::<5>())
            else {
                continue;
            };
            if operand & RELATIVE_MASK == RELATIVE {
                let next = address + (at + 2 + WORD) as u64;
                refers(next - WORD as u64, next.wrapping_add_signed(i32::from_le_bytes(*word).into()));
            }
        }
        if fixed {
            let words = piece.windows(WORD).zip(address..);
            for (word, place) in words {
                let word = word.first_chunk().map_or(0, |word| u32::from_le_bytes(*word));
                refers(place, word.into());
            }
        }
        false
    })?;
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_ends_with_the_files_name() {
        for (text, begin) in [
            (&b"\0ssl_lib.cc"[..], Some(1)),
            (b"x\0a/ssl/ssl_lib.cc", Some(2)),
            (b"a/ssl_lib.cc", Some(0)),
            (b"\0boringssl_lib.cc", None),
            (b"ssl_lib.cc", Some(0)),
            (b"x\x06\x08/home/ssl/ssl_lib.cc", Some(3)),
        ] {
            assert_eq!(path_begin(text, text.len() - 10), begin, "{}", text.escape_ascii());
        }
    }
}

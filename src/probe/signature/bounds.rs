//! Where the functions begin and end that have certain places in them, in a file without symbols.

use std::collections::{BTreeMap, BTreeSet};

use memchr::memchr_iter;

use super::code::{Facts, facts};
use crate::probe::elf::{Elf, ElfError, Frames};

/// Largest function that is looked at.
const FUNCTION_BYTES_MAX: u64 = 16 << 10;
/// Most places that are called near the places sought.
const CALLED_MAX: usize = 1 << 20;
/// `call`, and the bytes of its operand.
const CALL: u8 = 0xe8;
const WORD: usize = 4;
/// What is before the beginning of a function: an end of another, or what fills the room up to a multiple of
/// 16, as assemblers and linkers do.
const BEFORE: [&[u8]; 14] = [
    b"\xcc",
    b"\xc3",
    b"\x0f\x0b",
    b"\x90",
    b"\x66\x90",
    b"\x0f\x1f\x00",
    b"\x0f\x1f\x40\x00",
    b"\x0f\x1f\x44\x00\x00",
    b"\x66\x0f\x1f\x44\x00\x00",
    b"\x0f\x1f\x80\x00\x00\x00\x00",
    b"\x0f\x1f\x84\x00\x00\x00\x00\x00",
    b"\x66\x0f\x1f\x84\x00\x00\x00\x00\x00",
    b"\x66\x2e\x0f\x1f\x84\x00\x00\x00\x00\x00",
    b"\x2e\x0f\x1f\x84\x00\x00\x00\x00\x00",
];
const BEFORE_BYTES: u64 = 10;

/// The functions found so far, by their beginnings, each with the places sought that are in it.
pub(super) type Functions = BTreeMap<u64, (Facts, Vec<u64>)>;

/// The functions that have these places in them. What unwinds frames tells; where that doesn't, it is the
/// nearest place before that is called from anywhere and looks as if a function began there.
pub(super) fn functions(elf: &mut Elf<'_>, places: impl Iterator<Item = u64>) -> Result<Functions, ElfError> {
    let frames = Frames::read(elf)?;
    let mut functions = Functions::new();
    let mut bare = Vec::new();
    for place in places {
        let Some((begin, end)) = frames.function_at(elf, place)? else {
            bare.push(place);
            continue;
        };
        if let Some((_, places)) = functions.get_mut(&begin) {
            places.push(place);
        } else if end - begin <= FUNCTION_BYTES_MAX
            && let Some(code) = elf.read_at(begin, end - begin)?
        {
            functions.insert(begin, (facts(&code, begin, true), vec![place]));
        }
    }
    if !bare.is_empty() {
        let called = called(elf, &bare)?;
        for place in bare {
            around(elf, place, &called, &mut functions)?;
        }
    }
    functions.retain(|_, (facts, _)| facts.whole);
    Ok(functions)
}

/// Adds the function that has `place` in it, and begins where one is called.
fn around(
    elf: &mut Elf<'_>,
    place: u64,
    called: &BTreeSet<u64>,
    functions: &mut Functions,
) -> Result<(), ElfError> {
    let has_place = |begin, facts: &Facts| facts.whole && place < facts.bytes.saturating_add(begin);
    for &begin in called.range(place.saturating_sub(FUNCTION_BYTES_MAX)..=place).rev() {
        if let Some((facts, places)) = functions.get_mut(&begin) {
            if has_place(begin, facts) {
                places.push(place);
                break;
            }
        } else if begins(elf, begin)?
            && let Some(code) = elf.read_at(begin, FUNCTION_BYTES_MAX)?
        {
            let facts = facts(&code, begin, false);
            if has_place(begin, &facts) {
                functions.insert(begin, (facts, vec![place]));
                break;
            }
        }
    }
    Ok(())
}

/// Whether a function of another ends before this address.
fn begins(elf: &mut Elf<'_>, address: u64) -> Result<bool, ElfError> {
    let before = elf.read_at(address.saturating_sub(BEFORE_BYTES), BEFORE_BYTES)?.unwrap_or_default();
    let jump = before.iter().rev().nth(WORD) == Some(&0xe9) || before.iter().rev().nth(1) == Some(&0xeb);
    Ok(jump || BEFORE.iter().any(|fill| before.ends_with(fill)))
}

/// What is called not far before one of these places.
fn called(elf: &mut Elf<'_>, places: &[u64]) -> Result<BTreeSet<u64>, ElfError> {
    let mut places = places.to_vec();
    places.sort_unstable();
    let mut called = BTreeSet::new();
    elf.code(WORD, &mut |address, piece| {
        for at in memchr_iter(CALL, piece) {
            let Some(word) = piece.get(at + 1..).and_then(|rest| rest.first_chunk()) else { continue };
            let next = address + (at + 1 + WORD) as u64;
            let target = next.wrapping_add_signed(i32::from_le_bytes(*word).into());
            let after = places.partition_point(|place| *place < target);
            if places.get(after).is_some_and(|place| place - target <= FUNCTION_BYTES_MAX) {
                called.insert(target);
            }
        }
        called.len() > CALLED_MAX
    })?;
    Ok(called)
}

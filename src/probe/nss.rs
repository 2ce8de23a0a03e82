//! The functions of NSS through which a TLS session reads and writes.
//!
//! A program calls `PR_Read` and its like, which serve files too, and none of the functions of NSS that they
//! lead to has a name. But for what can be done with a session NSS has a table, `sslSocketOps` of
//! `sslimpl.h`: connect, accept, bind, listen, shutdown, close, recv, send, read, write, getpeername,
//! getsockname. There are two of them, one for TLS (`ssl_secure_ops`) and one that hands everything down
//! (`ssl_default_ops`). Neither can accept, and the former has four functions of the latter: bind, listen,
//! getpeername, getsockname. These and the others of the latter are one short source file, so they are close
//! together in the library.

use super::elf::{Elf, ElfError};
use super::table::Hook;

/// Entries of a table.
const ENTRIES: usize = 12;
/// Places in it.
const ACCEPT: usize = 1;
const SHARED: [usize; 4] = [2, 3, 10, 11];
/// And what is done with the functions there that the tables don't share.
const OWN: [(usize, Hook); 6] = [
    (4, Hook::NssShutdown),
    (5, Hook::Close),
    (6, Hook::ReadIntFlags),
    (7, Hook::WriteInt),
    (8, Hook::ReadInt),
    (9, Hook::WriteInt),
];
/// Most stretches of a file that may look like a table.
const ALIKE_MAX: usize = 64;
/// How many times farther apart the functions of the table for TLS must be than those of the other.
const APART: u64 = 4;

/// The hooks of these functions, with file offsets. None if the tables can't be told for certain.
///
/// # Errors
/// When the file is damaged or can't be read.
pub(super) fn hooks(elf: &mut Elf<'_>) -> Result<Option<Vec<(Hook, u64)>>, ElfError> {
    let words = elf.constant_pointers()?;
    let Some(functions) = find(&words, |address| elf.code_offset(address).is_some()) else {
        return Ok(None);
    };
    let hook = |(hook, address)| Some((hook, elf.code_offset(address)?));
    Ok(functions.into_iter().map(hook).collect())
}

/// The functions of the table for TLS, by address, in the constants of a file.
fn find(words: &[u64], is_code: impl Fn(u64) -> bool) -> Option<Vec<(Hook, u64)>> {
    let like = |table: &&[u64]| {
        table.iter().enumerate().all(|(i, &word)| if i == ACCEPT { word == 0 } else { is_code(word) })
    };
    let alike: Vec<_> = words.windows(ENTRIES).filter(like).take(ALIKE_MAX + 1).collect();
    if alike.len() > ALIKE_MAX {
        return None;
    }
    let pairs = alike.iter().enumerate().flat_map(|(i, a)| alike.iter().skip(i + 1).map(move |b| (*a, *b)));
    let pairs: Vec<_> = pairs.filter(|(a, b)| are_the_two(a, b)).collect();
    let [(a, b)] = pairs[..] else { return None };
    let tls = match (extent(a), extent(b)) {
        (near, far) if near.saturating_mul(APART) < far => b,
        (far, near) if near.saturating_mul(APART) < far => a,
        _ => return None,
    };
    OWN.into_iter().map(|(i, hook)| Some((hook, *tls.get(i)?))).collect()
}

fn are_the_two(a: &[u64], b: &[u64]) -> bool {
    SHARED.iter().all(|&i| a.get(i) == b.get(i)) && OWN.iter().all(|&(i, _)| a.get(i) != b.get(i))
}

/// How far apart a table's functions are.
fn extent(table: &[u64]) -> u64 {
    let functions = || table.iter().filter(|&&address| address != 0);
    functions().max().zip(functions().min()).map_or(0, |(max, min)| max - min)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TLS: [u64; ENTRIES] = [
        0x2f220, 0, 0x2a1c0, 0x2a1d0, 0x2f320, 0x2f2b0, 0x2f3a0, 0x2f6e0, 0x2f6d0, 0x2fc30, 0x2a3a0, 0x2a3b0,
    ];
    const BARE: [u64; ENTRIES] = [
        0x2a1a0, 0, 0x2a1c0, 0x2a1d0, 0x2a1e0, 0x2a3c0, 0x2a1f0, 0x2a230, 0x2a300, 0x2a310, 0x2a3a0, 0x2a3b0,
    ];

    fn found(tables: &[&[u64]]) -> Option<Vec<(Hook, u64)>> {
        find(&tables.concat(), |address| (0xd000..0x4c000).contains(&address))
    }

    #[test]
    fn the_table_for_tls_is_that_with_distant_functions() {
        let expected = vec![
            (Hook::NssShutdown, 0x2f320),
            (Hook::Close, 0x2f2b0),
            (Hook::ReadIntFlags, 0x2f3a0),
            (Hook::WriteInt, 0x2f6e0),
            (Hook::ReadInt, 0x2f6d0),
            (Hook::WriteInt, 0x2fc30),
        ];
        for order in [[&[7, 0][..], &TLS, &BARE, &[4]], [&BARE, &[0; 9], &TLS, &[0x2a1c0; 30]]] {
            assert_eq!(found(&order), Some(expected.clone()));
        }
    }

    #[test]
    fn where_it_is_not_certain_nothing_is_probed() {
        assert_eq!(found(&[]), None);
        assert_eq!(found(&[&TLS]), None);
        assert_eq!(found(&[&TLS, &TLS]), None, "the same twice");
        assert_eq!(found(&[&TLS, &BARE, &BARE]), None, "three");
        let spread = BARE.map(|address| if address == 0x2a300 { 0x2f300 } else { address });
        assert_eq!(found(&[&TLS, &spread]), None, "both are spread");
        let outside = TLS.map(|address| if address == 0x2f6d0 { 0x52000 } else { address });
        assert_eq!(found(&[&outside, &BARE]), None, "not code");
        let many: Vec<_> = std::iter::repeat_n(TLS, ALIKE_MAX).flatten().collect();
        assert_eq!(found(&[&many, &BARE]), None, "many");
    }
}

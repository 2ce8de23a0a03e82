//! The Internet checksum (RFC 1071).

/// A sum of 16-bit words, as they lie in memory, of bytes that come in parts.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sum {
    /// Not folded. A part of less than 2^18 bytes adds less than 2^48, so that there is room for far more
    /// parts than a frame has.
    total: u64,
    /// Whether so far it was an odd number of bytes: the next is the second of a word.
    is_odd: bool,
}

impl Sum {
    /// The sum with these bytes after the others.
    #[must_use]
    pub(super) fn with(self, bytes: &[u8]) -> Self {
        let sum = sum(bytes);
        // Bytes that are one place off stand in the other half of each word (RFC 1071, section 2 (B)).
        let sum = if self.is_odd { u64::from(fold(sum).swap_bytes()) } else { sum };
        Self { total: self.total + sum, is_odd: self.is_odd ^ (bytes.len() % 2 == 1) }
    }

    /// The sum with words of a header, of which there are few. The bytes before them were of an even number.
    #[must_use]
    pub(super) fn with_words(self, words: &[u32]) -> Self {
        let sum: u64 = words.iter().map(|word| u64::from(word.to_be())).sum();
        Self { total: self.total + sum, ..self }
    }

    /// The sum of what is in both; of this an even number of bytes.
    #[must_use]
    pub(super) fn and(self, other: Self) -> Self {
        Self { total: self.total + other.total, is_odd: other.is_odd }
    }

    /// The checksum.
    #[must_use]
    pub(super) fn checksum(self) -> u16 {
        u16::from_be(!fold(self.total))
    }
}

/// The sum of whole words; an odd byte at the end is followed by a zero. Words of 32 bits give the same once
/// it is folded, and a compiler adds many of them at a time.
fn sum(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<4>();
    let mut last = [0; 4];
    last[..rest.len()].copy_from_slice(rest);
    let whole: u64 = words.iter().map(|word| u64::from(u32::from_ne_bytes(*word))).sum();
    whole + u64::from(u32::from_ne_bytes(last))
}

/// Adds the upper words to the lowest until there are none.
fn fold(mut sum: u64) -> u16 {
    while sum > u64::from(u16::MAX) {
        sum = (sum >> 16) + (sum & u64::from(u16::MAX));
    }
    sum as u16
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop, proptest};

    use super::*;

    /// Word by word, as RFC 1071 says it.
    fn plainly(bytes: &[u8]) -> u16 {
        let mut sum = 0u64;
        for pair in bytes.chunks(2) {
            let (high, low) = (pair[0], pair.get(1).copied().unwrap_or(0));
            sum += u64::from(u16::from_be_bytes([high, low]));
            sum = (sum >> 16) + (sum & 0xffff);
        }
        !(sum as u16)
    }

    #[test]
    fn the_example_of_the_rfc() {
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(Sum::default().with(&bytes).checksum(), 0x220d);
    }

    #[test]
    fn the_longest_payload_overflows_nothing() {
        let bytes = vec![0xff; 1 << 16];
        assert_eq!(Sum::default().with(&bytes).checksum(), 0);
    }

    proptest! {
        #[test]
        fn parts_give_what_the_whole_gives(parts in prop::collection::vec(any::<Vec<u8>>(), 0..6)) {
            let sum = parts.iter().fold(Sum::default(), |sum, part| sum.with(part));
            assert_eq!(sum.checksum(), plainly(&parts.concat()));
        }
    }
}

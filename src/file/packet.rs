//! The enhanced packet block (draft-ietf-opsawg-pcapng, section 4.3), written straight into a reused buffer:
//! it is nearly all of a file.

use crate::event::Dir;

const BLOCK_TYPE: u32 = 6;
/// Bytes of the block before those of the packet.
const HEADER_BYTES: usize = 28;
/// Bytes of an option before its value.
const OPTION_BYTES: usize = 4;
/// The option that ends a list of options.
pub(super) const OPT_ENDOFOPT: u16 = 0;
const OPT_COMMENT: u16 = 1;
const EPB_FLAGS: u16 = 2;
/// Number of the process in this section (32 bits): an option of Apple's tcpdump, from the range that is free
/// for local use. Wireshark knows it since 4.6, and readers that do not know it pass over it.
const EPB_PROCESS: u16 = 32_769;

/// One packet as it stands in the file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packet<'a> {
    /// Number of the interface in this section.
    pub(super) interface: u32,
    /// Nanoseconds since 1970-01-01 UTC; the interface has `if_tsresol` 9.
    pub(super) at: u64,
    /// Which way, as the traced process sees it.
    pub(super) dir: Dir,
    /// Number of the process's description in this section.
    pub(super) process: Option<u32>,
    /// The first of its bytes are kept.
    pub(super) kept: usize,
    /// How many bytes it had.
    pub(super) original: usize,
    /// Comments, each shorter than 65,536 bytes.
    pub(super) comments: &'a [String],
}

/// Appends the block of `packet`, whose bytes come in parts, to `block`, little endian, and gives its length.
pub(super) fn write<'a>(
    block: &mut Vec<u8>,
    packet: &Packet<'_>,
    parts: impl Iterator<Item = &'a [u8]>,
) -> usize {
    let length = length(packet);
    block.reserve(length);
    block.extend_from_slice(&header(packet, length));
    let mut left = packet.kept;
    for part in parts {
        let kept = &part[..part.len().min(left)];
        block.extend_from_slice(kept);
        left -= kept.len();
    }
    pad(block, packet.kept);
    for comment in packet.comments {
        option(block, OPT_COMMENT, comment.as_bytes());
    }
    block.extend_from_slice(&word_option(EPB_FLAGS, direction(packet.dir)));
    if let Some(process) = packet.process {
        block.extend_from_slice(&word_option(EPB_PROCESS, process));
    }
    option(block, OPT_ENDOFOPT, &[]);
    block.extend_from_slice(&(length as u32).to_le_bytes());
    length
}

/// Bytes of the block: of a frame and the comments on it, far below 32 bits.
fn length(packet: &Packet<'_>) -> usize {
    let comments: usize = packet.comments.iter().map(|comment| OPTION_BYTES + padded(comment.len())).sum();
    let process = packet.process.map_or(0, |_| OPTION_BYTES + 4);
    let (flags, end, length) = (OPTION_BYTES + 4, OPTION_BYTES, 4);
    HEADER_BYTES + padded(packet.kept) + comments + flags + process + end + length
}

/// What stands before the packet's bytes.
fn header(packet: &Packet<'_>, length: usize) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    let fields = [
        BLOCK_TYPE,
        length as u32,
        packet.interface,
        // The upper half stands before the lower one in both byte orders.
        (packet.at >> 32) as u32,
        packet.at as u32,
        packet.kept as u32,
        packet.original as u32,
    ];
    for (bytes, field) in header.as_chunks_mut().0.iter_mut().zip(fields) {
        *bytes = field.to_le_bytes();
    }
    header
}

/// Bits 0 and 1 of the flags word (section 4.3.1): 1 is inbound, 2 is outbound.
fn direction(dir: Dir) -> u32 {
    match dir {
        Dir::In => 1,
        Dir::Out => 2,
    }
}

/// An option whose value is a number of 32 bits.
fn word_option(code: u16, value: u32) -> [u8; OPTION_BYTES + 4] {
    let ([c0, c1], [v0, v1, v2, v3]) = (code.to_le_bytes(), value.to_le_bytes());
    [c0, c1, 4, 0, v0, v1, v2, v3]
}

/// Appends an option (section 3.5); `value` is shorter than 65,536 bytes.
#[inline]
pub(super) fn option(block: &mut Vec<u8>, code: u16, value: &[u8]) {
    block.extend_from_slice(&code.to_le_bytes());
    block.extend_from_slice(&(value.len() as u16).to_le_bytes());
    block.extend_from_slice(value);
    pad(block, value.len());
}

fn padded(bytes: usize) -> usize {
    bytes.next_multiple_of(4)
}

/// Zeros up to a multiple of four bytes.
fn pad(block: &mut Vec<u8>, written: usize) {
    block.extend_from_slice(&[0; 3][..written.wrapping_neg() % 4]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_what_the_draft_says() {
        let comments = ["hello".to_owned()];
        let mut block = vec![0xEE];
        let packet = Packet {
            interface: 3,
            at: 0x0102_0304_0506_0708,
            dir: Dir::Out,
            process: Some(258),
            kept: 5,
            original: 9,
            comments: &comments,
        };
        let parts = [&[0xAA; 3][..], &[0xAA; 6]];
        assert_eq!(write(&mut block, &packet, parts.into_iter()), 72);
        #[rustfmt::skip]
        let expected = [
            0xEE,
            6, 0, 0, 0,  72, 0, 0, 0,  3, 0, 0, 0,
            4, 3, 2, 1,  8, 7, 6, 5,  5, 0, 0, 0,  9, 0, 0, 0,
            0xAA, 0xAA, 0xAA, 0xAA,  0xAA, 0, 0, 0,
            1, 0, 5, 0,  b'h', b'e', b'l', b'l',  b'o', 0, 0, 0,
            2, 0, 4, 0,  2, 0, 0, 0,
            1, 0x80, 4, 0,  2, 1, 0, 0,
            0, 0, 0, 0,
            72, 0, 0, 0,
        ];
        assert_eq!(block, expected);
    }
}

//! The enhanced packet block (draft-ietf-opsawg-pcapng, section 4.3), written straight into a reused buffer:
//! it is nearly all of a file.

use crate::event::Dir;

const BLOCK_TYPE: u32 = 6;
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
    /// The bytes that are kept.
    pub(super) bytes: &'a [u8],
    /// How many bytes the packet had.
    pub(super) original: usize,
    /// Comments, each shorter than 65,536 bytes.
    pub(super) comments: &'a [String],
}

/// Appends the block of `packet` to `block`, little endian, and gives its length.
pub(super) fn write(block: &mut Vec<u8>, packet: &Packet<'_>) -> usize {
    let start = block.len();
    block.extend_from_slice(&BLOCK_TYPE.to_le_bytes());
    block.extend_from_slice(&[0; 4]); // the length, once it is known
    block.extend_from_slice(&packet.interface.to_le_bytes());
    // The upper half stands before the lower one in both byte orders.
    block.extend_from_slice(&((packet.at >> 32) as u32).to_le_bytes());
    block.extend_from_slice(&(packet.at as u32).to_le_bytes());
    block.extend_from_slice(&(packet.bytes.len() as u32).to_le_bytes());
    block.extend_from_slice(&(packet.original as u32).to_le_bytes());
    block.extend_from_slice(packet.bytes);
    pad(block, packet.bytes.len());
    for comment in packet.comments {
        option(block, OPT_COMMENT, comment.as_bytes());
    }
    option(block, EPB_FLAGS, &direction(packet.dir).to_le_bytes());
    if let Some(process) = packet.process {
        option(block, EPB_PROCESS, &process.to_le_bytes());
    }
    option(block, OPT_ENDOFOPT, &[]);
    // A block is bounded by a frame and the comments on it: far below 32 bits.
    let length = block.len() - start + 4;
    let bytes = (length as u32).to_le_bytes();
    block.extend_from_slice(&bytes);
    block[start + 4..start + 8].copy_from_slice(&bytes);
    length
}

/// Bits 0 and 1 of the flags word (section 4.3.1): 1 is inbound, 2 is outbound.
fn direction(dir: Dir) -> u32 {
    match dir {
        Dir::In => 1,
        Dir::Out => 2,
    }
}

/// Appends an option (section 3.5); `value` is shorter than 65,536 bytes.
pub(super) fn option(block: &mut Vec<u8>, code: u16, value: &[u8]) {
    block.extend_from_slice(&code.to_le_bytes());
    block.extend_from_slice(&(value.len() as u16).to_le_bytes());
    block.extend_from_slice(value);
    pad(block, value.len());
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
            bytes: &[0xAA; 5],
            original: 9,
            comments: &comments,
        };
        assert_eq!(write(&mut block, &packet), 72);
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

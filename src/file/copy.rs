//! Another capture of one that is there, with secrets put in or left out; all else is as it was, block for
//! block (draft-ietf-opsawg-pcapng, sections 3.1, 4.1 and 4.7).

use std::io::{self, Read};

use super::sink::{Part, Sink};

const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const SECRETS: u32 = 0x0000_000a;
/// Secrets type `TLSK`.
const TLS_KEY_LOG: u32 = 0x544c_534b;
/// The byte-order magic of a section header, as a writer with the same order has it.
const BYTE_ORDER: u32 = 0x1a2b_3c4d;
/// Bytes of a block besides its body: type and length before, length after.
const FRAME_BYTES: usize = 12;
/// Largest block that is copied.
const BLOCK_BYTES_MAX: usize = 64 << 20;
/// Most bytes of a key log.
pub const KEY_LOG_BYTES_MAX: u64 = 64 << 20;

/// What other files begin with, and what to do with them.
const OTHERS: [([u8; 4], &str); 5] = [
    ([0xd4, 0xc3, 0xb2, 0xa1], PCAP),
    ([0xa1, 0xb2, 0xc3, 0xd4], PCAP),
    ([0x4d, 0x3c, 0xb2, 0xa1], PCAP),
    ([0xa1, 0xb2, 0x3c, 0x4d], PCAP),
    ([0x28, 0xb5, 0x2f, 0xfd], "it is compressed: unpack it first (zstd -d)"),
];
const PCAP: &str =
    "it is pcap, which can hold no secrets: editcap --inject-secrets tls,KEYLOG makes pcapng of it";

/// What becomes of secrets.
#[derive(Clone, Copy, Debug)]
pub struct Change<'a> {
    /// Lines of a key log that are put behind the header of each section.
    pub add: &'a str,
    /// Whether those that are there are left out.
    pub strip: bool,
}

/// What was copied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Copied {
    /// Blocks.
    pub blocks: u64,
    /// Blocks of secrets that were left out.
    pub stripped: u64,
    /// Whether the capture ends within a block, which is left out.
    pub cut: bool,
}

/// Copies a capture as one part.
///
/// # Errors
/// Those of reading and of the sink; it is no pcapng, or damaged.
pub fn copy(input: &mut dyn Read, sink: &mut impl Sink, change: Change<'_>) -> io::Result<Copied> {
    let mut copied = Copied::default();
    let mut order = Order::Little;
    let mut block = Vec::new();
    sink.begin(Part { number: 1, at: 0 })?;
    loop {
        match next(input, &mut order, &mut block, copied.blocks == 0)? {
            Next::Block(kind) => {
                copied.blocks += 1;
                if change.strip && kind == SECRETS {
                    copied.stripped += 1;
                    continue;
                }
                sink.buffer().extend_from_slice(&block);
                sink.block()?;
                if kind == SECTION_HEADER && !change.add.is_empty() {
                    order.secrets(change.add, sink.buffer());
                    sink.block()?;
                }
            }
            Next::Cut => {
                copied.cut = true;
                break;
            }
            Next::End => break,
        }
    }
    sink.end()?;
    sink.close()?;
    Ok(copied)
}

/// The lines of a key log that are such (draft-ietf-tls-keylogfile, section 2), each with its end of line.
#[must_use]
pub fn key_log_lines(text: &str) -> String {
    let is_hex = |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    let is_label = |word: &str| {
        let fits = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
        !word.is_empty() && word.bytes().all(fits)
    };
    let is_line = |line: &&str| {
        let words: Vec<_> = line.split(' ').collect();
        matches!(words[..], [label, random, secret] if is_label(label) && is_hex(random) && is_hex(secret))
    };
    text.lines().map(str::trim_end).filter(is_line).flat_map(|line| [line, "\n"]).collect()
}

enum Next {
    Block(u32),
    Cut,
    End,
}

/// Reads a whole block. The first must be a section header; each such tells the order of bytes from there on.
fn next(input: &mut dyn Read, order: &mut Order, block: &mut Vec<u8>, first: bool) -> io::Result<Next> {
    block.clear();
    input.take(FRAME_BYTES as u64).read_to_end(block)?;
    let Some(head) = block.first_chunk::<FRAME_BYTES>() else {
        return if first {
            Err(foreign(block))
        } else {
            Ok(if block.is_empty() { Next::End } else { Next::Cut })
        };
    };
    let [a, b, c, d, e, f, g, h, i, j, k, l] = *head;
    // The same in either order.
    if u32::from_le_bytes([a, b, c, d]) == SECTION_HEADER {
        *order = Order::of([i, j, k, l]).ok_or_else(|| damaged("a section in no order of bytes"))?;
    } else if first {
        return Err(foreign(block));
    }
    let (kind, length) = (order.word([a, b, c, d]), order.word([e, f, g, h]) as usize);
    if !(FRAME_BYTES..=BLOCK_BYTES_MAX).contains(&length) || length % 4 != 0 {
        return Err(damaged("a block of impossible length"));
    }
    let rest = length - FRAME_BYTES;
    let read = input.take(rest as u64).read_to_end(block)?;
    if read < rest {
        return Ok(Next::Cut);
    }
    match block.last_chunk::<4>() {
        Some(last) if order.word(*last) as usize == length => Ok(Next::Block(kind)),
        _ => Err(damaged("a block with two lengths")),
    }
}

fn foreign(begin: &[u8]) -> io::Error {
    let known = OTHERS.iter().find(|(magic, _)| begin.starts_with(magic));
    damaged(known.map_or("it is not pcapng", |(_, what)| what))
}

fn damaged(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// The order of bytes of a section.
#[derive(Clone, Copy, Debug)]
enum Order {
    Little,
    Big,
}

impl Order {
    fn of(magic: [u8; 4]) -> Option<Self> {
        [Self::Little, Self::Big].into_iter().find(|order| order.word(magic) == BYTE_ORDER)
    }

    fn word(self, bytes: [u8; 4]) -> u32 {
        match self {
            Self::Little => u32::from_le_bytes(bytes),
            Self::Big => u32::from_be_bytes(bytes),
        }
    }

    fn bytes(self, word: u32) -> [u8; 4] {
        match self {
            Self::Little => word.to_le_bytes(),
            Self::Big => word.to_be_bytes(),
        }
    }

    /// Appends a block of secrets.
    fn secrets(self, lines: &str, out: &mut Vec<u8>) {
        // Below 4 GiB by KEY_LOG_BYTES_MAX.
        let padded = lines.len().next_multiple_of(4);
        let length = (FRAME_BYTES + 8 + padded) as u32;
        for word in [SECRETS, length, TLS_KEY_LOG, lines.len() as u32] {
            out.extend_from_slice(&self.bytes(word));
        }
        out.extend_from_slice(lines.as_bytes());
        out.resize(out.len() + padded - lines.len(), 0);
        out.extend_from_slice(&self.bytes(length));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    const KEYS: &str = "CLIENT_RANDOM 0a 0b\n";

    fn block(order: Order, kind: u32, body: &[u8]) -> Vec<u8> {
        let length = order.bytes((FRAME_BYTES + body.len()) as u32);
        [&order.bytes(kind), &length, body, &length].concat()
    }

    fn section(order: Order) -> Vec<u8> {
        block(order, SECTION_HEADER, &[order.bytes(BYTE_ORDER), [1, 0, 0, 0], [0xff; 4], [0xff; 4]].concat())
    }

    fn copied(input: &[u8], add: &str, strip: bool) -> io::Result<(Vec<u8>, Copied)> {
        let mut out = Vec::new();
        let copied = copy(&mut &*input, &mut out, Change { add, strip })?;
        Ok((out, copied))
    }

    #[test]
    fn secrets_stand_behind_the_header_of_each_section_in_its_order() {
        for order in [Order::Little, Order::Big] {
            let packet = block(order, 6, b"packet..");
            let capture = [section(order), packet.clone(), section(order), packet.clone()].concat();
            let (out, told) = copied(&capture, KEYS, false).unwrap();
            let body = [&order.bytes(TLS_KEY_LOG)[..], &order.bytes(20), KEYS.as_bytes()].concat();
            let part = [section(order), block(order, SECRETS, &body), packet.clone()].concat();
            assert_eq!(out, [part.clone(), part].concat());
            assert_eq!(told, Copied { blocks: 4, stripped: 0, cut: false });
            let (back, told) = copied(&out, "", true).unwrap();
            assert_eq!((back, told.stripped), (capture, 2));
        }
    }

    #[test]
    fn what_is_cut_is_copied_as_far_as_it_is_whole() {
        let whole = [section(Order::Little), block(Order::Little, 6, b"packet..")].concat();
        for end in section(Order::Little).len() + 1..whole.len() {
            let (out, told) = copied(&whole[..end], "", false).unwrap();
            assert_eq!((out, told.cut), (section(Order::Little), true), "{end}");
        }
    }

    #[test]
    fn what_is_no_capture_is_refused() {
        let packet = block(Order::Little, 6, b"packet..");
        let mut lengths = [section(Order::Little), packet.clone()].concat();
        let last = lengths.len() - 4;
        lengths[last] ^= 8;
        let endless = [section(Order::Little), [6, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0].to_vec()].concat();
        for (input, why) in [
            (&b""[..], "not pcapng"),
            (b"hello, this is text", "not pcapng"),
            (b"\xd4\xc3\xb2\xa1\x02\0\x04\0\0\0\0\0", "editcap"),
            (b"\x28\xb5\x2f\xfd", "zstd -d"),
            (&packet, "not pcapng"),
            (&lengths, "two lengths"),
            (&endless, "impossible length"),
        ] {
            let error = copied(input, KEYS, false).unwrap_err().to_string();
            assert!(error.contains(why), "{}: {error}", input.escape_ascii());
        }
    }

    #[test]
    fn only_lines_of_a_key_log_are_taken() {
        let text = "# comment\r\nCLIENT_RANDOM 0a 0b\r\n\nx y z\nEXPORTER_SECRET 0A 0b 0c\nRSA 01 02";
        assert_eq!(key_log_lines(text), "CLIENT_RANDOM 0a 0b\nRSA 01 02\n");
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_end_in_an_answer(bytes: Vec<u8>, strip: bool) {
            let input = [&section(Order::Big)[..], &bytes].concat();
            let _ = (copied(&bytes, KEYS, strip), copied(&input, KEYS, strip));
        }
    }
}

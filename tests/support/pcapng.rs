//! An independent reader of what the program writes: pcapng blocks, Ethernet, IP and TCP with checksums. It
//! shares no code with the program and is strict: whatever a correct writer would not do is an error that
//! names the block. `streams.rs` beside it puts the bytes of conversations together.
//!
//! ```text
//! let capture = pcapng::read(&std::fs::read(path)?)?;
//! for conversation in streams::conversations(&capture)? {
//!     assert_eq!(conversation.written().bytes(), request);
//! }
//! ```

// Each test uses its own part of it.
#![allow(dead_code, unreachable_pub)]

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

/// Errors are for people.
pub type Result<T> = std::result::Result<T, String>;

pub const FIN: u8 = 0x01;
pub const SYN: u8 = 0x02;
pub const RST: u8 = 0x04;
pub const PSH: u8 = 0x08;
pub const ACK: u8 = 0x10;

/// A file of one section.
#[derive(Clone, Debug, Default)]
pub struct Capture {
    pub os: Option<String>,
    pub application: Option<String>,
    pub comments: Vec<String>,
    pub interfaces: Vec<Interface>,
    /// Process ids and names.
    pub processes: Vec<(u32, String)>,
    /// Lines of a key log, and how many packets are before them.
    pub secrets: Vec<(usize, String)>,
    pub packets: Vec<Packet>,
    pub statistics: Vec<Statistics>,
}

/// An interface description block.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interface {
    pub name: String,
    pub description: String,
    pub os: Option<String>,
    pub tsresol: u8,
    pub linktype: u16,
    pub snaplen: u32,
}

/// An interface statistics block. Times in nanoseconds since 1970.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    pub interface: usize,
    pub at: u64,
    pub start: Option<u64>,
    pub end: Option<u64>,
    pub ifrecv: Option<u64>,
    pub ifdrop: Option<u64>,
    pub osdrop: Option<u64>,
    pub comments: Vec<String>,
}

/// Direction of a packet, from its flags option.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Way {
    Inbound,
    Outbound,
}

/// An enhanced packet block and the TCP segment in it.
#[derive(Clone, PartialEq, Eq)]
pub struct Packet {
    /// Nanoseconds since 1970.
    pub at: u64,
    pub interface: usize,
    pub way: Option<Way>,
    /// Index of its process.
    pub process: Option<usize>,
    pub comments: Vec<String>,
    /// Bytes captured, and bytes that the packet had.
    pub captured: usize,
    pub original: usize,
    pub macs: ([u8; 6], [u8; 6]),
    pub from: SocketAddr,
    pub to: SocketAddr,
    pub flags: u8,
    pub seq: u32,
    pub ack: u32,
    pub window: u16,
    /// What was captured of the payload.
    pub payload: Vec<u8>,
    /// Bytes of payload that the packet had.
    pub payload_len: usize,
}

impl fmt::Debug for Packet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { from, to, flags, seq, ack, payload_len, comments, .. } = self;
        write!(f, "{from} > {to} flags {flags:#04x} seq {seq} ack {ack} length {payload_len} {comments:?}")
    }
}

impl Packet {
    pub fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Bytes lost before this packet, as its comments tell.
    pub fn lost(&self) -> Result<Option<u64>> {
        self.told("", &[" byte lost here", " bytes lost here"])
    }

    /// Lost bytes that the payload stands for.
    pub fn filled(&self) -> Result<Option<u64>> {
        let [one, many] = [" byte", " bytes"].map(|unit| format!("{unit} lost here, filled with zeros"));
        self.told("", &[&one, &many])
    }

    /// Bytes lost between the connection that broke off and this one.
    pub fn begun_again(&self) -> Result<Option<u64>> {
        self.told("goes on after the loss of ", &[" byte", " bytes"])
    }

    /// Whether the payload was never sent.
    pub fn is_added(&self) -> bool {
        self.comments.iter().any(|comment| comment == "tlsdump: added for the reader, not captured")
    }

    /// The number in the one comment that is it between `before` and one of `after`.
    fn told(&self, before: &str, after: &[&str]) -> Result<Option<u64>> {
        let told = self.comments.iter().filter_map(|c| c.strip_prefix("tlsdump: ")?.strip_prefix(before));
        let told = told.filter_map(|c| after.iter().find_map(|after| c.strip_suffix(after)));
        let mut numbers = told.map(str::parse);
        match (numbers.next(), numbers.next()) {
            (None, _) => Ok(None),
            (Some(Ok(n)), None) => Ok(Some(n)),
            _ => Err(format!("bad or double loss comment: {:?}", self.comments)),
        }
    }

    /// The value of `key=value` in the comments.
    pub fn value(&self, key: &str) -> Option<String> {
        self.comments.iter().find_map(|comment| value_in(comment, key))
    }
}

/// Finds `key=value` among the pairs of a comment; a value may be in double quotes.
fn value_in(comment: &str, key: &str) -> Option<String> {
    let mut rest = comment;
    while let Some((name, after)) = rest.split_once('=') {
        let (mut value, mut end) = (String::new(), after.len());
        let (mut quoted, mut escaped) = (false, false);
        for (at, c) in after.char_indices() {
            match c {
                _ if escaped => {
                    value.push(c);
                    escaped = false;
                }
                '\\' if quoted => escaped = true,
                '"' => quoted = !quoted,
                ' ' if !quoted => {
                    end = at;
                    break;
                }
                _ => value.push(c),
            }
        }
        if name == key {
            return Some(value);
        }
        rest = after[end..].trim_start();
    }
    None
}

/// Reads a whole file.
pub fn read(bytes: &[u8]) -> Result<Capture> {
    let mut capture = Capture::default();
    let mut at = 0;
    let mut blocks = 0;
    while at < bytes.len() {
        let place = format!("block {blocks} at byte {at}");
        let length = u32_at(bytes, at + 4).map_err(|e| format!("{place}: {e}"))? as usize;
        let block = bytes.get(at..at + length).filter(|b| b.len() >= 12 && b.len() % 4 == 0);
        let block = block.ok_or_else(|| format!("{place}: bad length {length}"))?;
        if u32_at(block, length - 4)? as usize != length {
            return Err(format!("{place}: its two lengths differ"));
        }
        let body = &block[8..length - 4];
        read_block(&mut capture, blocks, u32_at(block, 0)?, body).map_err(|e| format!("{place}: {e}"))?;
        at += length;
        blocks += 1;
    }
    if blocks == 0 { Err("empty file".to_owned()) } else { Ok(capture) }
}

/// How many bytes of a file that may be cut off are whole blocks.
pub fn whole_blocks(bytes: &[u8]) -> usize {
    let mut at = 0;
    while let Ok(length) = u32_at(bytes, at + 4) {
        let length = length as usize;
        if length < 12 || bytes.len() - at < length {
            break;
        }
        at += length;
    }
    at
}

fn read_block(capture: &mut Capture, number: usize, kind: u32, body: &[u8]) -> Result<()> {
    match (kind, number) {
        (0x0A0D_0D0A, 0) => read_section(capture, body),
        (0x0A0D_0D0A, _) => Err("a second section".to_owned()),
        (_, 0) => Err("the first block is no section header".to_owned()),
        (1, _) => read_interface(capture, body),
        (5, _) => read_statistics(capture, body),
        (6, _) => read_packet(capture, body),
        (10, _) => read_secrets(capture, body),
        (0x8000_0001, _) => read_process(capture, body),
        (kind, _) => Err(format!("unknown block type {kind:#x}")),
    }
}

fn read_section(capture: &mut Capture, body: &[u8]) -> Result<()> {
    if u32_at(body, 0)? != 0x1A2B_3C4D || u32_at(body, 4)? != 1 || u64_at(body, 8)? != u64::MAX {
        return Err("not a little-endian section of version 1.0 and unknown length".to_owned());
    }
    for (code, value) in options(body, 16)? {
        match code {
            1 => capture.comments.push(text(value)?),
            3 => capture.os = Some(text(value)?),
            4 => capture.application = Some(text(value)?),
            code => return Err(format!("section option {code}")),
        }
    }
    Ok(())
}

fn read_interface(capture: &mut Capture, body: &[u8]) -> Result<()> {
    let mut interface =
        Interface { linktype: u16_at(body, 0)?, snaplen: u32_at(body, 4)?, ..Interface::default() };
    for (code, value) in options(body, 8)? {
        match code {
            2 => interface.name = text(value)?,
            3 => interface.description = text(value)?,
            9 => interface.tsresol = *value.first().ok_or("empty if_tsresol")?,
            12 => interface.os = Some(text(value)?),
            code => return Err(format!("interface option {code}")),
        }
    }
    if interface.linktype != 1 || interface.tsresol != 9 {
        return Err(format!("not Ethernet in nanoseconds: {interface:?}"));
    }
    if capture.interfaces.first().is_some_and(|first| first.snaplen != interface.snaplen) {
        return Err("snap length differs from the first interface's".to_owned());
    }
    capture.interfaces.push(interface);
    Ok(())
}

fn read_process(capture: &mut Capture, body: &[u8]) -> Result<()> {
    match options(body, 4)?[..] {
        [(2, name)] => capture.processes.push((u32_at(body, 0)?, text(name)?)),
        ref other => return Err(format!("process options {other:?}")),
    }
    let last = capture.processes.last();
    let is_double = capture.processes.iter().rev().skip(1).any(|process| Some(process) == last);
    if is_double { Err(format!("{last:?} is described twice")) } else { Ok(()) }
}

fn read_secrets(capture: &mut Capture, body: &[u8]) -> Result<()> {
    let (kind, length) = (u32_at(body, 0)?, u32_at(body, 4)? as usize);
    if kind != 0x544c_534b || body.len() != 8 + length.next_multiple_of(4) {
        return Err(format!("{length} bytes of secrets of the kind {kind:#x}"));
    }
    let lines = String::from_utf8(body[8..8 + length].to_vec()).map_err(|e| e.to_string())?;
    capture.secrets.push((capture.packets.len(), lines));
    Ok(())
}

fn read_statistics(capture: &mut Capture, body: &[u8]) -> Result<()> {
    let mut read =
        Statistics { interface: u32_at(body, 0)? as usize, at: time(body, 4)?, ..Statistics::default() };
    for (code, value) in options(body, 12)? {
        match code {
            1 => read.comments.push(text(value)?),
            2 => read.start = Some(time(value, 0)?),
            3 => read.end = Some(time(value, 0)?),
            4 => read.ifrecv = Some(u64_at(value, 0)?),
            5 => read.ifdrop = Some(u64_at(value, 0)?),
            7 => read.osdrop = Some(u64_at(value, 0)?),
            code => return Err(format!("statistics option {code}")),
        }
    }
    if read.interface >= capture.interfaces.len() {
        return Err(format!("interface {} is not described", read.interface));
    }
    capture.statistics.push(read);
    Ok(())
}

fn read_packet(capture: &mut Capture, body: &[u8]) -> Result<()> {
    let interface = u32_at(body, 0)? as usize;
    let (captured, original) = (u32_at(body, 12)? as usize, u32_at(body, 16)? as usize);
    let snaplen = capture.interfaces.get(interface).ok_or("its interface is not described")?.snaplen as usize;
    if captured != original.min(snaplen) || captured > 262_144 {
        return Err(format!("{captured} of {original} bytes captured, snap length {snaplen}"));
    }
    let frame = body.get(20..20 + captured).ok_or("packet longer than its block")?;
    let mut packet = parse_frame(frame, original)?;
    packet.at = time(body, 4)?;
    packet.interface = interface;
    for (code, value) in options(body, 20 + captured.next_multiple_of(4))? {
        match code {
            1 => packet.comments.push(text(value)?),
            2 => {
                packet.way = match u32_at(value, 0)? {
                    1 => Some(Way::Inbound),
                    2 => Some(Way::Outbound),
                    flags => return Err(format!("flags word {flags:#x}")),
                }
            }
            32_769 => {
                let process = u32_at(value, 0)? as usize;
                capture.processes.get(process).ok_or("its process is not described")?;
                packet.process = Some(process);
            }
            code => return Err(format!("packet option {code}")),
        }
    }
    capture.packets.push(packet);
    Ok(())
}

/// Takes a frame apart. Checksums can only be verified of a frame that is whole.
fn parse_frame(frame: &[u8], original: usize) -> Result<Packet> {
    let mac =
        |at: usize| frame.get(at..at + 6).and_then(|m| m.try_into().ok()).ok_or("short Ethernet header");
    let macs = (mac(6)?, mac(0)?);
    let (from, to, header, length) = match frame.get(12..14) {
        Some([0x08, 0x00]) => parse_ipv4(&frame[14..])?,
        Some([0x86, 0xDD]) => parse_ipv6(&frame[14..])?,
        other => return Err(format!("EtherType {other:02x?}")),
    };
    if 14 + header.len() + length != original {
        return Err(format!("IP says {length} bytes after its header, the frame had {original}"));
    }
    let tcp = &frame[14 + header.len()..];
    let offset = usize::from(tcp.get(12).ok_or("short TCP header")? >> 4) * 4;
    if offset < 20 || tcp.len() < offset {
        return Err(format!("TCP header of {offset} bytes"));
    }
    if frame.len() == original && checksum(&[&pseudo_header(from, to, length), tcp]) != 0 {
        return Err("wrong TCP checksum".to_owned());
    }
    let be16 = |at: usize| u16::from_be_bytes([tcp[at], tcp[at + 1]]);
    let be32 = |at: usize| u32::from_be_bytes([tcp[at], tcp[at + 1], tcp[at + 2], tcp[at + 3]]);
    Ok(Packet {
        at: 0,
        interface: 0,
        way: None,
        process: None,
        comments: Vec::new(),
        captured: frame.len(),
        original,
        macs,
        from: SocketAddr::new(from, be16(0)),
        to: SocketAddr::new(to, be16(2)),
        flags: tcp[13],
        seq: be32(4),
        ack: be32(8),
        window: be16(14),
        payload: tcp[offset..].to_vec(),
        payload_len: length - offset,
    })
}

/// Source, destination, the header, bytes after it.
type Ip<'a> = (IpAddr, IpAddr, &'a [u8], usize);

fn parse_ipv4(packet: &[u8]) -> Result<Ip<'_>> {
    let header = packet.get(..20).ok_or("short IPv4 header")?;
    if header[0] != 0x45 || header[9] != 6 || header[6..8] != [0x40, 0] || header[8] == 0 {
        return Err(format!("not a plain TCP packet: {header:02x?}"));
    }
    if checksum(&[header]) != 0 {
        return Err("wrong IPv4 checksum".to_owned());
    }
    let ip = |at: usize| IpAddr::from([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let total = usize::from(u16::from_be_bytes([header[2], header[3]]));
    Ok((ip(12), ip(16), header, total.checked_sub(20).ok_or("IPv4 total length below 20")?))
}

fn parse_ipv6(packet: &[u8]) -> Result<Ip<'_>> {
    let header = packet.get(..40).ok_or("short IPv6 header")?;
    if header[0] >> 4 != 6 || header[6] != 6 || header[7] == 0 {
        return Err(format!("not a plain TCP packet: {header:02x?}"));
    }
    let ip = |at: usize| <[u8; 16]>::try_from(&header[at..at + 16]).map(IpAddr::from);
    let (from, to) = (ip(8).map_err(|e| e.to_string())?, ip(24).map_err(|e| e.to_string())?);
    Ok((from, to, header, usize::from(u16::from_be_bytes([header[4], header[5]]))))
}

fn pseudo_header(from: IpAddr, to: IpAddr, length: usize) -> Vec<u8> {
    let octets = |ip| match ip {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    };
    [octets(from), octets(to), (length as u32).to_be_bytes().to_vec(), vec![0, 0, 0, 6]].concat()
}

/// The Internet checksum over all parts, of which only the last may be odd; 0 where a right one is included.
fn checksum(parts: &[&[u8]]) -> u16 {
    let words = parts.iter().flat_map(|part| part.chunks(2));
    let mut sum: u64 = words.map(|w| u64::from(w[0]) << 8 | u64::from(*w.get(1).unwrap_or(&0))).sum();
    while sum > 0xFFFF {
        sum = (sum & 0xFFFF) + (sum >> 16);
    }
    !(sum as u16)
}

fn options(body: &[u8], mut at: usize) -> Result<Vec<(u16, &[u8])>> {
    let mut found = Vec::new();
    while at < body.len() {
        let (code, length) = (u16_at(body, at)?, usize::from(u16_at(body, at + 2)?));
        if code == 0 {
            let last = length == 0 && at + 4 == body.len();
            return if last { Ok(found) } else { Err("bytes after the last option".to_owned()) };
        }
        let value = body.get(at + 4..at + 4 + length).ok_or("option longer than its block")?;
        found.push((code, value));
        at += 4 + length.next_multiple_of(4);
    }
    if found.is_empty() { Ok(found) } else { Err("options without an end".to_owned()) }
}

/// Upper half first.
fn time(bytes: &[u8], at: usize) -> Result<u64> {
    Ok(u64::from(u32_at(bytes, at)?) << 32 | u64::from(u32_at(bytes, at + 4)?))
}

fn text(value: &[u8]) -> Result<String> {
    let text = String::from_utf8(value.to_vec()).map_err(|e| format!("text that is no UTF-8: {e}"))?;
    if text.chars().any(char::is_control) { Err(format!("control character in {text:?}")) } else { Ok(text) }
}

fn array<const N: usize>(bytes: &[u8], range: Range<usize>) -> Result<[u8; N]> {
    bytes.get(range).and_then(|b| b.try_into().ok()).ok_or_else(|| "cut short".to_owned())
}

fn u16_at(bytes: &[u8], at: usize) -> Result<u16> {
    array(bytes, at..at + 2).map(u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Result<u32> {
    array(bytes, at..at + 4).map(u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> Result<u64> {
    array(bytes, at..at + 8).map(u64::from_le_bytes)
}

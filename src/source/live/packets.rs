//! The real packets of captured sessions: packet sockets in the network namespaces of the target, of which
//! only what belongs to a session goes on ([`Held`]).

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::os::unix::fs::MetadataExt as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use crate::event::{Event, Packet, Tuple};
use crate::packet;
use crate::source::held::{Held, Unsorted};
use crate::sys::{PacketRing, SeenPacket};
use crate::wire;

/// `ARPHRD_ETHER` and `ARPHRD_LOOPBACK` of `linux/if_arp.h`: what begins with an Ethernet header.
const ETHERNET: [u16; 2] = [1, 772];
/// Bytes of two addresses, before the tag of a VLAN.
const ADDRESSES_BYTES: usize = 12;

/// Where packets are seen.
#[derive(Debug, Default)]
pub struct Wires {
    /// Open network namespaces, each once.
    pub namespaces: Vec<File>,
    /// The name of the interface; all where there is none.
    pub interface: Option<String>,
}

/// How long it takes at the most until a packet is there to be read: longer than the kernel fills a block of
/// the ring.
const DELAY: Duration = Duration::from_millis(60);
/// Most sessions of which it is remembered that they were told of.
const SESSIONS_MAX: usize = 65_536;

/// Packet sockets, and what they have seen.
#[derive(Debug)]
pub(super) struct Packets {
    rings: Vec<(u32, PacketRing)>,
    held: Held,
    /// Connections of sessions, and when that was told, the first first. Packets come later than records; a
    /// connection is a session's only when all is there that came over it before, so that the end of another
    /// between the same ends is not taken for a part of it.
    told: VecDeque<(Instant, u64, Tuple)>,
    sessions: HashMap<u64, Tuple>,
    framed: Vec<u8>,
}

impl Packets {
    /// Opens the sockets: every later packet is seen.
    pub(super) fn open(wires: &Wires) -> anyhow::Result<Self> {
        let mut rings = Vec::new();
        let mut refusal = None;
        for file in &wires.namespaces {
            // The number of a namespace has 32 bits.
            let netns = file.metadata().context("cannot look at a network namespace")?.ino() as u32;
            let file = file.try_clone().context("cannot keep a network namespace open")?;
            match PacketRing::open(file, wires.interface.clone()) {
                Ok(ring) => rings.push((netns, ring)),
                // Not every network namespace has an interface of that name.
                Err(error) => refusal = Some((netns, error)),
            }
        }
        match (refusal, &wires.interface) {
            (Some((_, error)), Some(name)) if rings.is_empty() => {
                Err(error).with_context(|| format!("cannot see packets of the interface {name}"))
            }
            (Some((netns, error)), None) => {
                Err(error).with_context(|| format!("cannot see packets in network namespace {netns}"))
            }
            _ if rings.is_empty() => bail!("no process of the target is there, and so no network namespace"),
            _ => Ok(Self {
                rings,
                held: Held::default(),
                told: VecDeque::new(),
                sessions: HashMap::new(),
                framed: Vec::new(),
            }),
        }
    }

    /// Looks whose connection a record of the kernel side tells of.
    pub(super) fn learn(&mut self, record: &[u8]) {
        let context = match wire::decode(record) {
            Ok(Event::Data(data)) => data.context,
            Ok(Event::Name(name)) => name.context,
            Ok(Event::Secret(secret)) => secret.context,
            _ => return,
        };
        let Some(tuple) = context.conn.tuple else { return };
        if self.sessions.get(&context.session.id) != Some(&tuple) {
            if self.sessions.len() >= SESSIONS_MAX {
                // They are told of again with their next record.
                self.sessions.clear();
            }
            self.sessions.insert(context.session.id, tuple);
            self.told.push_back((Instant::now(), context.session.id, tuple));
            self.held.expect(&tuple);
        }
    }

    /// Appends packets of known connections, and holds the others. Says whether any came, or may
    /// come.
    pub(super) fn read(&mut self, batch: &mut Vec<u8>) -> bool {
        let Self { rings, held, told, framed, .. } = self;
        let before = Instant::now();
        let mut any = false;
        for (netns, ring) in rings {
            any |= ring.read(&mut |seen| {
                let bytes = frame(&seen, framed);
                let added = bytes.len().saturating_sub(seen.bytes.len()) as u32;
                let Some(segment) = packet::segment(bytes) else { return };
                let unsorted = Unsorted {
                    at: seen.at,
                    netns: *netns,
                    interface: seen.interface,
                    from: segment.from,
                    length: seen.length.saturating_add(added),
                    bytes,
                };
                held.packet(&unsorted, &segment, &mut |packet| append(packet, batch));
            });
        }
        while let Some((_, session, tuple)) = told.pop_front_if(|(at, ..)| *at + DELAY <= before) {
            held.learn(session, &tuple, &mut |packet| append(packet, batch));
            any = true;
        }
        any || !told.is_empty()
    }

    /// Packets of sessions that were forgotten, and packets of anybody that found a ring full.
    pub(super) fn lost(&mut self) -> u64 {
        let dropped: u64 = self.rings.iter_mut().filter_map(|(_, ring)| ring.dropped().ok()).sum();
        dropped + self.held.lost()
    }
}

fn append(packet: &Packet<'_>, batch: &mut Vec<u8>) {
    wire::encode(&Event::Packet(*packet), batch);
}

/// The packet with an Ethernet header, and the tag in it that the kernel has taken out. `made` is used where
/// something must be added.
fn frame<'a>(seen: &SeenPacket<'a>, made: &'a mut Vec<u8>) -> &'a [u8] {
    made.clear();
    if !ETHERNET.contains(&seen.hardware) {
        // IP straight away, as in a tunnel.
        let kind: u16 = if seen.bytes.first().is_some_and(|byte| byte >> 4 == 6) { 0x86dd } else { 0x0800 };
        made.extend_from_slice(&[0; ADDRESSES_BYTES]);
        made.extend_from_slice(&kind.to_be_bytes());
        made.extend_from_slice(seen.bytes);
        return made;
    }
    let (Some((protocol, tag)), Some((addresses, rest))) =
        (seen.vlan, seen.bytes.split_at_checked(ADDRESSES_BYTES))
    else {
        return seen.bytes;
    };
    made.extend_from_slice(addresses);
    made.extend_from_slice(&protocol.to_be_bytes());
    made.extend_from_slice(&tag.to_be_bytes());
    made.extend_from_slice(rest);
    made
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framed(hardware: u16, vlan: Option<(u16, u16)>, bytes: &[u8]) -> Vec<u8> {
        let seen = SeenPacket {
            at: 0,
            interface: 1,
            outgoing: true,
            hardware,
            vlan,
            length: bytes.len() as u32,
            bytes,
        };
        frame(&seen, &mut Vec::new()).to_vec()
    }

    #[test]
    fn every_packet_has_an_ethernet_header_with_its_tag() {
        assert_eq!(framed(1, None, b"as it is"), b"as it is");
        assert_eq!(
            framed(772, Some((0x8100, 5)), b"AAAAAABBBBBB\x08\0rest"),
            b"AAAAAABBBBBB\x81\0\0\x05\x08\0rest"
        );
        assert_eq!(framed(1, Some((0x8100, 5)), b"short"), b"short");
        assert_eq!(framed(65534, None, b"\x45rest"), b"\0\0\0\0\0\0\0\0\0\0\0\0\x08\0\x45rest");
        assert_eq!(framed(65534, None, b"\x60rest"), b"\0\0\0\0\0\0\0\0\0\0\0\0\x86\xdd\x60rest");
    }
}

//! Ethernet, IP and TCP headers around a payload, with right checksums.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::event::Dir;
use crate::flow::Flow;

use super::checksum::Sum;

/// Bytes of an Ethernet II header.
const ETHERNET_BYTES: usize = 14;
/// Bytes of an IPv4 header without options.
const IPV4_BYTES: u16 = 20;
/// Bytes of an IPv6 header without extension headers.
const IPV6_BYTES: usize = 40;
/// Bytes of a TCP header without options.
const TCP_BYTES: usize = 20;
/// Most bytes of a TCP header's options, as drawn.
const TCP_OPTIONS_MAX: usize = 8;

/// Most bytes of IP and TCP headers.
pub(super) const IP_TCP_MAX: usize = IPV6_BYTES + TCP_BYTES + TCP_OPTIONS_MAX;
/// Most bytes of all headers.
pub(super) const HEADERS_MAX: usize = ETHERNET_BYTES + IP_TCP_MAX;

const ETHERTYPE_IPV4: [u8; 2] = [0x08, 0x00];
const ETHERTYPE_IPV6: [u8; 2] = [0x86, 0xdd];
/// The number of TCP among the protocols of IP.
const TCP: u32 = 6;

/// Time to live and hop limit, as Linux sends.
const HOPS: u8 = 64;
/// Locally administered addresses (RFC 7042, section 2.1), the same in every flow: the end in the traced
/// process, and the other end.
const LOCAL_MAC: [u8; 6] = [0x02, b't', b'l', b's', 0, 1];
const REMOTE_MAC: [u8; 6] = [0x02, b't', b'l', b's', 0, 2];

/// The addresses of a flow in one direction, in one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Addresses {
    V4(Ipv4Addr, Ipv4Addr),
    V6(Ipv6Addr, Ipv6Addr),
}

/// Sender and receiver of what goes in direction `dir`.
pub(super) fn ends(flow: &Flow, dir: Dir) -> (SocketAddr, SocketAddr) {
    match dir {
        Dir::Out => (flow.local, flow.remote),
        Dir::In => (flow.remote, flow.local),
    }
}

/// Brings two addresses into one family. No packet has an IPv4 and an IPv6 address, but a recorded stream
/// may name such a pair: the IPv4 address is then drawn as IPv4-mapped (RFC 4291, section 2.5.5.2).
pub(super) fn addresses(from: IpAddr, to: IpAddr) -> Addresses {
    let mapped = |address| match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    };
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => Addresses::V4(from, to),
        _ => Addresses::V6(mapped(from), mapped(to)),
    }
}

/// The TCP header of a segment, but for its checksum.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tcp {
    pub(super) source_port: u16,
    pub(super) destination_port: u16,
    pub(super) sequence: u32,
    pub(super) acknowledgment: u32,
    /// As in the header (RFC 9293, section 3.1).
    pub(super) flags: u8,
    pub(super) window: u16,
    /// A multiple of four bytes, at most [`TCP_OPTIONS_MAX`].
    pub(super) options: &'static [u8],
}

/// The headers of a frame, put together in place.
#[derive(Debug)]
pub(super) struct Headers {
    bytes: [u8; HEADERS_MAX],
    length: usize,
}

impl Headers {
    /// Those of `tcp` and a payload, given in parts, with right checksums. The payload has at most
    /// [`super::SEGMENT_MAX`] bytes.
    pub(super) fn new(dir: Dir, addresses: Addresses, tcp: &Tcp, payload: &[&[u8]]) -> Self {
        let payload_bytes: usize = payload.iter().map(|part| part.len()).sum();
        // SEGMENT_MAX and the longest header together fit in 16 bits: checked where SEGMENT_MAX is defined.
        let length = (TCP_BYTES + tcp.options.len() + payload_bytes) as u16;
        let mut headers = Self { bytes: [0; HEADERS_MAX], length: 0 };
        let (source, destination) = match dir {
            Dir::Out => (LOCAL_MAC, REMOTE_MAC),
            Dir::In => (REMOTE_MAC, LOCAL_MAC),
        };
        headers.push(&destination);
        headers.push(&source);
        let pseudo = match addresses {
            Addresses::V4(from, to) => headers.ipv4(from, to, length),
            Addresses::V6(from, to) => headers.ipv6(from, to, length),
        };
        headers.tcp(tcp, payload.iter().fold(pseudo, |sum, part| sum.with(part)));
        headers
    }

    /// All of them, one after another.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    /// An IPv4 header (RFC 791, section 3.1) around so many bytes of TCP; gives the sum of the pseudo header
    /// (RFC 9293, section 3.1).
    fn ipv4(&mut self, from: Ipv4Addr, to: Ipv4Addr, length: u16) -> Sum {
        self.push(&ETHERTYPE_IPV4);
        let addresses = [from.to_bits(), to.to_bits()];
        let fields = [
            // Version, length in words, no service; the length of all.
            0x4500 << 16 | u32::from(length + IPV4_BYTES),
            // No identification; don't fragment.
            0x4000,
            // The checksum is in the lower half.
            u32::from(HOPS) << 24 | TCP << 16,
        ];
        let sum = Sum::default().with_words(&addresses);
        self.words([fields[0], fields[1], fields[2] | u32::from(sum.with_words(&fields).checksum())]);
        self.words(addresses);
        sum.with_words(&[TCP, u32::from(length)])
    }

    /// The same with an IPv6 header (RFC 8200, sections 3 and 8.1).
    fn ipv6(&mut self, from: Ipv6Addr, to: Ipv6Addr, length: u16) -> Sum {
        self.push(&ETHERTYPE_IPV6);
        // Version, class and flow label; length, next header, hops.
        self.words([0x6000 << 16, u32::from(length) << 16 | TCP << 8 | u32::from(HOPS)]);
        self.push(&from.octets());
        self.push(&to.octets());
        Sum::default().with(&from.octets()).with(&to.octets()).with_words(&[TCP, u32::from(length)])
    }

    /// A TCP header (RFC 9293, section 3.1); `sum` is that of what is to be in its checksum beside it.
    fn tcp(&mut self, tcp: &Tcp, sum: Sum) {
        let words = ((TCP_BYTES + tcp.options.len()) / 4) as u32;
        let fields = [
            u32::from(tcp.source_port) << 16 | u32::from(tcp.destination_port),
            tcp.sequence,
            tcp.acknowledgment,
            words << 28 | u32::from(tcp.flags) << 16 | u32::from(tcp.window),
        ];
        let checksum = Sum::default().with(tcp.options).with_words(&fields).and(sum).checksum();
        self.words(fields);
        // No urgent pointer.
        self.words([u32::from(checksum) << 16]);
        self.bytes[self.length..][..tcp.options.len()].copy_from_slice(tcp.options);
        self.length += tcp.options.len();
    }

    fn words<const N: usize>(&mut self, words: [u32; N]) {
        words.iter().for_each(|word| self.push(&word.to_be_bytes()));
    }

    fn push<const N: usize>(&mut self, bytes: &[u8; N]) {
        self.bytes[self.length..][..N].copy_from_slice(bytes);
        self.length += N;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use etherparse::{EtherType, Ethernet2Header, IpNumber, Ipv4Header, Ipv6Header, TcpHeader};
    use proptest::prelude::{any, prop, proptest};

    use super::*;

    /// The frame as etherparse composes it.
    fn expected(dir: Dir, addresses: Addresses, tcp: &Tcp, payload: &[u8]) -> Vec<u8> {
        let mut header = TcpHeader {
            source_port: tcp.source_port,
            destination_port: tcp.destination_port,
            sequence_number: tcp.sequence,
            acknowledgment_number: tcp.acknowledgment,
            fin: tcp.flags & 1 != 0,
            syn: tcp.flags & 2 != 0,
            rst: tcp.flags & 4 != 0,
            psh: tcp.flags & 8 != 0,
            ack: tcp.flags & 16 != 0,
            window_size: tcp.window,
            options: etherparse::TcpOptions::try_from_slice(tcp.options).unwrap(),
            ..TcpHeader::default()
        };
        let length = (header.header_len() + payload.len()) as u16;
        let (source, destination) = match dir {
            Dir::Out => (LOCAL_MAC, REMOTE_MAC),
            Dir::In => (REMOTE_MAC, LOCAL_MAC),
        };
        let ethernet = |ether_type| Ethernet2Header { source, destination, ether_type }.to_bytes().to_vec();
        let mut frame = match addresses {
            Addresses::V4(from, to) => {
                let mut ip =
                    Ipv4Header::new(length, HOPS, IpNumber::TCP, from.octets(), to.octets()).unwrap();
                ip.dont_fragment = true;
                ip.header_checksum = ip.calc_header_checksum();
                header.checksum = header.calc_checksum_ipv4(&ip, payload).unwrap();
                [ethernet(EtherType::IPV4), ip.to_bytes().to_vec()].concat()
            }
            Addresses::V6(from, to) => {
                let ip = Ipv6Header {
                    payload_length: length,
                    next_header: IpNumber::TCP,
                    hop_limit: HOPS,
                    source: from.octets(),
                    destination: to.octets(),
                    ..Ipv6Header::default()
                };
                header.checksum = header.calc_checksum_ipv6(&ip, payload).unwrap();
                [ethernet(EtherType::IPV6), ip.to_bytes().to_vec()].concat()
            }
        };
        frame.extend_from_slice(&header.to_bytes());
        frame
    }

    proptest! {
        #[test]
        fn headers_are_those_of_etherparse(
            (from, to) in any::<(u128, u128)>(),
            (v4, out, syn) in any::<(bool, bool, bool)>(),
            (source_port, destination_port, window) in any::<(u16, u16, u16)>(),
            (sequence, acknowledgment) in any::<(u32, u32)>(),
            flags in 0u8..32,
            parts in prop::collection::vec(any::<Vec<u8>>(), 0..4),
        ) {
            let addresses = if v4 {
                Addresses::V4(Ipv4Addr::from(from as u32), Ipv4Addr::from(to as u32))
            } else {
                Addresses::V6(Ipv6Addr::from(from), Ipv6Addr::from(to))
            };
            let options: &[u8] = if syn { &[2, 4, 1, 2, 1, 3, 3, 7] } else { &[] };
            let dir = if out { Dir::Out } else { Dir::In };
            let tcp = Tcp { source_port, destination_port, sequence, acknowledgment, flags, window, options };
            let payload: Vec<_> = parts.iter().map(Vec::as_slice).collect();
            let headers = Headers::new(dir, addresses, &tcp, &payload);
            assert_eq!(headers.bytes(), expected(dir, addresses, &tcp, &parts.concat()));
        }
    }

    #[test]
    fn a_mixed_pair_is_drawn_as_ipv6() {
        let v4: IpAddr = Ipv4Addr::new(10, 0, 0, 1).into();
        let v6: IpAddr = Ipv6Addr::LOCALHOST.into();
        let mapped = Ipv4Addr::new(10, 0, 0, 1).to_ipv6_mapped();
        assert_eq!(addresses(v4, v6), Addresses::V6(mapped, Ipv6Addr::LOCALHOST));
        assert_eq!(addresses(v6, v4), Addresses::V6(Ipv6Addr::LOCALHOST, mapped));
    }
}

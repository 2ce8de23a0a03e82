//! Ethernet, IP and TCP headers around a payload, with right checksums.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use etherparse::{EtherType, Ethernet2Header, IpNumber, Ipv4Header, Ipv6Header, TcpHeader};

use crate::event::Dir;
use crate::flow::Flow;

/// Bytes of an Ethernet II header.
pub(super) const ETHERNET_BYTES: usize = 14;
/// Most bytes of an IP header as drawn: IPv6, without extension headers.
pub(super) const IP_MAX: usize = Ipv6Header::LEN;
/// Most bytes of a TCP header.
pub(super) const TCP_MAX: usize = TcpHeader::MAX_LEN;

/// Where the checksum is in a TCP header (RFC 9293, section 3.1).
const CHECKSUM_IN_TCP: usize = 16;

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

/// Writes the frame of `tcp` and a payload, given in parts, to `buffer`, which is emptied first. The checksum
/// of `tcp` is computed here. The payload has at most [`super::SEGMENT_MAX`] bytes.
pub(super) fn write(buffer: &mut Vec<u8>, dir: Dir, addresses: Addresses, tcp: &TcpHeader, parts: &[&[u8]]) {
    let payload: usize = parts.iter().map(|part| part.len()).sum();
    // SEGMENT_MAX and the longest header together fit in 16 bits (checked where SEGMENT_MAX is defined), so
    // neither this conversion nor a checksum can fail.
    let length = u16::try_from(tcp.header_len() + payload).unwrap_or(u16::MAX);
    buffer.clear();
    write_addresses(buffer, dir, addresses, length);
    let tcp_begin = buffer.len();
    buffer.extend_from_slice(&tcp.to_bytes());
    let payload_begin = buffer.len();
    parts.iter().for_each(|part| buffer.extend_from_slice(part));

    let payload = &buffer[payload_begin..];
    let checksum = match addresses {
        Addresses::V4(from, to) => tcp.calc_checksum_ipv4_raw(from.octets(), to.octets(), payload),
        Addresses::V6(from, to) => tcp.calc_checksum_ipv6_raw(from.octets(), to.octets(), payload),
    };
    let at = tcp_begin + CHECKSUM_IN_TCP;
    buffer[at..at + 2].copy_from_slice(&checksum.unwrap_or(0).to_be_bytes());
}

/// Ethernet and IP headers around `length` bytes of TCP.
fn write_addresses(buffer: &mut Vec<u8>, dir: Dir, addresses: Addresses, length: u16) {
    let (source, destination) = match dir {
        Dir::Out => (LOCAL_MAC, REMOTE_MAC),
        Dir::In => (REMOTE_MAC, LOCAL_MAC),
    };
    match addresses {
        Addresses::V4(from, to) => {
            let mut ip = Ipv4Header {
                total_len: Ipv4Header::MIN_LEN_U16.saturating_add(length),
                time_to_live: HOPS,
                dont_fragment: true,
                protocol: IpNumber::TCP,
                source: from.octets(),
                destination: to.octets(),
                ..Ipv4Header::default()
            };
            ip.header_checksum = ip.calc_header_checksum();
            let ethernet = Ethernet2Header { source, destination, ether_type: EtherType::IPV4 };
            buffer.extend_from_slice(&ethernet.to_bytes());
            buffer.extend_from_slice(&ip.to_bytes());
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
            let ethernet = Ethernet2Header { source, destination, ether_type: EtherType::IPV6 };
            buffer.extend_from_slice(&ethernet.to_bytes());
            buffer.extend_from_slice(&ip.to_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mixed_pair_is_drawn_as_ipv6() {
        let v4: IpAddr = Ipv4Addr::new(10, 0, 0, 1).into();
        let v6: IpAddr = Ipv6Addr::LOCALHOST.into();
        let mapped = Ipv4Addr::new(10, 0, 0, 1).to_ipv6_mapped();
        assert_eq!(addresses(v4, v6), Addresses::V6(mapped, Ipv6Addr::LOCALHOST));
        assert_eq!(addresses(v6, v4), Addresses::V6(Ipv6Addr::LOCALHOST, mapped));
    }
}

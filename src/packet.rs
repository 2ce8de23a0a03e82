//! What is read of a real packet: between whom it goes, and whether a TLS session begins in it.

use std::net::{IpAddr, SocketAddr};

use etherparse::{LaxNetSlice, LaxSlicedPacket, TransportSlice};

use crate::event::RANDOM_BYTES;

/// A TCP segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment<'a> {
    /// Who sends it.
    pub from: SocketAddr,
    /// Who gets it.
    pub to: SocketAddr,
    /// Whether it asks for a connection: SYN without ACK.
    pub opens: bool,
    /// Its bytes, as far as they are there.
    pub payload: &'a [u8],
}

/// Reads a packet that begins with an Ethernet header, VLAN tags or not; None for one that is no TCP, that is
/// cut before its ports, or that is a fragment.
#[must_use]
pub fn segment(frame: &[u8]) -> Option<Segment<'_>> {
    let packet = LaxSlicedPacket::from_ethernet(frame).ok()?;
    let (from, to): (IpAddr, IpAddr) = match packet.net.as_ref()? {
        LaxNetSlice::Ipv4(ip) => (ip.header().source_addr().into(), ip.header().destination_addr().into()),
        LaxNetSlice::Ipv6(ip) => (ip.header().source_addr().into(), ip.header().destination_addr().into()),
        _ => return None,
    };
    let Some(TransportSlice::Tcp(tcp)) = packet.transport else { return None };
    Some(Segment {
        from: SocketAddr::new(from, tcp.source_port()),
        to: SocketAddr::new(to, tcp.destination_port()),
        opens: tcp.syn() && !tcp.ack(),
        payload: tcp.payload(),
    })
}

/// The random number of the ClientHello that begins `payload`, if one does (RFC 8446, sections 4.1.2, 5.1).
#[must_use]
pub fn client_random(payload: &[u8]) -> Option<[u8; RANDOM_BYTES]> {
    // Record: handshake, version 3.x, length. Message: ClientHello, length, version 3.x.
    let [22, 3, _, _, _, 1, _, _, _, 3, _, rest @ ..] = payload else { return None };
    rest.first_chunk().copied()
}

#[cfg(test)]
mod tests {
    use etherparse::PacketBuilder;

    use super::*;

    fn built(payload: &[u8]) -> Vec<u8> {
        let builder = PacketBuilder::ethernet2([1; 6], [2; 6]);
        let builder = builder.single_vlan(etherparse::VlanId::try_new(5).unwrap_or_default());
        let builder = builder.ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64).tcp(40_000, 443, 1, 100).syn();
        let mut frame = Vec::new();
        assert!(builder.write(&mut frame, payload).is_ok());
        frame
    }

    #[test]
    fn the_ends_of_a_tagged_packet() {
        let frame = built(b"abc");
        let expected = Segment {
            from: SocketAddr::from(([10, 0, 0, 1], 40_000)),
            to: SocketAddr::from(([10, 0, 0, 2], 443)),
            opens: true,
            payload: b"abc",
        };
        assert_eq!(segment(&frame), Some(expected));
        assert_eq!(segment(&frame[..frame.len() - 2]).map(|segment| segment.payload), Some(&b"a"[..]));
        for length in 0..58 {
            assert_eq!(segment(&frame[..length.min(frame.len())]).map(|s| s.payload.len()).unwrap_or(0), 0);
        }
    }

    #[test]
    fn the_random_number_is_in_the_first_hello() {
        let mut hello = vec![22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3];
        hello.extend_from_slice(&[7; RANDOM_BYTES]);
        assert_eq!(client_random(&hello), Some([7; RANDOM_BYTES]));
        assert_eq!(client_random(&hello[..42]), None);
        for at in [0, 1, 5, 9] {
            let mut other = hello.clone();
            other[at] += 1;
            assert_eq!(client_random(&other), None, "byte {at}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_end_in_an_answer(bytes: Vec<u8>) {
            let _ = (segment(&bytes), client_random(&bytes));
        }
    }
}

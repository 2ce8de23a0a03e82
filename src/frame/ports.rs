//! What is written on ports where Wireshark does not look for TLS: the only table of it.
//!
//! A dissector that has the port for itself takes what comes for its own protocol, and TLS shows as nothing
//! or as garbage, whatever is inside. Plain bytes are never worse there, and right if they are that protocol.
//! Which ports these are was tried out with all 65,535 (`tests/sweep.rs`, tshark 4.0).

/// How bytes are written on a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    /// In the envelope.
    Tls,
    /// In the envelope, after the client asked for it and the server agreed.
    Ask {
        /// What the client sends.
        question: &'static [u8],
        /// What the server answers.
        answer: &'static [u8],
    },
    /// As they are.
    Plain,
    /// As they are; it is HTTP's port, so that HTTP/2 is known there by the client's preface.
    Http,
}

/// PostgreSQL's SSLRequest, and the answer that it is granted. With it every protocol shows on that port.
const POSTGRESQL: Rule = Rule::Ask { question: &[0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f], answer: b"S" };

/// Ports of Wireshark's HTTP.
const HTTP: [u16; 11] = [80, 1900, 2710, 2869, 3128, 3132, 3689, 5985, 8080, 8088, 11371];

/// Ports, from and to, of dissectors that take nothing but their own protocol; in order. Among them are SMTP
/// (25, 587), LDAP (389), MQTT (1883), MySQL (3306), SIP (5060), AMQP (5672), Redis (6379), Kafka (9092) and
/// memcached (11211), and ports that belong to another protocol than the usual one: NATS (4222), registries
/// (5000).
#[rustfmt::skip]
const OWNED: &[(u16, u16)] = &[
    (7, 7), (13, 13), (19, 23), (25, 25), (37, 37), (42, 43), (49, 49), (53, 53), (70, 70), (79, 79),
    (88, 88), (102, 102), (110, 111), (119, 119), (123, 123), (139, 139), (161, 162), (179, 179),
    (210, 210), (323, 323), (389, 389), (427, 427), (445, 445), (464, 464), (500, 500), (512, 515),
    (524, 524), (547, 548), (554, 554), (564, 564), (587, 587), (631, 631), (639, 639), (647, 647),
    (705, 705), (854, 854), (862, 862), (873, 873), (925, 925), (988, 988), (1080, 1080), (1090, 1090),
    (1099, 1099), (1102, 1102), (1153, 1153), (1194, 1194), (1213, 1213), (1344, 1344), (1433, 1433),
    (1533, 1533), (1547, 1547), (1723, 1723), (1861, 1861), (1863, 1863), (1883, 1883), (1935, 1935),
    (2099, 2099), (2123, 2123), (2126, 2126), (2152, 2152), (2234, 2234), (2240, 2240), (2269, 2269),
    (2321, 2322), (2345, 2345), (2401, 2401), (2404, 2404), (2433, 2433), (2502, 2502), (2571, 2571),
    (2575, 2575), (2600, 2600), (2812, 2812), (2944, 2945), (3002, 3003), (3006, 3006), (3014, 3014),
    (3016, 3019), (3245, 3248), (3268, 3268), (3288, 3288), (3306, 3306), (3357, 3357), (3369, 3369),
    (3386, 3386), (3452, 3452), (3478, 3478), (3632, 3632), (3671, 3671), (3724, 3724), (3804, 3804),
    (3860, 3860), (3863, 3863), (3868, 3868), (3918, 3918), (4002, 4002), (4155, 4155), (4189, 4189),
    (4222, 4223), (4249, 4250), (4342, 4342), (4420, 4420), (4551, 4551), (4555, 4556), (4712, 4712),
    (4730, 4730), (4739, 4739), (4788, 4788), (4840, 4840), (4880, 4880), (5000, 5000), (5010, 5010),
    (5060, 5060), (5084, 5084), (5094, 5094), (5222, 5222), (5253, 5253), (5353, 5353), (5445, 5445),
    (5500, 5501), (5534, 5534), (5672, 5672), (5683, 5683), (5701, 5701), (5900, 5901), (5997, 5997),
    (6000, 6063), (6068, 6068), (6084, 6084), (6121, 6121), (6160, 6160), (6346, 6346), (6379, 6379),
    (6417, 6417), (6653, 6653), (6667, 6668), (6881, 6889), (7000, 7000), (7075, 7075), (7171, 7172),
    (7236, 7236), (7275, 7276), (7871, 7871), (7911, 7911), (8009, 8009), (8023, 8023), (8074, 8074),
    (8085, 8085), (8554, 8554), (8567, 8567), (9009, 9009), (9092, 9092), (9300, 9300), (9418, 9418),
    (9956, 9956), (10288, 10288), (11211, 11211), (13400, 13400), (14001, 14001), (15740, 15740),
    (17500, 17500), (17755, 17756), (19006, 19006), (19042, 19043), (19506, 19506), (19543, 19543),
    (21064, 21064), (24800, 24800), (29418, 29418), (34980, 34980), (44321, 44322), (44818, 44818),
    (48049, 48049), (48898, 48898), (57000, 57000),
];

/// How sealed records are written on the server's `port`: never as they are.
pub(super) fn rule_sealed(port: u16) -> Rule {
    match rule(port, b"") {
        ask @ Rule::Ask { .. } => ask,
        Rule::Tls | Rule::Plain | Rule::Http => Rule::Tls,
    }
}

/// How bytes are written on the server's `port`, if these are the first that are seen of them.
pub(super) fn rule(port: u16, bytes: &[u8]) -> Rule {
    let after = OWNED.partition_point(|range| range.0 <= port);
    let is_owned = after > 0 && port <= OWNED[after - 1].1;
    match port {
        5432 => POSTGRESQL,
        // TLS is looked for there, but nobody looks for this protocol inside.
        9042 if is_cql(bytes) => Rule::Plain,
        _ if HTTP.contains(&port) => Rule::Http,
        _ if is_owned => Rule::Plain,
        _ => Rule::Tls,
    }
}

/// Whether the bytes begin with a frame of Cassandra's protocol, versions 3 to 5 (section 2 of its
/// specification): version and direction, flags, stream (2 bytes), opcode, length (4 bytes, at most 256 MiB).
fn is_cql(bytes: &[u8]) -> bool {
    let Some([version, flags, _, _, opcode, length, _, _, _]) = bytes.first_chunk() else { return false };
    matches!(version & 0x7f, 3..=5) && *flags <= 0x1f && *opcode <= 0x10 && *length <= 0x10
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_order() {
        assert!(OWNED.iter().all(|(from, to)| from <= to));
        assert!(OWNED.windows(2).all(|pair| pair[0].1 < pair[1].0));
    }

    #[test]
    fn every_rule_has_its_ports() {
        let plain = [7, 13, 389, 5672, 6000, 6063, 6379, 9092, 57000];
        assert!(plain.iter().all(|&port| rule(port, b"") == Rule::Plain));
        assert!([0, 1, 8, 443, 5999, 6064, 8443, 57001, u16::MAX].iter().all(|&p| rule(p, b"") == Rule::Tls));
        assert_eq!((rule(80, b""), rule(8080, b"")), (Rule::Http, Rule::Http));
        assert_eq!(rule(5432, b""), POSTGRESQL);
        assert_eq!(rule(9042, b"\x04\0\0\0\x05\0\0\0\0"), Rule::Plain);
        assert_eq!(rule(9042, b"GET / HTTP/1.1"), Rule::Tls);
    }
}

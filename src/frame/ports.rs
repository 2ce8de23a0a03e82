//! What is written on ports where Wireshark does not look for TLS: the only table of it.

/// How bytes are written on a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    /// In the envelope.
    Tls,
    /// In the envelope, after the client asked for it and the server agreed.
    Ask(&'static [u8], &'static [u8]),
    /// As they are: the dissector of the port takes what comes for its own protocol.
    Plain,
}

/// PostgreSQL: an SSLRequest and the answer that it is granted.
const POSTGRESQL: Rule = Rule::Ask(&[0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f], b"S");

/// By server port; all other ports have [`Rule::Tls`].
const TABLE: &[(u16, Rule)] = &[
    // Wireshark's HTTP takes no TLS on its ports.
    (80, Rule::Plain),
    (1900, Rule::Plain),
    (2710, Rule::Plain),
    (2869, Rule::Plain),
    (3128, Rule::Plain),
    (3132, Rule::Plain),
    (3689, Rule::Plain),
    (5985, Rule::Plain),
    (8080, Rule::Plain),
    (8088, Rule::Plain),
    (11371, Rule::Plain),
    (5432, POSTGRESQL),
];

/// How bytes are written on `port`, if these are the first that are seen.
pub(super) fn rule(port: u16, _bytes: &[u8]) -> Rule {
    TABLE.iter().find(|row| row.0 == port).map_or(Rule::Tls, |row| row.1)
}

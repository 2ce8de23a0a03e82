//! Record bytes ↔ events: the only place that knows the layout of `bpf/abi.h`.
//!
//! A record begins with its size (u32, the whole record), its kind (u16) and flags (u16). All integers
//! are little endian. Kinds below 16 are made by the kernel side, laid out as in `bpf/abi.h`; those from 16
//! on are made by user space and hold the facts that are not in the kernel's records. `docs/stream-format.md`
//! describes all of them.

mod decode;
mod encode;

use std::fmt;

use crate::event::PACKET_BYTES_MAX;

pub use decode::{Glance, decode, decode_counters, decode_session, glance};
pub use encode::encode;

/// Bytes of the header that begins every record.
pub const HEADER_BYTES: usize = 8;
/// Bytes of a record about a session before its own fields.
pub const CONTEXT_BYTES: usize = 128;
/// Bytes of a data record before its payload.
pub const DATA_HEADER_BYTES: usize = CONTEXT_BYTES + 16;
/// Bytes of a record of a packet before those of the packet.
const PACKET_HEADER_BYTES: usize = HEADER_BYTES + 40;
/// Largest record: that of the largest packet. Those of plaintext (`CHUNK_BYTES` of `bpf/abi.h`) and of names
/// have less than 64 KiB.
pub const RECORD_BYTES_MAX: usize = PACKET_HEADER_BYTES + PACKET_BYTES_MAX;

/// Where the task begins in a record about a session, and in one about the end of a process.
pub(crate) const TASK_IN_CONTEXT: usize = HEADER_BYTES + 24;
pub(crate) const TASK_IN_EXIT: usize = HEADER_BYTES + 8;
/// Where the connection begins in a record about a session, with the family of its addresses.
pub(crate) const CONN_IN_CONTEXT: usize = TASK_IN_CONTEXT + 48;
/// Where the direction is in a record of data.
pub(crate) const DIR_IN_DATA: usize = CONTEXT_BYTES + 12;

/// Flag in the header of a record of kind [`KIND_EXIT`]: bytes of the process's sessions were lost.
const EXIT_LOST: u16 = 1;

const KIND_DATA: u16 = 1;
const KIND_CLOSE: u16 = 2;
const KIND_EXIT: u16 = 3;
const KIND_NAME: u16 = 4;
const KIND_SECRET: u16 = 5;
const KIND_START: u16 = 16;
const KIND_CLOCK: u16 = 17;
const KIND_LIBRARY: u16 = 18;
const KIND_CONTAINER: u16 = 19;
const KIND_COUNTERS: u16 = 20;
const KIND_TOTALS: u16 = 21;
const KIND_PACKET: u16 = 22;

/// Why bytes are not a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// The record ends before its fields do, or its size is not that of its contents.
    Length,
    /// A field has a value that is not defined.
    Value(&'static str),
    /// A kind of record that this version does not know; it can be skipped.
    Kind(u16),
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length => write!(f, "record of wrong length"),
            Self::Value(field) => write!(f, "record with an undefined {field}"),
            Self::Kind(kind) => write!(f, "record of unknown kind {kind}"),
        }
    }
}

impl std::error::Error for DecodeError {}

/// The size that a record's header tells, if `bytes` holds a header and the size is possible.
#[must_use]
pub fn record_size(bytes: &[u8]) -> Option<usize> {
    let size = u32::from_le_bytes(*bytes.first_chunk::<4>()?) as usize;
    (bytes.len() >= HEADER_BYTES && (HEADER_BYTES..=RECORD_BYTES_MAX).contains(&size)).then_some(size)
}

/// Cuts a buffer of records one after another into records. Ends at the first that is not whole.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    rest: &'a [u8],
}

impl<'a> Records<'a> {
    /// Over the records in `bytes`.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// What was not cut yet.
    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (record, rest) = self.rest.split_at_checked(record_size(self.rest)?)?;
        self.rest = rest;
        Some(record)
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use proptest::prelude::{any, prop, proptest};

    use super::*;
    use crate::event::{
        Clock, Close, CloseReason, Comm, Conn, Container, Context, Counters, Data, Dir, Event, Exit, How,
        Library, MountNs, NAME_BYTES_MAX, Name, NameKind, Packet, RANDOM_BYTES, Role, SECRET_BYTES_MAX,
        Secret, SecretKind, Session, Start, Task, Totals, Tuple,
    };

    fn context(tuple: Option<Tuple>) -> Context {
        let task = Task {
            pid: 10,
            tid: 11,
            uid: 1000,
            mntns: MountNs { number: 4_026_532_573, id: 77 },
            start_ns: 5,
            comm: Comm(*b"curl\0\0\0\0\0\0\0\0\0\0\0\0"),
        };
        let how = if tuple.is_some() { How::Nested } else { How::Unknown };
        let session = Session { id: 1 << 60, number: 3, library: 2 };
        Context { at: 9, session, task, conn: Conn { tuple, how, role: Role::Server, place: 7 } }
    }

    fn tuple(local: &str, remote: &str) -> Option<Tuple> {
        let address = |text: &str| text.parse().unwrap();
        let (local, remote) = (address(local), address(remote));
        Some(Tuple { local, local_port: 443, remote, remote_port: 50_000, netns: 1 })
    }

    fn secret(context: Context, what: SecretKind, bytes: &'static [u8]) -> Secret<'static> {
        Secret { context, what, client_random: [9; RANDOM_BYTES], bytes }
    }

    fn every_kind() -> Vec<Event<'static>> {
        let v4 = context(tuple("10.0.0.1", "10.0.0.2"));
        let v6 = context(tuple("fd00::1", "::1"));
        let text = Cow::Borrowed;
        let counters =
            Counters { moved_bytes: 1, captured_bytes: 2, socket_conflicts: 7, ..Counters::default() };
        vec![
            Event::Start(Start { application: text("tlsdump"), os: text("Linux"), command: text("a -b") }),
            Event::Clock(Clock { mono: 1, wall: 2 }),
            Event::Library(Library { id: 1, path: text("/lib/libssl.so.3"), version: text("OpenSSL 3") }),
            Event::Container(Container { mntns: v4.task.mntns, name: text("web"), description: text("") }),
            Event::Data(Data { context: v4, dir: Dir::Out, offset: 1 << 33, bytes: b"GET / HTTP/1.1" }),
            Event::Data(Data { context: v6, dir: Dir::In, offset: 0, bytes: b"" }),
            Event::Data(Data { context: context(None), dir: Dir::In, offset: 0, bytes: b"x" }),
            Event::Data(Data { context: context(None), dir: Dir::Out, offset: 0, bytes: b"x" }),
            Event::Close(Close { context: v4, reason: CloseReason::Shutdown, totals: [1, 2] }),
            Event::Close(Close { context: v6, reason: CloseReason::Free, totals: [3, 4] }),
            Event::Name(Name { context: v4, what: NameKind::ServerName, bytes: b"a.example" }),
            Event::Name(Name { context: v6, what: NameKind::Alpn, bytes: &[b'\xff'; NAME_BYTES_MAX] }),
            Event::Secret(secret(v4, SecretKind::Master, &[7; 48])),
            Event::Secret(secret(v6, SecretKind::Exporter, &[8; SECRET_BYTES_MAX])),
            Event::Packet(Packet {
                at: 1,
                session: 2,
                netns: 3,
                interface: 4,
                dir: Dir::In,
                length: 5,
                bytes: b"abc",
            }),
            Event::Name(Name { context: context(None), what: NameKind::Socket, bytes: b"\x01\0\0\0/x\0" }),
            Event::Totals(Totals { context: v4, totals: [u64::MAX, 0] }),
            Event::Exit(Exit { at: 1, task: v4.task }),
            Event::Counters(counters),
        ]
    }

    #[test]
    fn every_event_comes_back_as_it_was() {
        let events = every_kind();
        let mut stream = Vec::new();
        events.iter().for_each(|event| encode(event, &mut stream));
        let mut records = Records::new(&stream);
        let back: Vec<_> = records.by_ref().map(|record| decode(record).unwrap()).collect();
        assert_eq!(back, events);
        assert!(records.rest().is_empty());
    }

    #[test]
    fn ipv4_mapped_addresses_are_ipv4() {
        let mut record = Vec::new();
        let context = context(tuple("::ffff:127.0.0.1", "::ffff:10.1.2.3"));
        encode(&Event::Data(Data { context, dir: Dir::Out, offset: 0, bytes: b"" }), &mut record);
        let Ok(Event::Data(data)) = decode(&record) else { panic!("not data") };
        assert_eq!(data.context.conn.tuple, tuple("127.0.0.1", "10.1.2.3"));
    }

    #[test]
    fn every_shortened_record_is_refused() {
        for event in every_kind() {
            let mut record = Vec::new();
            encode(&event, &mut record);
            for len in 0..record.len() {
                assert_eq!(decode(&record[..len]), Err(DecodeError::Length), "{event:?}");
                // Older streams have one or two counters less.
                if matches!(event, Event::Counters(_)) && [8, 16].contains(&(record.len() - len)) {
                    continue;
                }
                let mut shortened = record[..len].to_vec();
                if let Some(size) = shortened.first_chunk_mut::<4>() {
                    *size = (len as u32).to_le_bytes();
                    assert!(decode(&shortened).is_err(), "{event:?} cut to {len}");
                }
            }
        }
    }

    #[test]
    fn a_glance_shows_whose_a_record_is() {
        for event in every_kind() {
            let mut record = Vec::new();
            encode(&event, &mut record);
            let expected = match &event {
                Event::Data(data) => {
                    let stray = data.context.conn.tuple.is_none().then_some(data.dir);
                    Some(Glance::Session(data.context.task, stray))
                }
                Event::Close(close) => Some(Glance::Session(close.context.task, None)),
                Event::Name(name) => Some(Glance::Session(name.context.task, None)),
                Event::Secret(secret) => Some(Glance::Session(secret.context.task, None)),
                Event::Exit(exit) => Some(Glance::Exit(exit.task, false)),
                _ => None,
            };
            assert_eq!(glance(&record), expected);
        }
    }

    #[test]
    fn a_name_of_256_bytes_or_of_something_unknown_is_refused() {
        let mut record = Vec::new();
        let bytes = &[b'a'; NAME_BYTES_MAX + 1];
        encode(&Event::Name(Name { context: context(None), what: NameKind::Alpn, bytes }), &mut record);
        assert_eq!(decode(&record), Err(DecodeError::Value("name length")));
        record[CONTEXT_BYTES] = 4;
        assert_eq!(decode(&record), Err(DecodeError::Value("kind of name")));
    }

    #[test]
    fn a_secret_of_no_bytes_or_of_too_many_or_of_something_unknown_is_refused() {
        let mut record = Vec::new();
        encode(&Event::Secret(secret(context(None), SecretKind::Master, &[1; 48])), &mut record);
        for (at, value, why) in [
            (4, 0, "secret length"),
            (4, 65, "secret length"),
            (0, 0, "kind of secret"),
            (0, 9, "kind of secret"),
        ] {
            let mut record = record.clone();
            record[CONTEXT_BYTES + at] = value;
            assert_eq!(decode(&record), Err(DecodeError::Value(why)));
        }
    }

    #[test]
    fn counters_of_an_older_stream_are_read() {
        let counters = Counters { moved_bytes: 1, lost_secrets: 2, ..Counters::default() };
        let mut record = Vec::new();
        encode(&Event::Counters(counters), &mut record);
        record.truncate(record.len() - 16);
        record[0] -= 16;
        assert_eq!(decode(&record), Ok(Event::Counters(Counters { lost_secrets: 0, ..counters })));
    }

    #[test]
    fn unknown_kinds_can_be_told_from_damage() {
        assert_eq!(decode(&[8, 0, 0, 0, 99, 0, 0, 0]), Err(DecodeError::Kind(99)));
        assert_eq!(decode(&[9, 0, 0, 0, 99, 0, 0, 0]), Err(DecodeError::Length));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(mut bytes: Vec<u8>, kind in 0u16..24, keep: bool) {
            if keep && bytes.len() >= HEADER_BYTES {
                let size = bytes.len() as u32;
                bytes[..4].copy_from_slice(&size.to_le_bytes());
                bytes[4..6].copy_from_slice(&kind.to_le_bytes());
            }
            let _ = decode(&bytes);
            let _ = glance(&bytes);
            let _ = decode_session(&bytes, 0);
            assert!(Records::new(&bytes).map(<[u8]>::len).sum::<usize>() <= bytes.len());
        }

        #[test]
        fn a_flipped_bit_never_makes_it_panic(at in any::<prop::sample::Index>(), bit in 0u8..8) {
            for event in every_kind() {
                let mut record = Vec::new();
                encode(&event, &mut record);
                let at = at.index(record.len());
                record[at] ^= 1 << bit;
                let _ = decode(&record);
            }
        }
    }
}

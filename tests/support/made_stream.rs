//! Recorded streams made up block by block, of sessions whose bytes are known beforehand: those of a
//! session's direction are the [`pattern`] of its seed.

// Each test uses its own part of it.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::Ipv4Addr;

use tlsdump::event::{
    Clock, Comm, Conn, Context, Counters, Data, Dir, Event, How, MountNs, Role, Session, Start, Task, Tuple,
};
use tlsdump::wire;

/// 2026-01-01 00:00:00 UTC, nanoseconds since 1970.
pub const WALL: u64 = 1_767_225_600 * SECOND;
pub const SECOND: u64 = 1_000_000_000;
pub const MILLI: u64 = 1_000_000;

/// Sessions that take turns.
pub const SESSIONS: u64 = 5;

/// A stream that grows: its monotonic clock goes on with each call, its wall clock as the test wants.
#[derive(Debug)]
pub struct Made {
    /// Monotonic time of the next record.
    pub mono: u64,
    /// Wall time of monotonic time 0, as told with the next clock record; arithmetic wraps.
    pub wall: u64,
    /// Calls so far: session `n % SESSIONS` makes call `n`.
    pub calls: u64,
    /// Bytes that each session has moved, written and read.
    pub moved: [[u64; 2]; SESSIONS as usize],
    /// Bytes of the stream.
    out: Vec<u8>,
    records: Vec<u8>,
}

impl Made {
    /// A stream that has told its beginning and its clock.
    pub fn new() -> Self {
        let mut out = b"TLSDUMP\x1a".to_vec();
        out.extend_from_slice(&[1, 0, 0, 0, 0, 0, 0, 0]);
        let mut this =
            Self { mono: SECOND, wall: WALL, calls: 0, moved: Default::default(), out, records: Vec::new() };
        let start = Start { application: "tlsdump".into(), os: "Linux".into(), command: "test".into() };
        this.record(&Event::Start(start));
        this.clock();
        this
    }

    /// Tells the time.
    pub fn clock(&mut self) {
        let (mono, wall) = (self.mono, self.wall.wrapping_add(self.mono));
        self.record(&Event::Clock(Clock { mono, wall }));
        let moved_bytes = self.moved.iter().flatten().sum();
        let counters = Counters { moved_bytes, captured_bytes: moved_bytes, ..Counters::default() };
        self.record(&Event::Counters(counters));
    }

    /// The next session moves so many bytes, written or read in turn.
    pub fn call(&mut self, bytes: usize) {
        let session = self.calls % SESSIONS;
        let dir = if (self.calls / SESSIONS).is_multiple_of(2) { Dir::Out } else { Dir::In };
        let offset = self.moved[session as usize][dir.index()];
        let bytes = pattern(seed(session, dir.index()), offset, bytes);
        let data = Data { context: self.context(session), dir, offset, bytes: &bytes };
        self.record(&Event::Data(data));
        self.moved[session as usize][dir.index()] += bytes.len() as u64;
        self.calls += 1;
    }

    /// So much time goes by.
    pub fn wait(&mut self, nanoseconds: u64) {
        self.mono += nanoseconds;
    }

    /// What was added since this was last asked, as a block; the first time with the head of the stream.
    pub fn take(&mut self) -> Vec<u8> {
        let mut out = std::mem::take(&mut self.out);
        let records = std::mem::take(&mut self.records);
        if !records.is_empty() {
            out.extend_from_slice(&(records.len() as u32).to_le_bytes());
            out.extend_from_slice(&crc32fast::hash(&records).to_le_bytes());
            out.extend_from_slice(&records);
        }
        out
    }

    /// A block must not be larger than this by much; what follows goes to another.
    fn record(&mut self, event: &Event<'_>) {
        if self.records.len() > 512 << 10 {
            self.out = self.take();
        }
        wire::encode(event, &mut self.records);
    }

    fn context(&self, session: u64) -> Context {
        let tuple = Tuple {
            local: Ipv4Addr::new(10, 0, 0, 1).into(),
            local_port: port(session),
            remote: Ipv4Addr::new(10, 0, 0, 2).into(),
            remote_port: 8443,
            netns: 1,
        };
        let mntns = MountNs { number: 4_026_532_573 + (session % 2) as u32, id: 7 + session % 2 };
        let comm = Comm(*b"client\0\0\0\0\0\0\0\0\0\0");
        let task = Task { pid: 1000, tid: 1000, uid: 0, mntns, start_ns: 1, comm };
        Context {
            at: self.mono,
            session: Session { id: session + 1, number: (self.calls / SESSIONS) as u32, library: 0 },
            task,
            conn: Conn { tuple: Some(tuple), how: How::Nested, role: Role::Client, place: 0 },
        }
    }
}

/// The local port of a session.
pub fn port(session: u64) -> u16 {
    40_000 + session as u16
}

/// Of what a session writes (0) or reads (1).
pub fn seed(session: u64, direction: usize) -> u64 {
    session * 2 + direction as u64
}

/// The bytes from position `from` on: words of eight bytes, scrambled, so that they hardly compress.
pub fn pattern(seed: u64, from: u64, length: usize) -> Vec<u8> {
    let word = |number: u64| {
        let mut word = number.wrapping_add(seed << 40).wrapping_add(0x9E37_79B9_7F4A_7C15);
        word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (word ^ (word >> 31)).to_be_bytes()
    };
    let skip = (from % 8) as usize;
    let words = (from / 8..).flat_map(word);
    words.skip(skip).take(length).collect()
}

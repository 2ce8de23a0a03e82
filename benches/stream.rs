//! Makes a recorded stream of one size of call, for `benches/run`: the same arguments give the same bytes.

use std::env;
use std::fs::File;
use std::io::BufWriter;
use std::net::Ipv4Addr;

use anyhow::{Context as _, ensure};

use tlsdump::event::{
    Clock, Close, CloseReason, Comm, Conn, Context, Data, Dir, Event, How, MountNs, Role, Session, Start,
    Task, Tuple,
};
use tlsdump::source::stream::Tee;
use tlsdump::source::{Source, State};
use tlsdump::wire::{self, DATA_HEADER_BYTES, RECORD_BYTES_MAX};

/// Sessions that are open at one time; their records come in turn.
const SESSIONS: u64 = 256;
/// Data records of one session: half of them written, half read.
const RECORDS: u64 = 100;
/// Least bytes of a batch, unless a wave ends: what waits in the kernel's buffer before tlsdump is woken.
const BATCH_BYTES: usize = 512 << 10;
/// Stream time between two records, nanoseconds.
const STEP_NS: u64 = 1_000;
/// 2026-01-01 00:00:00 UTC, nanoseconds since 1970.
const WALL: u64 = 1_767_225_600_000_000_000;

fn main() -> anyhow::Result<()> {
    // `cargo bench` gives an argument of its own.
    let args: Vec<_> = env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let [bytes, waves, path] = args.as_slice() else {
        eprintln!(
            "usage: stream BYTES WAVES FILE: records WAVES × {SESSIONS} sessions with {RECORDS} records of \
             BYTES each (benches/run calls it)"
        );
        return Ok(());
    };
    let bytes: usize = bytes.parse().context("BYTES is no number")?;
    ensure!(bytes <= RECORD_BYTES_MAX - DATA_HEADER_BYTES, "a record can't hold {bytes} bytes");
    let waves = waves.parse().context("WAVES is no number")?;
    let file = File::create(path).with_context(|| format!("cannot write to {path}"))?;

    let payload = (b' '..=b'~').cycle().take(bytes).collect();
    let mut recording = Tee::new(Traffic { payload, waves, wave: 0, round: 0 }, BufWriter::new(file))?;
    let mut batch = Vec::new();
    while recording.fill(&mut batch)? == State::Open {
        batch.clear();
    }
    Ok(())
}

/// A made-up capture: waves of [`SESSIONS`] sessions, in each round one record of every session.
struct Traffic {
    payload: Vec<u8>,
    waves: u64,
    wave: u64,
    round: u64,
}

impl Source for Traffic {
    fn fill(&mut self, batch: &mut Vec<u8>) -> anyhow::Result<State> {
        if self.wave == self.waves {
            return Ok(State::End);
        }
        if (self.wave, self.round) == (0, 0) {
            let (application, os, command) = ("tlsdump".into(), "Linux".into(), "benches/run".into());
            wire::encode(&Event::Start(Start { application, os, command }), batch);
        }
        if self.round == 0 {
            let mono = self.at(0);
            wire::encode(&Event::Clock(Clock { mono, wall: WALL + mono }), batch);
        }
        let begin = batch.len();
        while self.round < RECORDS && batch.len() - begin < BATCH_BYTES {
            (0..SESSIONS).for_each(|session| self.record(session, batch));
            self.round += 1;
        }
        if self.round == RECORDS {
            (0..SESSIONS).for_each(|session| self.close(session, batch));
            (self.wave, self.round) = (self.wave + 1, 0);
        }
        Ok(State::Open)
    }
}

impl Traffic {
    fn at(&self, session: u64) -> u64 {
        ((self.wave * RECORDS + self.round) * SESSIONS + session) * STEP_NS
    }

    /// Requests and answers in turn.
    fn record(&self, session: u64, batch: &mut Vec<u8>) {
        let dir = if self.round.is_multiple_of(2) { Dir::Out } else { Dir::In };
        let offset = self.round / 2 * self.payload.len() as u64;
        let data = Data { context: self.context(session), dir, offset, bytes: &self.payload };
        wire::encode(&Event::Data(data), batch);
    }

    fn close(&self, session: u64, batch: &mut Vec<u8>) {
        let totals = [RECORDS / 2 * self.payload.len() as u64; 2];
        let close = Close { context: self.context(session), reason: CloseReason::Free, totals };
        wire::encode(&Event::Close(close), batch);
    }

    fn context(&self, session: u64) -> Context {
        let id = self.wave * SESSIONS + session;
        let [.., high, low] = id.to_be_bytes();
        let tuple = Tuple {
            local: Ipv4Addr::new(10, 0, high, low).into(),
            local_port: 40_000,
            remote: Ipv4Addr::new(10, 1, 0, 1).into(),
            remote_port: 8443,
            netns: 1,
        };
        let pid = 1000 + session as u32;
        let mntns = MountNs { number: 4_026_532_573, id: 7 };
        let task =
            Task { pid, tid: pid, uid: 0, mntns, start_ns: 1, comm: Comm(*b"client\0\0\0\0\0\0\0\0\0\0") };
        Context {
            at: self.at(session),
            session: Session { id: id + 1, number: self.round as u32, library: 0 },
            task,
            conn: Conn { tuple: Some(tuple), how: How::Nested, role: Role::Client, place: 0 },
        }
    }
}

//! Segments made by hand, drawn and written as a capture.

// Each test uses its own part of it.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io;

use tlsdump::event::{Comm, Container, Counters, Dir, Event, How, Library, MountNs, Start, Task};
use tlsdump::file::sink::Sink;
use tlsdump::file::{Options, Writer};
use tlsdump::flow::{Flow, FlowNames, Segment, What};
use tlsdump::frame::{Encoder, Envelope, State};
use tlsdump::names::Names;

/// When the first segment is: 2023-11-14 22:13:20 UTC.
pub const START: u64 = 1_700_000_000_000_000_000;
/// Between two segments; not a whole number of microseconds.
pub const TICK: u64 = 1_000_001;

pub const COUNTERS: Counters = Counters {
    moved_bytes: 100,
    captured_bytes: 90,
    lost_bytes: 10,
    lost_records: 2,
    unreadable: 3,
    lost_calls: 4,
    socket_conflicts: 5,
    lost_secrets: 6,
    lost_packets: 7,
};

/// A flow and its state.
pub struct Drawn {
    pub flow: Flow,
    pub state: State,
}

/// A flow of process 1234, `curl`, in container `web-1`.
pub fn flow(id: u64, local: &str, remote: &str) -> Drawn {
    let task = Task { pid: 1234, tid: 1235, mntns: mntns(42), comm: comm(b"curl"), ..Task::default() };
    let flow = Flow {
        id,
        session: id,
        local: local.parse().unwrap(),
        remote: remote.parse().unwrap(),
        local_is_client: true,
        how: How::Nested,
        netns: 1,
        library: 1,
        task,
        names: FlowNames::default(),
        other_end: None,
    };
    Drawn { flow, state: State::default() }
}

pub fn comm(name: &[u8]) -> Comm {
    let mut comm = Comm::default();
    comm.0[..name.len()].copy_from_slice(name);
    comm
}

pub fn mntns(number: u32) -> MountNs {
    MountNs { number, id: 1 }
}

/// Names of the start, of library 1 and of container 42.
pub fn names() -> Names {
    let mut names = Names::default();
    names.learn(&Event::Start(Start {
        application: "tlsdump 0.1.0".into(),
        os: "Linux 6.18.44 x86_64".into(),
        command: "tlsdump --mntns=42 -w out.pcapng".into(),
    }));
    names.learn(&Event::Library(Library {
        id: 1,
        path: "/usr/lib/x86_64-linux-gnu/libssl.so.3".into(),
        version: "OpenSSL 3.0.22".into(),
    }));
    names.learn(&Event::Container(Container {
        mntns: mntns(42),
        name: "web-1".into(),
        description: "docker, nginx:1.27".into(),
    }));
    names
}

/// Draws segments into a sink, each a tick after the one before.
pub struct Pen<'a, S> {
    pub writer: Writer<S>,
    encoder: Encoder,
    names: &'a Names,
    at: u64,
}

impl<'a, S: Sink> Pen<'a, S> {
    pub fn new(sink: S, names: &'a Names, snaplen: u32, envelope: Envelope) -> Self {
        Self::with(sink, names, Options { snaplen, ..Options::default() }, envelope)
    }

    pub fn with(sink: S, names: &'a Names, options: Options, envelope: Envelope) -> Self {
        Self {
            writer: Writer::new(sink, options),
            encoder: Encoder::new(envelope, &[7; 32]),
            names,
            at: START,
        }
    }

    /// So much later.
    pub fn wait(&mut self, ns: u64) {
        self.at = self.at.wrapping_add(ns);
    }

    /// What an output does that has no room.
    pub fn skip(&mut self, on: &mut Drawn, dir: Dir, what: What<'_>) {
        self.encoder.skip(Segment { at: self.at, flow: &on.flow, state: &mut on.state, dir, what });
    }

    pub fn try_draw(&mut self, on: &mut Drawn, dir: Dir, what: What<'_>) -> io::Result<()> {
        let segment = Segment { at: self.at, flow: &on.flow, state: &mut on.state, dir, what };
        self.at += TICK;
        let bytes = match what {
            What::Data(bytes) => bytes.len(),
            What::Gap(lost) => lost as usize,
            _ => 0,
        };
        self.encoder.set_part(self.writer.turn(segment.at, bytes, self.names)?);
        self.encoder.segment(segment, &mut |frame| self.writer.frame(frame, self.names))
    }

    pub fn draw(&mut self, on: &mut Drawn, dir: Dir, what: What<'_>) {
        self.try_draw(on, dir, what).unwrap();
    }

    pub fn open(&mut self, on: &mut Drawn) {
        let client = if on.flow.local_is_client { Dir::Out } else { Dir::In };
        self.draw(on, client, What::Open);
    }

    pub fn write(&mut self, on: &mut Drawn, bytes: &[u8]) {
        self.draw(on, Dir::Out, What::Data(bytes));
    }

    pub fn read(&mut self, on: &mut Drawn, bytes: &[u8]) {
        self.draw(on, Dir::In, What::Data(bytes));
    }

    /// Both directions end.
    pub fn close(&mut self, on: &mut Drawn) {
        self.draw(on, Dir::Out, What::Fin);
        self.draw(on, Dir::In, What::Fin);
    }
}

/// The file that `script` draws, with these names and this snap length, in plain frames.
pub fn record_with(names: &Names, snaplen: u32, script: impl FnOnce(&mut Pen<'_, &mut Vec<u8>>)) -> Vec<u8> {
    finished(names, snaplen, Envelope::Plain, script)
}

/// The file that `script` draws, in plain frames.
pub fn record(script: impl FnOnce(&mut Pen<'_, &mut Vec<u8>>)) -> Vec<u8> {
    record_as(Envelope::Plain, script)
}

/// The file that `script` draws.
pub fn record_as(envelope: Envelope, script: impl FnOnce(&mut Pen<'_, &mut Vec<u8>>)) -> Vec<u8> {
    finished(&names(), 0, envelope, script)
}

fn finished(
    names: &Names,
    snaplen: u32,
    envelope: Envelope,
    script: impl FnOnce(&mut Pen<'_, &mut Vec<u8>>),
) -> Vec<u8> {
    let mut file = Vec::new();
    let mut pen = Pen::new(&mut file, names, snaplen, envelope);
    script(&mut pen);
    pen.writer.count(&COUNTERS);
    let summary = pen.writer.finish(names).unwrap();
    assert_eq!(summary.bytes, file.len() as u64);
    file
}

/// So many bytes without a pattern.
pub fn noise(length: usize) -> Vec<u8> {
    let words = (1u32..).map(|n| (n ^ n >> 7).wrapping_mul(0x9E37_79B1).rotate_left(n % 32));
    words.flat_map(u32::to_be_bytes).take(length).collect()
}

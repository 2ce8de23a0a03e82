//! The writer alone, for `benches/run`: frames that are in memory already → pcapng blocks → file.

use std::env;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use tlsdump::event::{Comm, Dir, How, MountNs, Task};
use tlsdump::file::output::{Output, Settings};
use tlsdump::file::{Cuts, Options, Writer};
use tlsdump::flow::{Flow, FlowNames, Segment, What};
use tlsdump::frame::{Encoder, Envelope, Frame, SEGMENT_MAX, Seed, State};
use tlsdump::names::Names;

/// Flows whose frames come in turn.
const FLOWS: u64 = 256;
/// What is waited after each round where single frames are timed, so that no queue is full.
const PAUSE: Duration = Duration::from_millis(1);
/// Time between two frames, nanoseconds.
const STEP_NS: u64 = 1_000;
/// 2026-01-01 00:00:00 UTC, nanoseconds since 1970.
const WALL: u64 = 1_767_225_600_000_000_000;

/// A frame as it was drawn.
struct Drawn {
    headers: Vec<u8>,
    payload: Vec<u8>,
}

fn main() -> anyhow::Result<()> {
    // `cargo bench` gives an argument of its own.
    let args: Vec<_> = env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let (bytes, rounds, path, part) = match args.as_slice() {
        [bytes, rounds, path] => (bytes, rounds, path, None),
        [bytes, rounds, path, part] => (bytes, rounds, path, Some(part)),
        _ => {
            eprintln!(
                "usage: writer BYTES ROUNDS FILE [PART]: writes ROUNDS × {FLOWS} frames with BYTES of \
                 payload each (benches/run calls it). With PART: into parts of so many bytes, not as fast as \
                 it can; prints how long a frame took in ns: the median and the longest of those that began \
                 a part, the longest of the others; and the number of parts"
            );
            return Ok(());
        }
    };
    let bytes: usize = bytes.parse().context("BYTES is no number")?;
    ensure!((1..=SEGMENT_MAX).contains(&bytes), "a frame can't hold {bytes} bytes");
    let rounds: u64 = rounds.parse().context("ROUNDS is no number")?;

    let part: Option<u64> = part.map(|part| part.parse()).transpose().context("PART is no number")?;

    let payload: Vec<u8> = (b' '..=b'~').cycle().take(bytes).collect();
    let flows: Vec<Flow> = (0..FLOWS).map(flow).collect();
    let drawn: Vec<Drawn> = flows.iter().map(|flow| draw(flow, &payload)).collect();
    let settings = Settings { cut: part.is_some(), wait: true, ..Settings::default() };
    let sink = Output::open(Path::new(path), settings, Box::new(|line| eprintln!("writer: {line}")))?;
    let cuts = Cuts { bytes: part, ..Cuts::default() };
    let (mut writer, names) = (Writer::new(sink, Options { cuts, ..Options::default() }), Names::default());
    let mut stalls = part.map(|_| Stalls::default());
    for round in 0..rounds {
        for (number, (flow, drawn)) in (round * FLOWS..).zip(flows.iter().zip(&drawn)) {
            let frame = Frame {
                cut: 0,
                at: WALL + number * STEP_NS,
                flow,
                dir: Dir::Out,
                headers: &drawn.headers,
                payload: &[&drawn.payload],
                introduce: round == 0,
                note: None,
                secrets: None,
            };
            let began = stalls.as_ref().map(|_| Instant::now());
            let part = writer.turn(frame.at, bytes, &names)?;
            writer.frame(&frame, &names)?;
            if let (Some(stalls), Some(began)) = (&mut stalls, began) {
                stalls.note(part, began.elapsed());
            }
        }
        if stalls.is_some() {
            thread::sleep(PAUSE);
        }
    }
    writer.finish(&names)?;
    stalls.iter_mut().for_each(Stalls::print);
    Ok(())
}

/// How long single frames took.
#[derive(Default)]
struct Stalls {
    part: u32,
    turning: Vec<Duration>,
    longest_other: Duration,
}

impl Stalls {
    fn note(&mut self, part: u32, took: Duration) {
        if std::mem::replace(&mut self.part, part) == part {
            self.longest_other = self.longest_other.max(took);
        } else {
            self.turning.push(took);
        }
    }

    fn print(&mut self) {
        self.turning.sort();
        let at = |index: usize| self.turning.get(index).map_or(0, Duration::as_nanos);
        let (median, longest) = (at(self.turning.len() / 2), at(self.turning.len().saturating_sub(1)));
        println!("{median} {longest} {} {}", self.longest_other.as_nanos(), self.turning.len());
    }
}

fn flow(number: u64) -> Flow {
    let pid = 1000 + number as u32;
    let mntns = MountNs { number: 4_026_532_573, id: 7 };
    Flow {
        id: number + 1,
        session: number + 1,
        local: ([10, 0, 0, number as u8], 40_000).into(),
        remote: ([10, 1, 0, 1], 8443).into(),
        local_is_client: true,
        how: How::Nested,
        netns: 1,
        library: 0,
        task: Task { pid, tid: pid, uid: 0, mntns, start_ns: 1, comm: Comm(*b"client\0\0\0\0\0\0\0\0\0\0") },
        names: FlowNames::default(),
        other_end: None,
    }
}

/// The frame of the payload in a flow.
fn draw(flow: &Flow, payload: &[u8]) -> Drawn {
    let mut encoder = Encoder::new(Envelope::Plain, &Seed::default());
    let mut state = State::default();
    let mut drawn = Drawn { headers: Vec::new(), payload: Vec::new() };
    let segment = Segment { at: WALL, flow, state: &mut state, dir: Dir::Out, what: What::Data(payload) };
    let Ok(()) = encoder.segment(segment, &mut |frame: &Frame<'_>| {
        drawn = Drawn { headers: frame.headers.to_vec(), payload: frame.payload.concat() };
        Ok::<_, std::convert::Infallible>(())
    });
    drawn
}

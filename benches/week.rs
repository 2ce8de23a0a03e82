//! A capture of a week, made up and in one process, for `benches/run`: does memory stay what it was?
//!
//! Sessions come evenly over seven days of stream time. Each is of a process of its own, and each few of a
//! container of their own, so that every table of the program is filled and emptied again and again.

use std::env;
use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;

use anyhow::Context as _;

use tlsdump::event::{
    Clock, Close, CloseReason, Comm, Conn, Container, Context, Data, Dir, Event, Exit, How, MountNs, Name,
    NameKind, Role, Session, Start, Task, Tuple,
};
use tlsdump::file::directory::Manners;
use tlsdump::file::output::{Output, Settings};
use tlsdump::file::{Cuts, Options, Writer};
use tlsdump::pipeline::{Outputs, Pipeline};
use tlsdump::wire;

/// Seven days, nanoseconds.
const WEEK_NS: u64 = 7 * 24 * 3600 * SECOND_NS;
const SECOND_NS: u64 = 1_000_000_000;
/// 2026-01-01 00:00:00 UTC, nanoseconds since 1970.
const WALL: u64 = 1_767_225_600_000_000_000;
/// Data records of a session; with its name, its end and the end of its process about 10 events.
const RECORDS: u64 = 7;
/// Bytes of a record.
const BYTES: usize = 100;
/// Sessions of one container.
const CONTAINER_SESSIONS: u64 = 50;
/// One session of so many is never closed, and its process never ends.
const UNCLOSED: u64 = 10;
/// One session of so many loses a record.
const LOSSY: u64 = 21;
/// One session of so many has addresses that nobody knows.
const UNADDRESSED: u64 = 101;
/// One session of so many has its first two records in the wrong order.
const REORDERED: u64 = 33;
/// Bytes of a batch.
const BATCH_BYTES: usize = 1 << 20;
/// Bytes of a part, where the capture is cut, and how many parts are kept.
const PART_BYTES: u64 = 256 << 20;
const PARTS: u32 = 2;

fn main() -> anyhow::Result<()> {
    // `cargo bench` gives an argument of its own.
    let args: Vec<_> = env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let [flows, path] = args.as_slice() else {
        eprintln!(
            "usage: week SESSIONS FILE|/dev/null: a file is cut into parts, two of which are kept \
             (benches/run calls it)"
        );
        return Ok(());
    };
    let flows: u64 = flows.parse().context("SESSIONS is no number")?;
    let cuts = match path.as_str() {
        "/dev/null" => Cuts::default(),
        _ => Cuts { bytes: Some(PART_BYTES), ..Cuts::default() },
    };
    let mut week = Week { flows, events: 0, batch: Vec::new(), pipeline: Pipeline::new(open(path, cuts)?) };
    println!("| events | conversations | packets | parts cut | memory |");
    println!("|--:|--:|--:|:--|--:|");
    week.start();
    for flow in 0..flows {
        week.session(flow)?;
        if (flow + 1) % (flows / 10).max(1) == 0 {
            week.hand_over()?;
            week.print(cuts.any())?;
        }
    }
    let report = week.pipeline.finish()?;
    for line in std::iter::once(report.closing()).chain(report.warnings()) {
        eprintln!("week: {line}");
    }
    Ok(())
}

fn open(path: &str, cuts: Cuts) -> anyhow::Result<Outputs> {
    let manners = Manners { keep: cuts.any().then_some(PARTS), ..Manners::default() };
    let settings = Settings { cut: cuts.any(), manners, wait: true, ..Settings::default() };
    let sink = Output::open(Path::new(path), settings, Box::new(|line| eprintln!("week: {line}")))?;
    let file = Writer::new(sink, Options { cuts, ..Options::default() });
    Ok(Outputs { file: Some(file), ..Outputs::default() })
}

struct Week {
    flows: u64,
    events: u64,
    batch: Vec<u8>,
    pipeline: Pipeline,
}

impl Week {
    fn start(&mut self) {
        let (application, os, command) = ("tlsdump".into(), "Linux".into(), "benches/run".into());
        self.push(&Event::Start(Start { application, os, command }));
    }

    fn push(&mut self, event: &Event<'_>) {
        self.events += 1;
        wire::encode(event, &mut self.batch);
    }

    fn hand_over(&mut self) -> anyhow::Result<()> {
        self.pipeline.records(&self.batch)?;
        self.batch.clear();
        Ok(())
    }

    /// All of one session. The next begins after it, but those that are not closed stay.
    fn session(&mut self, flow: u64) -> anyhow::Result<()> {
        let (at, before) = (self.at(flow), self.at(flow.saturating_sub(1)));
        if flow == 0 || at / SECOND_NS != before / SECOND_NS {
            self.push(&Event::Clock(Clock { mono: at, wall: WALL + at }));
        }
        let context = context(flow, at);
        if flow.is_multiple_of(CONTAINER_SESSIONS) {
            let name = format!("container-{}", flow / CONTAINER_SESSIONS);
            let (mntns, description) = (context.task.mntns, "a made-up container".into());
            self.push(&Event::Container(Container { mntns, name: name.into(), description }));
        }
        self.records(flow, context);
        if !flow.is_multiple_of(UNCLOSED) {
            let totals = [RECORDS.div_ceil(2), RECORDS / 2].map(|records| records * BYTES as u64);
            let lost = u32::from(flow.is_multiple_of(LOSSY));
            let context = numbered(context, 1 + RECORDS as u32 - lost);
            self.push(&Event::Close(Close { context, reason: CloseReason::Free, totals }));
            self.push(&Event::Exit(Exit { at, task: context.task }));
        }
        if self.batch.len() >= BATCH_BYTES { self.hand_over() } else { Ok(()) }
    }

    /// A name, and data both ways in turn.
    fn records(&mut self, flow: u64, context: Context) {
        let lost = if flow.is_multiple_of(LOSSY) { RECORDS / 2 } else { RECORDS };
        let mut records = Vec::new();
        for (number, record) in (1..).zip((0..RECORDS).filter(|record| *record != lost)) {
            let dir = if record.is_multiple_of(2) { Dir::Out } else { Dir::In };
            let context = numbered(context, number);
            records.push(Data { context, dir, offset: record / 2 * BYTES as u64, bytes: &[b'x'; BYTES] });
        }
        if flow.is_multiple_of(REORDERED) {
            records.swap(0, 1);
        }
        let what = NameKind::ServerName;
        self.push(&Event::Name(Name { context: numbered(context, 0), what, bytes: b"service.example" }));
        records.into_iter().for_each(|data| self.push(&Event::Data(data)));
    }

    /// When a session is.
    fn at(&self, flow: u64) -> u64 {
        SECOND_NS + WEEK_NS / self.flows.max(1) * flow
    }

    fn print(&self, cut: bool) -> anyhow::Result<()> {
        let report = self.pipeline.report();
        let status = fs::read_to_string("/proc/self/status")?;
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = resident.and_then(|text| text.split_whitespace().next());
        let mib: f64 = kib.context("no VmRSS")?.parse::<f64>()? / 1024.0;
        let (events, flows, packets) = (self.events, report.flows.flows, report.packets);
        println!("| {events} | {flows} | {packets} | {} | {mib:.1} MB |", if cut { "yes" } else { "no" });
        Ok(())
    }
}

fn numbered(mut context: Context, number: u32) -> Context {
    context.session.number = number;
    context
}

/// Whose a session is: each of a process of its own.
fn context(flow: u64, at: u64) -> Context {
    let [.., a, b, c, d] = flow.to_be_bytes();
    let tuple = Tuple {
        local: Ipv4Addr::new(10, b, c, d).into(),
        local_port: 40_000 + u16::from(a),
        remote: Ipv4Addr::new(10, 255, 0, 1).into(),
        remote_port: 8443,
        netns: 1,
    };
    let tuple = (!flow.is_multiple_of(UNADDRESSED)).then_some(tuple);
    let how = if tuple.is_some() { How::Nested } else { How::Unknown };
    let (pid, container) = (flow as u32 + 1, flow / CONTAINER_SESSIONS);
    let mntns = MountNs { number: 4_026_532_573 + container as u32 % 1000, id: container + 1 };
    let comm = Comm(*b"client\0\0\0\0\0\0\0\0\0\0");
    Context {
        at,
        session: Session { id: flow + 1, number: 0, library: 0 },
        task: Task { pid, tid: pid, uid: 0, mntns, start_ns: at, comm },
        conn: Conn { tuple, how, role: Role::Client, place: 0 },
    }
}

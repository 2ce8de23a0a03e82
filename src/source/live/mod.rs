//! The kernel as a source: programs loaded, attached to the libraries of the target, their records read.

mod attach;
mod buffer;
mod go;
mod kernel;
mod layout;
mod listening;
mod load;
mod options;
mod packets;
mod rustls;
mod skel;

use std::borrow::Cow;
use std::collections::HashSet;
use std::mem::MaybeUninit;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use std::{fmt, thread};

use anyhow::Context as _;
use libbpf_rs::{Link, MapCore as _, MapFlags, OpenObject};

use crate::event::{Container, Counters, Dir, Event, Library, MountNs, Start, Task};
use crate::probe::RecordWriter;
use crate::source::{Source, State};
use crate::sys;
use crate::target;
use crate::wire;
use crate::wire::{Glance, Records};

pub use kernel::Features;
pub use options::{Attach, Filter, Options, Transport, Witness};
pub use packets::Wires;

use buffer::Buffer;
use listening::Listening;
use load::Plan;
use packets::Packets;
use skel::TlsdumpSkel;

/// How long one call of [`Source::fill`] waits while little comes: how late a record can be.
const WAIT: Duration = Duration::from_millis(50);
/// How often the clocks and the counters are told.
const CLOCK_INTERVAL: Duration = Duration::from_secs(1);
/// How many links are given up at one time.
const DETACHING_THREADS: usize = 32;
/// How long one reading waits for records while that goes on.
const DETACHING_WAIT: Duration = Duration::from_millis(5);
/// Most mount namespaces that are known to have been described.
const CONTAINERS_MAX: usize = 65_536;

/// A running capture. Built in two steps because the loaded object borrows its storage: see [`Storage`].
pub struct Live<'obj> {
    skel: TlsdumpSkel<'obj>,
    /// On processes and sockets.
    links: Vec<Link>,
    library_links: Vec<Link>,
    buffer: Buffer,
    plan: Plan,
    proc: PathBuf,
    stop: Arc<AtomicBool>,
    /// Where real packets are wanted.
    packets: Option<Packets>,
    /// Where records are written.
    record_writers: Arc<[RecordWriter]>,
    /// Whether that is watched.
    watches_records: bool,
    /// Where they are read.
    listening: Listening,
    known: HashSet<MountNs>,
    preamble: Vec<u8>,
    clock_due: Option<Instant>,
    /// When the table of sessions may be looked through again.
    totals_due: Option<Instant>,
    /// Whether the probes are being given up.
    ending: bool,
    ended: bool,
}

/// Room for the loaded object, in the caller's frame.
pub type Storage = MaybeUninit<OpenObject>;

impl fmt::Debug for Live<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Live")
            .field("links", &self.links.len())
            .field("plan", &self.plan)
            .finish_non_exhaustive()
    }
}

impl<'obj> Live<'obj> {
    /// Loads and attaches; when this returns, every later call of the target is seen.
    ///
    /// # Errors
    /// The kernel lacks something that is needed, or refuses.
    pub fn new(storage: &'obj mut Storage, options: &Options) -> anyhow::Result<Self> {
        let features = Features::ask()?;
        let witness = choose_witness(&features, options)?;
        let plan = Plan::new(&features, witness, options)?;
        let skel = load::load(storage, &plan, options)?;
        let buffer = if plan.ring {
            Buffer::ring(&skel.maps.events)?
        } else {
            Buffer::perf(&skel.maps.events, load::perf_pages(options.buffer_bytes))?
        };
        let mut live = Self {
            skel,
            links: Vec::new(),
            library_links: Vec::new(),
            buffer,
            plan,
            proc: options.proc.clone(),
            stop: Arc::clone(&options.stop),
            packets: options.wires.as_ref().map(Packets::open).transpose()?,
            record_writers: Arc::clone(&options.record_writers),
            watches_records: false,
            listening: Listening::default(),
            known: HashSet::new(),
            preamble: Vec::new(),
            clock_due: None,
            totals_due: None,
            ending: false,
            ended: false,
        };
        live.tell_start(options);
        live.attach(options)?;
        Ok(live)
    }

    /// `ring buffer` or `perf buffer`.
    #[must_use]
    pub fn transport(&self) -> &'static str {
        if self.plan.ring { "ring buffer" } else { "perf buffer" }
    }

    /// How the kernel is used: `ring buffer, uprobe.multi, sockets by tracepoint`.
    #[must_use]
    pub fn means(&self) -> String {
        let uprobes = if self.plan.uprobe_multi { "uprobe.multi" } else { "perf events" };
        let sockets = match self.plan.witness {
            Witness::Auto | Witness::Tracepoint => "tracepoint",
            Witness::Fentry => "fentry",
            Witness::Kprobe => "kprobe",
        };
        format!("{}, {uprobes}, sockets by {sockets}", self.transport())
    }

    /// Whether this process, which may have given up privileges since, can read what the kernel counts.
    ///
    /// # Errors
    /// It can't: Linux lets others do so with maps that they have open since 5.19, where
    /// `kernel.unprivileged_bpf_disabled` is set.
    pub fn check_rights(&self) -> anyhow::Result<()> {
        let read = self.read_counters().map(drop);
        read.context("only root can go on reading here: Linux 5.19 or later lets other users do so")
    }

    fn attach(&mut self, options: &Options) -> anyhow::Result<()> {
        self.links.extend(attach::processes(&self.skel)?);
        self.learn_namespaces(options)?;
        let witness = attach::witness(&self.skel, self.plan.witness, self.plan.six_arguments)
            .with_context(|| format!("cannot watch sockets by {:?}", self.plan.witness))?;
        self.links.extend(witness);
        if options.secrets {
            load::fill_random_places(&self.skel, &self.plan, &options.libraries)
                .context("cannot tell where random numbers are")?;
        }
        let helpers = options.helpers.iter().map(|found| (found, 0));
        for (found, id) in options.libraries.iter().zip(1..).chain(helpers) {
            let links = attach::library(&self.skel, &self.plan, found, id, options.secrets)?;
            self.library_links.extend(links);
        }
        if options.watch_records {
            self.watch_records()?;
        }
        self.set_running(true)
    }

    /// Looks for the sockets over which programs send the records of their library by themselves. It costs
    /// every program that uses the library a probe for each record, so it is done only where it is of use.
    fn watch_records(&mut self) -> anyhow::Result<()> {
        if self.watches_records {
            return Ok(());
        }
        self.watches_records = true;
        let writers = &self.record_writers;
        let links = attach::records(&self.skel, &self.plan, writers).context("cannot watch records")?;
        self.library_links.extend(links);
        Ok(())
    }

    /// Looks, for a while, for the sockets over which programs receive what their library reads from memory.
    fn listen(&mut self) -> anyhow::Result<()> {
        if self.record_writers.is_empty() || !self.listening.begins(Instant::now()) {
            return Ok(());
        }
        let links = attach::records_read(&self.skel, &self.plan, &self.record_writers);
        self.listening.hold(links.context("cannot watch records")?);
        Ok(())
    }

    /// Opens or closes all probes at one moment.
    fn set_running(&self, running: bool) -> anyhow::Result<()> {
        let (key, value) = (0u32.to_le_bytes(), u32::from(running).to_le_bytes());
        let map = &self.skel.maps.running;
        map.update(&key, &value, MapFlags::ANY).context("cannot tell the kernel side to begin or end")
    }

    /// Where the kernel doesn't tell user space the never-reused id of a namespace, a thread of ours goes in
    /// and shows it to the program that sees threads exit.
    fn learn_namespaces(&self, options: &Options) -> anyhow::Result<()> {
        if options.filter.mntns.iter().all(|ns| ns.id != 0) {
            return Ok(());
        }
        let processes = target::processes(&self.proc)?;
        for ns in options.filter.mntns.iter().filter(|ns| ns.id == 0) {
            if let Some(process) = target::in_namespace(&processes, ns.number).next() {
                target::learn_in_namespace(&self.proc, process.pid)
                    .with_context(|| format!("cannot enter mount namespace {}", ns.number))?;
            }
        }
        Ok(())
    }

    fn tell_start(&mut self, options: &Options) {
        let start = Start {
            application: concat!("tlsdump ", env!("CARGO_PKG_VERSION")).into(),
            os: sys::kernel().into(),
            command: command_line().into(),
        };
        wire::encode(&Event::Start(start), &mut self.preamble);
        for (found, id) in options.libraries.iter().zip(1..) {
            let path = found.path.to_string_lossy();
            let version = Cow::from(found.version.as_str());
            wire::encode(&Event::Library(Library { id, path, version }), &mut self.preamble);
        }
        for container in &options.containers {
            self.known.insert(container.mntns);
            wire::encode(&Event::Container(container.clone()), &mut self.preamble);
        }
    }

    /// Appends the kernel's records, each container's name before its first record, and before the end of a
    /// process what its sessions lost at their end.
    fn pass_on(&mut self, records: &[u8], batch: &mut Vec<u8>) -> anyhow::Result<()> {
        for record in Records::new(records) {
            match wire::glance(record) {
                Some(Glance::Session(task, stray)) => {
                    self.name_container(&task, batch);
                    // By no socket: the program must send or receive by itself. Later records will show.
                    match stray.filter(|_| !self.ending) {
                        Some(Dir::Out) => self.watch_records()?,
                        Some(Dir::In) => self.listen()?,
                        None => {}
                    }
                }
                Some(Glance::Exit(task, true)) => self.tell_totals_of(&task, batch)?,
                Some(Glance::Exit(_, false)) | None => {}
            }
            batch.extend_from_slice(record);
            self.packets.iter_mut().for_each(|packets| packets.learn(record));
        }
        Ok(())
    }

    fn name_container(&mut self, task: &Task, batch: &mut Vec<u8>) {
        if self.known.insert(task.mntns) {
            if self.known.len() > CONTAINERS_MAX {
                // Those that are still there are told again.
                self.known = HashSet::from([task.mntns]);
            }
            let (name, description) = target::describe(&self.proc, task.pid, task.mntns.number);
            let container =
                Container { mntns: task.mntns, name: name.into(), description: description.into() };
            wire::encode(&Event::Container(container), batch);
        }
    }

    /// A process has ended of which bytes were lost: tells how many its sessions moved in all. To look
    /// through the table takes time in which nothing is read, so at most a tenth is spent on it; what is left
    /// out is told at the end of the capture.
    fn tell_totals_of(&mut self, ended: &Task, batch: &mut Vec<u8>) -> anyhow::Result<()> {
        let begun = Instant::now();
        if self.totals_due.is_some_and(|due| begun < due) {
            return Ok(());
        }
        self.tell_totals(|task| (task.pid, task.start_ns) == (ended.pid, ended.start_ns), batch)?;
        self.totals_due = Some(begun + begun.elapsed() * 10);
        Ok(())
    }

    /// Tells how many bytes those sessions moved in all, which must not be in use: a session that is has
    /// counted bytes whose records are still to come.
    fn tell_totals(&self, of: impl Fn(&Task) -> bool, batch: &mut Vec<u8>) -> anyhow::Result<()> {
        let at = sys::clock().mono;
        for key in self.skel.maps.sessions.keys() {
            let Some(value) = self.skel.maps.sessions.lookup(&key, MapFlags::ANY)? else { continue };
            let Ok(totals) = wire::decode_session(&value, at) else { continue };
            if totals.totals != [0, 0] && of(&totals.context.task) {
                wire::encode(&Event::Totals(totals), batch);
            }
        }
        Ok(())
    }

    /// What the kernel side counted.
    fn read_counters(&self) -> anyhow::Result<Counters> {
        let key = 0u32.to_le_bytes();
        let per_cpu = self.skel.maps.counters.lookup_percpu(&key, MapFlags::ANY)?;
        let mut sum = Counters::default();
        for value in per_cpu.unwrap_or_default() {
            sum.add(&wire::decode_counters(&value).context("the kernel's counters are not as expected")?);
        }
        Ok(sum)
    }

    fn tell_clock(&mut self, batch: &mut Vec<u8>) -> anyhow::Result<()> {
        let mut counters = self.read_counters()?;
        counters.lost_packets = self.packets.as_mut().map_or(0, Packets::lost);
        wire::encode(&Event::Clock(sys::clock()), batch);
        wire::encode(&Event::Counters(counters), batch);
        self.clock_due = Some(Instant::now() + CLOCK_INTERVAL);
        Ok(())
    }

    /// Detaches, and reads what is still on its way.
    fn end(&mut self, batch: &mut Vec<u8>) -> anyhow::Result<()> {
        self.set_running(false)?;
        self.ending = true;
        // The libraries first: calls that had begun are seen to their end, and their sockets with them.
        self.library_links.extend(self.listening.end());
        self.detach_libraries(batch)?;
        self.links.clear();
        if self.packets.is_some() {
            // What is on its way over the network.
            self.read(WAIT, batch)?;
            self.read(WAIT, batch)?;
        }
        while self.read(Duration::ZERO, batch)? {}
        if self.read_counters()?.lost_bytes > 0 {
            self.tell_totals(|_| true, batch)?;
        }
        self.tell_clock(batch)?;
        self.ended = true;
        Ok(())
    }

    /// For each link the kernel waits until nobody runs the program any more: some 50 ms, for all at once if
    /// they are asked at once. What comes meanwhile must not find the buffer full.
    fn detach_libraries(&mut self, batch: &mut Vec<u8>) -> anyhow::Result<()> {
        let mut links = std::mem::take(&mut self.library_links);
        thread::scope(|scope| {
            let share = links.len().div_ceil(DETACHING_THREADS).max(1);
            let mut threads = Vec::new();
            while !links.is_empty() {
                let part = links.split_off(links.len().saturating_sub(share));
                threads.push(scope.spawn(|| drop(part)));
            }
            while threads.iter().any(|thread| !thread.is_finished()) {
                self.read(DETACHING_WAIT, batch)?;
            }
            Ok(())
        })
    }

    /// Appends what the kernel has, and says whether that was anything.
    fn read(&mut self, wait: Duration, batch: &mut Vec<u8>) -> anyhow::Result<bool> {
        let mut records = Vec::new();
        self.buffer.read(wait, &mut records)?;
        self.pass_on(&records, batch)?;
        // After the records that tell whose they are.
        let packets = self.packets.as_mut().is_some_and(|packets| packets.read(batch));
        Ok(packets || !records.is_empty())
    }
}

impl Source for Live<'_> {
    fn fill(&mut self, batch: &mut Vec<u8>) -> anyhow::Result<State> {
        if self.ended {
            return Ok(State::End);
        }
        batch.append(&mut self.preamble);
        if self.clock_due.is_none_or(|due| Instant::now() >= due) {
            self.tell_clock(batch)?;
        }
        if self.stop.load(Ordering::Relaxed) {
            self.end(batch)?;
            return Ok(State::End);
        }
        self.read(WAIT, batch)?;
        self.listening.look(Instant::now());
        Ok(State::Open)
    }
}

/// Keeps libbpf from writing to standard error by itself: what matters of it is in the errors.
pub fn silence_libbpf() {
    libbpf_rs::set_print(None);
}

/// Whether all places of a file are probed by one link, which the kernel gives up at once.
///
/// # Errors
/// The kernel has no type information.
pub fn attaches_at_once(attach: Attach) -> anyhow::Result<bool> {
    Ok(match attach {
        Attach::Auto => Features::ask()?.uprobe_multi,
        Attach::Multi => true,
        Attach::Perf => false,
    })
}

/// The first kind of witness that the kernel takes.
fn choose_witness(features: &Features, options: &Options) -> anyhow::Result<Witness> {
    if options.witness != Witness::Auto {
        return Ok(options.witness);
    }
    if features.socket_tracepoints {
        return Ok(Witness::Tracepoint);
    }
    if features.fentry && try_witness(&Plan::new(features, Witness::Fentry, options)?, options) {
        return Ok(Witness::Fentry);
    }
    Ok(Witness::Kprobe)
}

/// Loads and attaches the witness of a plan, and lets go of it again.
fn try_witness(plan: &Plan, options: &Options) -> bool {
    let mut storage = Storage::uninit();
    load::load_witness(&mut storage, plan, options)
        .and_then(|skel| attach::witness(&skel, plan.witness, plan.six_arguments).map(drop))
        .is_ok()
}

fn command_line() -> String {
    std::env::args_os().map(|arg| arg.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

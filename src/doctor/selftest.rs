//! Capturing for real: the programs are loaded and attached as for a capture, and what a [`patient`] says
//! must come out, with its connection.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};

use super::{Check, patient};
use crate::event::{Comm, Conn, Dir, Event, How};
use crate::probe::table::NAMELESS;
use crate::probe::{FileId, Found, Hook, Library};
use crate::source::live::{Filter, Live, Options, Storage};
use crate::source::{Source as _, State};
use crate::sys;
use crate::wire::{self, Records};

/// How long a record may take from the call to here, and a patient to its end.
const WAIT_MAX: Duration = Duration::from_secs(10);
/// Kernel buffer: a few records.
const BUFFER_BYTES: usize = 64 << 10;
/// The program that is run again.
const OURSELVES: &str = "/proc/self/exe";

/// Not of the table: only files that bear these functions by chance would fit.
static LIBRARY: Library = Library { name: "self-test", ..NAMELESS };

const SEE_ABOVE: &str = "see the checks above";

/// What came out of the kernel of one patient's doing.
#[derive(Default)]
struct Seen {
    written: Option<Conn>,
    read: Option<Conn>,
}

/// Runs all self-tests.
pub(super) fn checks() -> Vec<Check> {
    let stop = Arc::new(AtomicBool::new(false));
    let options = match options(&stop) {
        Ok(options) => options,
        Err(error) => {
            let what = format!("self-test: {error:#}");
            return vec![Check::fail("load", what, "give tlsdump a /proc to look at itself")];
        }
    };
    let mut storage = Storage::uninit();
    let begun = Instant::now();
    let mut live = match Live::new(&mut storage, &options) {
        Ok(live) => live,
        Err(error) => return vec![Check::fail("load", format!("self-test: {error:#}"), SEE_ABOVE)],
    };
    let took = begun.elapsed().as_millis();
    let means = live.means();
    let mut checks =
        vec![Check::ok("load", format!("self-test: programs loaded and attached in {took} ms ({means})"))];
    match observe(&mut live, false) {
        Ok((ports, status, seen)) => {
            checks.extend(judge(ports, status, &seen));
            checks.push(confined(&mut live));
        }
        Err(error) => checks.push(Check::fail("capture", format!("self-test: {error:#}"), SEE_ABOVE)),
    }
    stop.store(true, Ordering::Relaxed);
    let mut batch = Vec::new();
    while matches!(live.fill(&mut batch), Ok(State::Open)) {
        batch.clear();
    }
    checks
}

fn options(stop: &Arc<AtomicBool>) -> anyhow::Result<Options> {
    let file = File::open(OURSELVES).context(OURSELVES)?;
    let metadata = file.metadata().context(OURSELVES)?;
    let [write, read] = patient::places()?;
    let mut comm = Comm::default();
    for (to, from) in comm.0.iter_mut().zip(patient::COMM) {
        *to = *from;
    }
    let found = Found {
        file,
        path: PathBuf::from(OURSELVES),
        id: FileId { device: metadata.dev(), inode: metadata.ino() },
        library: &LIBRARY,
        hooks: vec![(Hook::WriteInt, write), (Hook::ReadInt, read)],
        functions: Vec::new(),
        random: None,
        build_id: Vec::new(),
        version: LIBRARY.name.to_owned(),
        program: true,
        doubts: Vec::new(),
        mntns: 0,
    };
    Ok(Options {
        filter: Filter { comms: vec![comm], ..Filter::default() },
        libraries: vec![found],
        buffer_bytes: BUFFER_BYTES,
        proc: PathBuf::from("/proc"),
        stop: Arc::clone(stop),
        ..Options::default()
    })
}

fn judge(ports: (u16, u16), status: ExitStatus, seen: &Seen) -> Vec<Check> {
    if !status.success() {
        let what = format!("self-test: the probed process did not survive ({status})");
        return vec![Check::fail("capture", what, "don't capture on this machine; update the kernel")];
    }
    let came = |name, what: &str, conn: Option<Conn>| match conn {
        Some(_) => Check::ok(name, format!("self-test: {what} came out of the kernel")),
        None => Check::fail(
            name,
            format!("self-test: {what} did not come out of the kernel"),
            "uprobes don't fire here; look for other tracers, and report it",
        ),
    };
    let mut checks = vec![
        came("write", "what was written (uprobe and return probe)", seen.written),
        came("read", "what was read (uprobe and return probe)", seen.read),
    ];
    let tuples = [seen.written, seen.read].map(|conn| conn.filter(|conn| conn.how == How::Nested)?.tuple);
    let right = tuples.iter().flatten().filter(|tuple| (tuple.local_port, tuple.remote_port) == ports);
    checks.push(if right.count() == tuples.len() {
        Check::ok("socket", "self-test: the connection was seen inside the calls")
    } else {
        let what = "self-test: the connection was not seen inside the calls";
        Check::warn("socket", what, "captures have made-up addresses; say so to the authors")
    });
    checks
}

/// Whether a program with a seccomp filter survives a return probe.
fn confined(live: &mut Live<'_>) -> Check {
    let name = "seccomp";
    let (_, machine) = sys::kernel_release();
    if machine != "x86_64" {
        return Check::ok(name, format!("seccomp: a return probe makes no system call on {machine}"));
    }
    match observe(live, true) {
        Ok((_, status, _)) if status.success() => {
            Check::ok(name, "self-test: a program with a strict seccomp filter survives a return probe")
        }
        Ok((_, status, _)) if status.signal().is_some() => Check::fail(
            name,
            format!("self-test: a return probe kills programs with a strict seccomp filter ({status})"),
            "don't capture containers or services here; update to Linux 6.14, or 6.12.y with its fix",
        ),
        Ok((_, status, _)) => {
            let what = format!("self-test: the program with a seccomp filter failed ({status})");
            Check::warn(name, what, "whether return probes kill such programs is not known")
        }
        Err(error) => {
            let what = format!("self-test of seccomp: {error:#}");
            Check::warn(name, what, "whether return probes kill programs with a filter is not known")
        }
    }
}

/// Lets a patient speak, and looks for what it said. Gives the ports of its connection, and how it ended.
fn observe(live: &mut Live<'_>, confined: bool) -> anyhow::Result<((u16, u16), ExitStatus, Seen)> {
    let kind = if confined { "confined" } else { "free" };
    let mut command = Command::new(OURSELVES);
    command.args(["doctor", "--self-test-child", kind]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = Reaped(command.spawn().context("cannot start another tlsdump")?);
    let (stdin, stdout) = (child.0.stdin.take(), child.0.stdout.take());
    let (Some(mut stdin), Some(stdout)) = (stdin, stdout) else { bail!("no pipe") };
    let mut ready = String::new();
    BufReader::new(stdout).read_line(&mut ready).context("cannot read from another tlsdump")?;
    let ports = ports_in(&ready);
    let Some(ports) = ports else {
        let mut why = String::new();
        if let Some(stderr) = child.0.stderr.take() {
            BufReader::new(stderr).read_line(&mut why).context("cannot read from another tlsdump")?;
        }
        bail!("another tlsdump could not do its part ({})", why.trim_end());
    };
    // No other doctor says the same.
    let message = format!("{kind} {} {}", std::process::id(), sys::clock().mono);
    ensure!(message.len() < patient::MESSAGE_BYTES, "a message that is too long");
    writeln!(stdin, "{message}").context("cannot write to another tlsdump")?;
    drop(stdin);
    let deadline = Instant::now() + WAIT_MAX;
    let (mut seen, mut status) = (Seen::default(), None);
    let mut batch = Vec::new();
    while Instant::now() < deadline {
        let ended = status.is_some();
        let speechless = status.is_some_and(|status: ExitStatus| !status.success());
        batch.clear();
        live.fill(&mut batch)?;
        seen.look(&batch, message.as_bytes());
        if ended && (speechless || seen.written.is_some() && seen.read.is_some()) {
            break;
        }
        status = status.or(child.0.try_wait()?);
    }
    let status = status.context("another tlsdump did not end")?;
    Ok((ports, status, seen))
}

/// `ready LOCAL REMOTE`
fn ports_in(line: &str) -> Option<(u16, u16)> {
    let (local, remote) = line.trim_end().strip_prefix(patient::READY)?.trim_start().split_once(' ')?;
    Some((local.parse().ok()?, remote.parse().ok()?))
}

impl Seen {
    fn look(&mut self, batch: &[u8], message: &[u8]) {
        for event in Records::new(batch).filter_map(|record| wire::decode(record).ok()) {
            if let Event::Data(data) = event
                && data.bytes == message
            {
                match data.dir {
                    Dir::Out => self.written = Some(data.context.conn),
                    Dir::In => self.read = Some(data.context.conn),
                }
            }
        }
    }
}

/// A process that does not outlive this one's interest.
struct Reaped(Child);

impl Drop for Reaped {
    fn drop(&mut self) {
        // Of one that has ended already nothing is left to kill.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

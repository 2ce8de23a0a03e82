//! From what the user named to what the kernel side needs: namespaces, libraries, names.

use std::path::Path;

use anyhow::{Context as _, bail};

use crate::config::{Live, Verbosity};
use crate::event::{Container, MountNs};
use crate::probe::{Found, Plan, Scanner};
use crate::source::live::{self, Filter, Options, Wires};
use crate::sys::{self, Capability};
use crate::target::{self, Selector, Target};

/// Most programs that nobody runs yet, where each place of them is a probe by itself: one of Go has some 40,
/// and it takes the kernel up to a tenth of a second to give one up.
const AHEAD_ONE_BY_ONE: usize = 4;

/// Looks the target up and finds its libraries. Nothing is loaded or attached yet.
///
/// # Errors
/// Nothing is there that could be captured.
pub fn prepare(live: &Live, verbosity: Verbosity) -> anyhow::Result<Options> {
    let proc = live.root.join("proc");
    let targets = &live.targets;
    let selector = Selector { mntns: targets.mntns.clone(), pids: targets.pids.clone() };
    let target = selector.resolve(&proc).map_err(|error| explain(error.into()))?;
    let plan = find_libraries(live, &target, &proc)?;
    if verbosity >= Verbosity::Verbose {
        tell(&plan);
    }
    let writers = plan.found.iter().filter_map(|found| found.record_writer().transpose());
    let record_writers = writers.collect::<Result<_, _>>().context("cannot keep a library open")?;
    let (libraries, helpers): (Vec<_>, Vec<_>) = plan.found.into_iter().partition(Found::is_tls);
    if libraries.is_empty() {
        bail!(
            "no TLS library was found in the target: `tlsdump list` with the same target says why; \
             --lib names another file"
        );
    }
    let by_namespace = !targets.mntns.is_empty();
    let chosen: &[MountNs] = if by_namespace { &target.namespaces } else { &[] };
    Ok(Options {
        filter: Filter {
            mntns: chosen.to_vec(),
            pids: targets.pids.clone(),
            uids: targets.uids.clone(),
            comms: targets.comms.clone(),
        },
        libraries,
        helpers,
        secrets: live.secrets,
        wires: live.packets.then(|| wires(live, &proc, &target)).transpose()?,
        record_writers,
        watch_records: plan.sends_records,
        containers: chosen.iter().filter_map(|ns| container(&proc, &target, *ns)).collect(),
        buffer_bytes: live.buffer_bytes as usize,
        transport: live.transport,
        witness: live.witness,
        attach: live.attach,
        proc,
        ..Options::default()
    })
}

/// Without rights most processes can't be seen, which must not be taken for their not being there.
pub(crate) fn explain(error: anyhow::Error) -> anyhow::Error {
    if sys::has_capability(Capability::SysPtrace) {
        return error;
    }
    error.context("without CAP_SYS_PTRACE only own processes can be looked at (run as root)")
}

/// What is said when every probe is in place: `capturing 1 mount namespace, 2 libraries (ring buffer)`.
#[must_use]
pub fn armed(options: &Options, transport: &str) -> String {
    let namespaces = match options.filter.mntns.len() {
        0 => "all mount namespaces".to_owned(),
        1 => "1 mount namespace".to_owned(),
        n => format!("{n} mount namespaces"),
    };
    let libraries = match options.libraries.len() {
        1 => "1 library".to_owned(),
        n => format!("{n} libraries"),
    };
    format!("capturing {namespaces}, {libraries} ({transport})")
}

fn find_libraries(asked: &Live, target: &Target, proc: &Path) -> anyhow::Result<Plan> {
    let mut scanner = Scanner::new(proc);
    if !live::attaches_at_once(asked.attach)? {
        scanner.programs_ahead(AHEAD_ONE_BY_ONE);
    }
    for library in &asked.libraries {
        scanner.library_at(&library.file, &library.places).context("cannot probe --lib")?;
    }
    let pids: Vec<u32> = target.processes.iter().map(|process| process.pid).collect();
    scanner.scan(&pids);
    Ok(scanner.take())
}

/// The network namespaces of the target's processes.
fn wires(live: &Live, proc: &Path, target: &Target) -> anyhow::Result<Wires> {
    let namespaces = target::network_namespaces(proc, &target.processes);
    let namespaces = namespaces.context("cannot look at the network namespaces of the target")?;
    Ok(Wires { namespaces, interface: live.interface.clone() })
}

fn tell(plan: &Plan) {
    for found in &plan.found {
        let (path, version) = (found.path.display(), &found.version);
        eprintln!("tlsdump: probing {path} ({version}, {} places)", found.hooks.len());
        for doubt in &found.doubts {
            eprintln!("tlsdump: {path} has no names, and {doubt}");
        }
    }
    for skipped in &plan.skipped {
        eprintln!("tlsdump: not probing {}: {}", skipped.path.display(), skipped.why);
    }
    if plan.skipped_more > 0 {
        eprintln!("tlsdump: {} more files were not probed", plan.skipped_more);
    }
}

fn container(proc: &Path, target: &Target, mntns: MountNs) -> Option<Container<'static>> {
    let process = target::in_namespace(&target.processes, mntns.number).next()?;
    let (name, description) = target::describe(proc, process.pid, mntns.number);
    Some(Container { mntns, name: name.into(), description: description.into() })
}

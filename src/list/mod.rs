//! `tlsdump list`: the TLS libraries of a target, and what can't be probed, with the reason.
//!
//! It looks where a capture would, by the same code, and needs no right but to look at processes.

mod report;
mod table;

use std::collections::HashMap;
use std::io::{self, Write as _};
use std::path::Path;

use anyhow::Context as _;

use crate::arm;
use crate::config::List;
use crate::probe::{FileId, Plan, Scanner};
use crate::sys::{self, Capability};
use crate::target::{self, Process, Selector, Target};

use report::{Container, Library, NotProbed, Report, Unseen, User};

/// Prints the list, and says whether a library was found that can be probed.
///
/// # Errors
/// The target isn't there, a file of `--lib` can't be probed, or standard output can't be written to.
pub fn run(config: &List) -> anyhow::Result<bool> {
    let report = look(config)?;
    let text = if config.json {
        let mut text = serde_json::to_string_pretty(&report).context("cannot make JSON")?;
        text.push('\n');
        text
    } else {
        table::text(&report, config.verbose)
    };
    match io::stdout().write_all(text.as_bytes()).and_then(|()| io::stdout().flush()) {
        // Who reads no further has seen enough.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(error).context("cannot write to standard output")
        }
        _ => Ok(!report.found.is_empty()),
    }
}

fn look(config: &List) -> anyhow::Result<Report> {
    let proc = config.root.join("proc");
    let targets = &config.targets;
    let selector = Selector { mntns: targets.mntns.clone(), pids: targets.pids.clone() };
    let target = selector.resolve(&proc).map_err(|error| arm::explain(error.into()))?;
    let mut scanner = Scanner::new(&proc).inquiring();
    for library in &config.libraries {
        scanner.library_at(&library.file, &library.places).context("cannot probe --lib")?;
    }
    let pids: Vec<u32> = target.processes.iter().map(|process| process.pid).collect();
    if config.named {
        scanner.scan(&pids);
    } else {
        scanner.scan_mapped(&pids);
    }
    let unseen = if targets.pids.is_empty() { target::unseen(&proc) } else { 0 };
    let shown = |process: &Process| {
        (targets.uids.is_empty() || targets.uids.contains(&process.uid))
            && (targets.comms.is_empty() || targets.comms.contains(&process.comm))
    };
    Ok(Observer::new(&proc, &target, shown).report(scanner.take(), unseen))
}

/// Turns numbers into what people know.
struct Observer<'a> {
    proc: &'a Path,
    /// Those that are shown.
    processes: HashMap<u32, Process>,
    /// A process in each mount namespace.
    inhabitants: HashMap<u32, u32>,
    containers: HashMap<u32, Container>,
}

impl<'a> Observer<'a> {
    fn new(proc: &'a Path, target: &Target, shown: impl Fn(&Process) -> bool) -> Self {
        let shown = target.processes.iter().filter(|process| shown(process));
        Self {
            proc,
            processes: shown.map(|process| (process.pid, *process)).collect(),
            inhabitants: target.processes.iter().rev().map(|process| (process.mntns, process.pid)).collect(),
            containers: HashMap::new(),
        }
    }

    fn report(mut self, plan: Plan, unseen: usize) -> Report {
        let users = &plan.users;
        let found = plan.found.iter().filter(|found| found.is_tls()).map(|found| Library {
            path: found.path.to_string_lossy().into_owned(),
            library: found.library.name,
            version: found.version.clone(),
            program: found.program,
            build_id: found.build_id.iter().map(|byte| format!("{byte:02x}")).collect(),
            inode: found.id.inode,
            container: self.container(found.mntns),
            functions: found.functions.clone(),
            doubts: found.doubts.iter().map(ToString::to_string).collect(),
            places: found.hooks.len(),
            processes: self.users(users, found.id),
        });
        let mut found: Vec<_> = found.collect();
        found.sort_by_key(|library| std::cmp::Reverse(library.processes.len()));
        let (mut not_probed, mut places) = (Vec::new(), Vec::new());
        for skipped in &plan.skipped {
            let (path, why) = (skipped.path.to_string_lossy().into_owned(), skipped.why.clone());
            match skipped.id {
                Some(id) => not_probed.push(NotProbed {
                    path,
                    why,
                    container: self.container(skipped.mntns),
                    processes: self.users(users, id),
                }),
                None => places.push(Unseen { path, why }),
            }
        }
        not_probed.sort_by_key(|file| std::cmp::Reverse(file.processes.len()));
        Report {
            schema: report::SCHEMA,
            found,
            not_probed,
            unseen: places,
            more: plan.skipped_more,
            unseen_processes: unseen,
            processes: self.processes.len(),
            may_see_all: sys::has_capability(Capability::SysPtrace),
        }
    }

    fn users(&self, users: &HashMap<FileId, Vec<u32>>, id: FileId) -> Vec<User> {
        let pids = users.get(&id).map(Vec::as_slice).unwrap_or_default();
        let known = pids.iter().filter_map(|pid| self.processes.get(pid));
        known.map(|p| User { pid: p.pid, comm: p.comm.text(), mntns: p.mntns }).collect()
    }

    /// None for a file that the user named.
    fn container(&mut self, mntns: u32) -> Option<Container> {
        let &pid = self.inhabitants.get(&mntns)?;
        let container = self.containers.entry(mntns).or_insert_with(|| {
            let (name, description) = target::describe(self.proc, pid, mntns);
            Container { mntns, name, description }
        });
        Some(container.clone())
    }
}

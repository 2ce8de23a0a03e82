//! Loaded programs → links: on the functions of a library, on the witnesses, on thread exit.

use std::path::Path;

use anyhow::Context as _;
use libbpf_rs::{Link, ProgramMut, UprobeMultiOpts, UprobeOpts};

use crate::probe::{Found, Hook};
use crate::sys;

use super::Witness;
use super::load::Plan;
use super::skel::{TlsdumpProgs, TlsdumpSkel};

/// Any process: which of them is wanted is decided by the programs. (With a pid, `uprobe.multi` of kernels
/// 6.6 to 6.9 misses threads.)
const ANY_PROCESS: i32 = -1;

/// Where a program goes on a function.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Entry,
    Return,
}

/// The programs of a hook. Those at the return come first, so that no call is seen to begin that is not
/// seen to end.
fn programs<'p, 'obj>(
    progs: &'p TlsdumpProgs<'obj>,
    hook: Hook,
    plan: &Plan,
) -> Vec<(&'p ProgramMut<'obj>, Side)> {
    let pick = |looped, unrolled| if plan.bpf_loop { looped } else { unrolled };
    match hook {
        Hook::WriteInt => vec![
            (pick(&progs.exit_write_int, &progs.exit_write_int_unrolled), Side::Return),
            (&progs.enter_write_int, Side::Entry),
        ],
        Hook::ReadInt => vec![
            (pick(&progs.exit_read_int, &progs.exit_read_int_unrolled), Side::Return),
            (&progs.enter_read_int, Side::Entry),
        ],
        Hook::WriteEx => vec![
            (pick(&progs.exit_write_out, &progs.exit_write_out_unrolled), Side::Return),
            (&progs.enter_write_out, Side::Entry),
        ],
        Hook::ReadEx => vec![
            (pick(&progs.exit_read_out, &progs.exit_read_out_unrolled), Side::Return),
            (&progs.enter_read_out, Side::Entry),
        ],
        Hook::New => vec![(&progs.new_session, Side::Return)],
        Hook::Free => vec![(&progs.free_session, Side::Entry)],
        Hook::Shutdown => vec![(&progs.shutdown_session, Side::Entry)],
        Hook::SetFd => vec![(&progs.set_fd, Side::Entry)],
        Hook::RoleClient => vec![(&progs.role_client, Side::Entry)],
        Hook::RoleServer => vec![(&progs.role_server, Side::Entry)],
        Hook::Control => vec![(&progs.enter_control, Side::Entry)],
        Hook::ServerName => {
            vec![(&progs.exit_server_name, Side::Return), (&progs.enter_server_name, Side::Entry)]
        }
        Hook::Protocol => vec![(&progs.exit_protocol, Side::Return), (&progs.enter_protocol, Side::Entry)],
    }
}

/// Attaches to every function of one library or program. The links hold the file's inode, so that the open
/// file can be dropped.
pub(super) fn library(
    skel: &TlsdumpSkel<'_>,
    plan: &Plan,
    found: &Found,
    library: u32,
) -> anyhow::Result<Vec<Link>> {
    let path = sys::fd_path(&found.file);
    let mut links = Vec::new();
    for (hook, offset) in &found.hooks {
        for (program, side) in programs(&skel.progs, *hook, plan) {
            let link = function(program, side, plan, &path, *offset, library)
                .with_context(|| format!("cannot probe {} ({hook:?})", found.path.display()))?;
            links.push(link);
        }
    }
    Ok(links)
}

fn function(
    program: &ProgramMut<'_>,
    side: Side,
    plan: &Plan,
    path: &Path,
    offset: u64,
    library: u32,
) -> anyhow::Result<Link> {
    let offset = usize::try_from(offset).context("function beyond the address space")?;
    let cookie = if plan.cookies { u64::from(library) } else { 0 };
    let retprobe = side == Side::Return;
    let link = if plan.uprobe_multi {
        let opts =
            UprobeMultiOpts { offsets: vec![offset], cookies: vec![cookie], retprobe, ..Default::default() };
        program.attach_uprobe_multi_with_opts(ANY_PROCESS, path, "", opts)?
    } else {
        let opts = UprobeOpts { cookie, retprobe, ..Default::default() };
        program.attach_uprobe_with_opts(ANY_PROCESS, path, offset, opts)?
    };
    Ok(link)
}

/// Attaches what sees processes begin and end.
pub(super) fn processes(skel: &TlsdumpSkel<'_>) -> anyhow::Result<Vec<Link>> {
    let p = &skel.progs;
    let programs = [
        (&p.thread_exit, "sched_process_exit"),
        (&p.process_exec, "sched_process_exec"),
        (&p.process_fork, "sched_process_fork"),
    ];
    let attach = |(program, tracepoint): (&ProgramMut<'_>, _)| {
        program.attach_raw_tracepoint(tracepoint).with_context(|| format!("cannot attach to {tracepoint}"))
    };
    programs.into_iter().map(attach).collect()
}

/// Attaches what sees sockets being used.
pub(super) fn witness(skel: &TlsdumpSkel<'_>, witness: Witness) -> anyhow::Result<Vec<Link>> {
    let p = &skel.progs;
    let links = match witness {
        Witness::Auto | Witness::Tracepoint => vec![
            p.witness_send_tp.attach_raw_tracepoint("sock_send_length")?,
            p.witness_recv_tp.attach_raw_tracepoint("sock_recv_length")?,
        ],
        Witness::Fentry => vec![p.witness_send_fentry.attach_trace()?, p.witness_recv_fentry.attach_trace()?],
        Witness::Kprobe => vec![
            p.witness_send_kprobe.attach_kprobe(false, "tcp_sendmsg")?,
            p.witness_recv_kprobe.attach_kprobe(false, "tcp_recvmsg")?,
        ],
    };
    Ok(links)
}

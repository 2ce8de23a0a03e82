//! Loaded programs → links: on the functions of a library, on the witnesses, on thread exit.

use std::path::Path;

use anyhow::Context as _;
use libbpf_rs::{Link, ProgramMut, UprobeMultiOpts, UprobeOpts};

use crate::probe::{Found, Hook, Purpose, RecordWriter};
use crate::sys;

use super::Witness;
use super::go;
use super::kernel::Uring;
use super::load::Plan;
use super::rustls;
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
    let returning = at_return(progs, hook, plan).map(|program| (program, Side::Return));
    returning.into_iter().chain(at_entry(progs, hook, plan).map(|program| (program, Side::Entry))).collect()
}

fn at_return<'p, 'obj>(
    progs: &'p TlsdumpProgs<'obj>,
    hook: Hook,
    plan: &Plan,
) -> Option<&'p ProgramMut<'obj>> {
    let pick = |looped, unrolled| if plan.bpf_loop { looped } else { unrolled };
    Some(match hook {
        Hook::WriteInt => pick(&progs.exit_write_int, &progs.exit_write_int_unrolled),
        Hook::ReadInt | Hook::ReadIntFlags => pick(&progs.exit_read_int, &progs.exit_read_int_unrolled),
        Hook::WriteEx | Hook::WriteExFlags => pick(&progs.exit_write_out, &progs.exit_write_out_unrolled),
        Hook::ReadEx => pick(&progs.exit_read_out, &progs.exit_read_out_unrolled),
        Hook::WriteLong | Hook::WriteAll | Hook::WriteUnseen => {
            pick(&progs.exit_write_long, &progs.exit_write_long_unrolled)
        }
        Hook::ReadLong => pick(&progs.exit_read_long, &progs.exit_read_long_unrolled),
        Hook::Flush => &progs.exit_flush,
        Hook::New => &progs.new_session,
        Hook::NewOut => &progs.exit_new_out,
        Hook::NssImport => &progs.nss_import,
        Hook::Control | Hook::HostName | Hook::HostNameBytes | Hook::NssHostName => &progs.exit_host_name,
        Hook::ServerName => &progs.exit_server_name,
        Hook::ServerNameCopied => &progs.exit_server_name_copied,
        Hook::Protocol => &progs.exit_protocol,
        Hook::ProtocolString => &progs.exit_protocol_string,
        Hook::ProtocolDatum => &progs.exit_protocol_datum,
        Hook::ProtocolShort => &progs.exit_protocol_short,
        Hook::NssProtocol => &progs.exit_protocol_copied,
        Hook::PacketRead => &progs.exit_packet_read,
        Hook::PacketGet => &progs.exit_packet_get,
        Hook::Derive | Hook::DeriveKey | Hook::DeriveExpand => &progs.exit_derive,
        Hook::DeriveVoid => &progs.exit_derive_void,
        Hook::Rustls(site) => return rustls::at_return(progs, site, plan),
        Hook::RecordRead => &progs.exit_record_read,
        _ => return None,
    })
}

fn at_entry<'p, 'obj>(
    progs: &'p TlsdumpProgs<'obj>,
    hook: Hook,
    plan: &Plan,
) -> Option<&'p ProgramMut<'obj>> {
    Some(match hook {
        Hook::WriteInt | Hook::WriteLong => &progs.enter_write_int,
        Hook::ReadInt | Hook::ReadLong => &progs.enter_read_int,
        Hook::WriteEx => &progs.enter_write_out,
        Hook::WriteExFlags => &progs.enter_write_out_flags,
        Hook::ReadEx => &progs.enter_read_out,
        Hook::WriteAll => &progs.enter_write_all,
        Hook::WriteUnseen | Hook::Flush => &progs.enter_write_unseen,
        Hook::New | Hook::NssImport => return None,
        Hook::NewOut => &progs.enter_new_out,
        Hook::Renew => &progs.renew_session,
        Hook::Clear => &progs.clear_session,
        Hook::Free => &progs.free_session,
        Hook::Shutdown => &progs.shutdown_session,
        Hook::SetFd => &progs.set_fd,
        Hook::SetPointer => &progs.set_pointer,
        Hook::RoleClient => &progs.role_client,
        Hook::RoleServer => &progs.role_server,
        Hook::Control => &progs.enter_control,
        Hook::HostName => &progs.enter_host_name,
        Hook::HostNameBytes => &progs.enter_host_name_bytes,
        Hook::ServerName | Hook::ProtocolString => &progs.enter_name,
        Hook::Protocol | Hook::ProtocolShort | Hook::ServerNameCopied => &progs.enter_placed,
        Hook::ProtocolDatum => &progs.enter_datum,
        Hook::PacketRead => &progs.enter_packet_read,
        Hook::PacketGet => &progs.enter_packet_get,
        Hook::PacketFree => &progs.packet_free,
        Hook::Close => &progs.close_session,
        Hook::ReadIntFlags => &progs.enter_read_int_flags,
        Hook::NssShutdown => &progs.nss_shutdown,
        Hook::NssReset => &progs.nss_reset,
        Hook::NssOption => &progs.nss_option,
        Hook::NssHostName => &progs.enter_nss_host_name,
        Hook::NssProtocol => &progs.enter_nss_protocol,
        Hook::Record => &progs.record_written,
        Hook::Derive => &progs.enter_kdf_derive,
        Hook::RecordRead => &progs.enter_record_read,
        Hook::DeriveControl => &progs.enter_pkey_control,
        Hook::DeriveKey => &progs.enter_pkey_derive,
        Hook::DeriveExpand => &progs.enter_hkdf_expand,
        Hook::DeriveKeys => &progs.enter_tls1_prf,
        Hook::DeriveVoid => &progs.enter_nettle_expand,
        Hook::DeriveMaster => &progs.enter_gnutls_prf,
        Hook::Go(site, abi) => go::program(progs, site, abi, plan),
        Hook::Rustls(site) => rustls::at_entry(progs, site),
    })
}

/// Attaches to every function of one library or program, to those for secrets if they are wanted. The links
/// hold the file's inode, so that the open file can be dropped.
pub(super) fn library(
    skel: &TlsdumpSkel<'_>,
    plan: &Plan,
    found: &Found,
    library: u32,
    secrets: bool,
) -> anyhow::Result<Vec<Link>> {
    let path = sys::fd_path(&found.file);
    let mut links = Vec::new();
    for places in found.hooks.chunk_by(|(a, _), (b, _)| a == b) {
        let Some((hook, _)) = places.first() else { continue };
        // Those for records come only when they are needed.
        if hook.purpose() == Purpose::Records || (hook.purpose() == Purpose::Secrets && !secrets) {
            continue;
        }
        let offsets: Vec<_> = places.iter().map(|(_, offset)| *offset).collect();
        for (program, side) in programs(&skel.progs, *hook, plan) {
            let attached = functions(program, side, plan, &path, &offsets, library)
                .with_context(|| format!("cannot probe {} ({hook:?})", found.path.display()))?;
            links.extend(attached);
        }
    }
    Ok(links)
}

/// Attaches where records are written, and what sees them being sent by `io_uring`. What else sends them is
/// seen by the witness.
pub(super) fn records(
    skel: &TlsdumpSkel<'_>,
    plan: &Plan,
    writers: &[RecordWriter],
) -> anyhow::Result<Vec<Link>> {
    let mut links = Vec::new();
    match plan.uring {
        Some(Uring::Request) => {
            links.push(skel.progs.uring_submit_req.attach_raw_tracepoint("io_uring_submit_req")?);
        }
        Some(Uring::Entry) => {
            links.push(skel.progs.uring_submit_sqe.attach_raw_tracepoint("io_uring_submit_sqe")?);
        }
        None => {}
    }
    for RecordWriter { file, offsets, .. } in writers {
        let path = sys::fd_path(file);
        links.extend(functions(&skel.progs.record_written, Side::Entry, plan, &path, offsets, 0)?);
    }
    Ok(links)
}

/// Attaches where records are read.
pub(super) fn records_read(
    skel: &TlsdumpSkel<'_>,
    plan: &Plan,
    writers: &[RecordWriter],
) -> anyhow::Result<Vec<Link>> {
    let mut links = Vec::new();
    for RecordWriter { file, reads, .. } in writers.iter().filter(|writer| !writer.reads.is_empty()) {
        for (program, side) in programs(&skel.progs, Hook::RecordRead, plan) {
            links.extend(functions(program, side, plan, &sys::fd_path(file), reads, 0)?);
        }
    }
    Ok(links)
}

/// Attaches one program at several places, by one link where the kernel can.
fn functions(
    program: &ProgramMut<'_>,
    side: Side,
    plan: &Plan,
    path: &Path,
    offsets: &[u64],
    library: u32,
) -> anyhow::Result<Vec<Link>> {
    let offsets = offsets.iter().map(|&offset| usize::try_from(offset)).collect::<Result<Vec<_>, _>>();
    let offsets = offsets.context("function beyond the address space")?;
    let cookie = if plan.cookies { u64::from(library) } else { 0 };
    let retprobe = side == Side::Return;
    if plan.uprobe_multi {
        let cookies = vec![cookie; offsets.len()];
        let opts = UprobeMultiOpts { offsets, cookies, retprobe, ..Default::default() };
        return Ok(vec![program.attach_uprobe_multi_with_opts(ANY_PROCESS, path, "", opts)?]);
    }
    let attach = |offset| {
        let opts = UprobeOpts { cookie, retprobe, ..Default::default() };
        Ok(program.attach_uprobe_with_opts(ANY_PROCESS, path, offset, opts)?)
    };
    offsets.into_iter().map(attach).collect()
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
pub(super) fn witness(
    skel: &TlsdumpSkel<'_>,
    witness: Witness,
    six_arguments: bool,
) -> anyhow::Result<Vec<Link>> {
    let p = &skel.progs;
    let links = match witness {
        Witness::Auto | Witness::Tracepoint => vec![
            p.witness_send_tp.attach_raw_tracepoint("sock_send_length")?,
            p.witness_recv_tp.attach_raw_tracepoint("sock_recv_length")?,
        ],
        Witness::Fentry => {
            let recv = if six_arguments { &p.witness_recv_fexit_six } else { &p.witness_recv_fexit };
            vec![p.witness_send_fentry.attach_trace()?, recv.attach_trace()?]
        }
        Witness::Kprobe => vec![
            p.witness_send_kprobe.attach_kprobe(false, "tcp_sendmsg")?,
            p.witness_recv_kretprobe.attach_kprobe(true, "tcp_recvmsg")?,
            p.witness_recv_kprobe.attach_kprobe(false, "tcp_recvmsg")?,
        ],
    };
    Ok(links)
}

//! From the BPF object to loaded programs: which are needed, the maps' sizes, the configuration.

use std::mem::MaybeUninit;

use anyhow::{Context as _, ensure};
use libbpf_rs::skel::{OpenSkel as _, SkelBuilder as _};
use libbpf_rs::{MapCore as _, MapFlags, MapType, OpenObject, ProgramAttachType};

use super::go;
use super::kernel::{Features, Uring};
use super::rustls;
use super::skel::{OpenTlsdumpSkel, TlsdumpSkel, TlsdumpSkelBuilder};
use super::{Attach, Filter, Options, Transport, Witness};
use crate::probe::Found;
use crate::probe::random::STEPS_MAX;

/// `SCRATCH_SLOTS` of `bpf/emit.h`.
const SCRATCH_SLOTS: u32 = 4;
const PAGE_BYTES: usize = 4096;
/// So much waits in the ring buffer before the kernel side wakes this process; at most a quarter of it.
const WAKEUP_BYTES: u32 = 512 * 1024;
/// `SEC()` of the programs on library functions.
const UPROBE_SECTIONS: [&str; 2] = ["uprobe", "uretprobe"];

/// What was chosen from what the kernel offers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    pub(super) ring: bool,
    pub(super) uprobe_multi: bool,
    pub(super) cookies: bool,
    pub(super) bpf_loop: bool,
    pub(super) witness: Witness,
    /// Whether the kernel's `tcp_recvmsg()` has six arguments.
    pub(super) six_arguments: bool,
    pub(super) uring: Option<Uring>,
}

impl Plan {
    /// Chooses; what was forced by an option and is not there is an error.
    pub(super) fn new(features: &Features, witness: Witness, options: &Options) -> anyhow::Result<Self> {
        let ring = match options.transport {
            Transport::Auto => features.ring_buffer,
            Transport::Perf => false,
            Transport::Ring => {
                ensure!(
                    features.ring_buffer,
                    "this kernel has no BPF ring buffer (5.8): use --transport perf"
                );
                true
            }
        };
        let uprobe_multi = match options.attach {
            Attach::Auto => features.uprobe_multi,
            Attach::Perf => false,
            Attach::Multi => {
                ensure!(features.uprobe_multi, "this kernel has no uprobe.multi (6.6): use --attach perf");
                true
            }
        };
        Ok(Self {
            ring,
            uprobe_multi,
            cookies: features.cookies,
            bpf_loop: features.bpf_loop,
            witness,
            six_arguments: features.six_arguments,
            uring: features.uring,
        })
    }
}

/// Loads the programs, with the filter in place before anything can run.
pub(super) fn load<'obj>(
    storage: &'obj mut MaybeUninit<OpenObject>,
    plan: &Plan,
    options: &Options,
) -> anyhow::Result<TlsdumpSkel<'obj>> {
    let mut open = TlsdumpSkelBuilder::default().open(storage).context("cannot open the BPF object")?;
    configure(&mut open, plan, options)?;
    size_maps(&mut open, plan, options)?;
    choose_programs(&mut open, plan, options);
    let skel = open.load().context(
        "the kernel refused the BPF programs: run as root, or with CAP_BPF, CAP_PERFMON and CAP_SYS_PTRACE \
         (-v -v shows the kernel's reason)",
    )?;
    fill_filter(&skel, &options.filter).context("cannot fill the filter")?;
    Ok(skel)
}

/// Loads nothing but the programs of the plan's witness, to see whether the kernel takes them.
pub(super) fn load_witness<'obj>(
    storage: &'obj mut MaybeUninit<OpenObject>,
    plan: &Plan,
    options: &Options,
) -> anyhow::Result<TlsdumpSkel<'obj>> {
    let mut open = TlsdumpSkelBuilder::default().open(storage).context("cannot open the BPF object")?;
    for mut program in open.open_object_mut().progs_mut() {
        program.set_autoload(false);
    }
    configure(&mut open, plan, options)?;
    size_maps(&mut open, plan, options)?;
    choose_witness(&mut open, plan.witness, plan.six_arguments);
    Ok(open.load()?)
}

fn configure(open: &mut OpenTlsdumpSkel<'_>, plan: &Plan, options: &Options) -> anyhow::Result<()> {
    let rodata = open.maps.rodata_data.as_deref_mut().context("the BPF object has no configuration")?;
    let filter = &options.filter;
    rodata.config.by_mntns = u32::from(!filter.mntns.is_empty());
    rodata.config.by_pid = u32::from(!filter.pids.is_empty());
    rodata.config.by_uid = u32::from(!filter.uids.is_empty());
    rodata.config.by_comm = u32::from(!filter.comms.is_empty());
    rodata.config.use_ring = u32::from(plan.ring);
    rodata.config.own_pid = std::process::id();
    rodata.config.wakeup_bytes = WAKEUP_BYTES.min(ring_bytes(options.buffer_bytes) / 4);
    Ok(())
}

fn size_maps(open: &mut OpenTlsdumpSkel<'_>, plan: &Plan, options: &Options) -> anyhow::Result<()> {
    let cpus = libbpf_rs::num_possible_cpus().context("cannot count the CPUs")? as u32;
    open.maps.scratch.set_max_entries(cpus * SCRATCH_SLOTS)?;
    if plan.ring {
        open.maps.events.set_max_entries(ring_bytes(options.buffer_bytes))?;
    } else {
        open.maps.events.set_type(MapType::PerfEventArray)?;
        open.maps.events.set_key_size(4)?;
        open.maps.events.set_value_size(4)?;
        open.maps.events.set_max_entries(cpus)?;
    }
    Ok(())
}

/// The kernel wants a power of two and whole pages.
fn ring_bytes(asked: usize) -> u32 {
    u32::try_from(asked.next_power_of_two().max(PAGE_BYTES)).unwrap_or(1 << 31)
}

/// Pages of one CPU's perf buffer: a power of two, all CPUs together about what was asked for.
pub(super) fn perf_pages(asked: usize) -> usize {
    let cpus = libbpf_rs::num_possible_cpus().unwrap_or(1);
    (asked / cpus / PAGE_BYTES).max(1).next_power_of_two()
}

fn choose_programs(open: &mut OpenTlsdumpSkel<'_>, plan: &Plan, options: &Options) {
    if plan.uprobe_multi {
        for mut program in open.open_object_mut().progs_mut() {
            if UPROBE_SECTIONS.iter().any(|section| program.section() == *section) {
                program.set_attach_type(ProgramAttachType::TraceUprobeMulti);
            }
        }
    }
    let p = &mut open.progs;
    for (program, needs_loop) in [
        (&mut p.exit_write_int, true),
        (&mut p.exit_read_int, true),
        (&mut p.exit_write_out, true),
        (&mut p.exit_read_out, true),
        (&mut p.exit_write_long, true),
        (&mut p.exit_read_long, true),
        (&mut p.exit_write_int_unrolled, false),
        (&mut p.exit_read_int_unrolled, false),
        (&mut p.exit_write_out_unrolled, false),
        (&mut p.exit_read_out_unrolled, false),
        (&mut p.exit_write_long_unrolled, false),
        (&mut p.exit_read_long_unrolled, false),
    ] {
        program.set_autoload(needs_loop == plan.bpf_loop);
    }
    go::choose(&mut open.progs, plan, &options.libraries);
    rustls::choose(&mut open.progs, plan, &options.libraries);
    choose_witness(open, plan.witness, plan.six_arguments);
    open.progs.uring_submit_req.set_autoload(plan.uring == Some(Uring::Request));
    open.progs.uring_submit_sqe.set_autoload(plan.uring == Some(Uring::Entry));
}

fn choose_witness(open: &mut OpenTlsdumpSkel<'_>, chosen: Witness, six_arguments: bool) {
    let p = &mut open.progs;
    for (program, witness) in [
        (&mut p.witness_send_tp, Witness::Tracepoint),
        (&mut p.witness_recv_tp, Witness::Tracepoint),
        (&mut p.witness_send_fentry, Witness::Fentry),
        (&mut p.witness_send_kprobe, Witness::Kprobe),
        (&mut p.witness_recv_kprobe, Witness::Kprobe),
        (&mut p.witness_recv_kretprobe, Witness::Kprobe),
    ] {
        program.set_autoload(witness == chosen);
    }
    let is_fentry = chosen == Witness::Fentry;
    p.witness_recv_fexit.set_autoload(is_fentry && !six_arguments);
    p.witness_recv_fexit_six.set_autoload(is_fentry && six_arguments);
}

/// Tells the kernel side where sessions have the client's random number. Where it can't tell libraries apart,
/// only if that is the same place in all.
pub(super) fn fill_random_places(
    skel: &TlsdumpSkel<'_>,
    plan: &Plan,
    libraries: &[Found],
) -> anyhow::Result<()> {
    let known = libraries.iter().zip(1_u32..).filter_map(|(found, id)| Some((id, found.random.as_ref()?)));
    let mut places: Vec<_> = known.collect();
    if !plan.cookies {
        places.iter_mut().for_each(|(id, _)| *id = 0);
        places.dedup();
        if places.len() > 1 {
            return Ok(());
        }
    }
    for (id, place) in places {
        let mut value = place.offsets().len().to_le_bytes()[..4].to_vec();
        place.offsets().iter().for_each(|offset| value.extend_from_slice(&offset.to_le_bytes()));
        value.resize(4 * (1 + STEPS_MAX), 0);
        skel.maps.random_places.update(&id.to_le_bytes(), &value, MapFlags::ANY)?;
    }
    Ok(())
}

fn fill_filter(skel: &TlsdumpSkel<'_>, filter: &Filter) -> libbpf_rs::Result<()> {
    for ns in &filter.mntns {
        let (key, value) = (ns.number.to_le_bytes(), ns.id.to_le_bytes());
        skel.maps.wanted_mntns.update(&key, &value, MapFlags::ANY)?;
    }
    for pid in &filter.pids {
        skel.maps.wanted_pid.update(&pid.to_le_bytes(), &[1], MapFlags::ANY)?;
    }
    for uid in &filter.uids {
        skel.maps.wanted_uid.update(&uid.to_le_bytes(), &[1], MapFlags::ANY)?;
    }
    for comm in &filter.comms {
        skel.maps.wanted_comm.update(&comm.0, &[1], MapFlags::ANY)?;
    }
    Ok(())
}

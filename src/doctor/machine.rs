//! What the kernel and this process have, as reasons for what the self-test finds.

use std::fs;
use std::path::Path;

use super::Check;
use crate::source::live::Features;
use crate::sys::{self, Capability};

/// Number of the first PID namespace, `PROC_PID_INIT_INO`, and of the first user namespace,
/// `PROC_USER_INIT_INO` of `linux/proc_ns.h`.
const FIRST_PID_NAMESPACE: u32 = 0xefff_fffc;
const FIRST_USER_NAMESPACE: u32 = 0xefff_fffd;

pub(super) fn checks() -> Vec<Check> {
    let (release, machine) = sys::kernel_release();
    let mut checks = vec![Check::ok("kernel", format!("kernel: Linux {release} on {machine}"))];
    let features = Features::ask();
    match &features {
        Ok(features) => checks.extend(of_features(features)),
        Err(error) => checks.push(Check::fail("btf", format!("{error:#}"), "and see that /sys is mounted")),
    }
    let (uprobe_multi, witness) = features.map_or((false, false), |features| {
        (features.uprobe_multi, features.socket_tracepoints || features.fentry)
    });
    checks.push(event_source("uprobe", "CONFIG_UPROBE_EVENTS", !uprobe_multi));
    checks.push(event_source("kprobe", "CONFIG_KPROBE_EVENTS", !witness));
    checks.extend(of_rights(uprobe_multi));
    checks.extend([
        user_namespace(),
        pid_namespace(),
        own_seccomp(),
        unprivileged_bpf(),
        paranoid(),
        lockdown(),
    ]);
    checks
}

fn of_features(features: &Features) -> Vec<Check> {
    let told = |name, there, what: &str, instead: &str| {
        if there { Check::ok(name, what) } else { Check::warn(name, format!("no {what}"), instead) }
    };
    let sockets = if features.fentry { "fentry is used instead" } else { "kprobes are used instead" };
    vec![
        Check::ok("btf", "type information (BTF)"),
        told("ring-buffer", features.ring_buffer, "ring buffer (Linux 5.8)", "perf buffers are used instead"),
        told(
            "uprobe-multi",
            features.uprobe_multi,
            "uprobe.multi (Linux 6.6)",
            "perf events are used instead; starting takes longer, and needs CAP_SYS_ADMIN",
        ),
        told(
            "cookies",
            features.cookies,
            "attach cookies (Linux 5.15)",
            "captures don't tell which library made a call",
        ),
        told(
            "bpf-loop",
            features.bpf_loop,
            "bpf_loop (Linux 5.17)",
            "of a call that moves more than 4 MiB the rest is lost, and counted",
        ),
        told("tracepoints", features.socket_tracepoints, "socket tracepoints (Linux 6.3)", sockets),
        told("fentry", features.fentry, "fentry (Linux 5.5)", "tracepoints or kprobes are used instead"),
    ]
}

/// Whether the kernel has perf events of that kind.
fn event_source(kind: &'static str, option: &str, needed: bool) -> Check {
    if Path::new("/sys/bus/event_source/devices").join(kind).exists() {
        return Check::ok(kind, format!("{kind}s as perf events"));
    }
    if !needed {
        return Check::ok(kind, format!("no {kind}s as perf events, but none are needed"));
    }
    let advice = format!("if the self-test fails, use a kernel built with {option}=y, and mount /sys");
    Check::warn(kind, format!("no {kind}s as perf events"), advice)
}

fn of_rights(uprobe_multi: bool) -> Vec<Check> {
    let has = sys::has_capability;
    let admin = has(Capability::SysAdmin);
    let needed = |name, held: bool, right: &str, whatfor: &str| {
        if held {
            Check::ok(name, format!("{right}, {whatfor}"))
        } else {
            Check::fail(name, format!("no {right}, {whatfor}"), format!("run as root, or add {right}"))
        }
    };
    let mut checks = vec![
        needed("cap-bpf", admin || has(Capability::Bpf), "CAP_BPF", "to load programs"),
        needed("cap-perfmon", admin || has(Capability::Perfmon), "CAP_PERFMON", "to attach them"),
        needed("cap-sys-ptrace", has(Capability::SysPtrace), "CAP_SYS_PTRACE", "to look at other processes"),
    ];
    checks.push(match (admin, uprobe_multi) {
        (true, _) => Check::ok("cap-sys-admin", "CAP_SYS_ADMIN"),
        (false, true) => Check::warn(
            "cap-sys-admin",
            "no CAP_SYS_ADMIN",
            "libraries that were deleted since they were loaded are not found",
        ),
        (false, false) => needed("cap-sys-admin", false, "CAP_SYS_ADMIN", "to attach uprobes as perf events"),
    });
    checks
}

/// `pid:[4026531836]`
fn namespace(kind: &str) -> Option<u32> {
    let link = fs::read_link(Path::new("/proc/self/ns").join(kind)).ok()?;
    let number = link.to_str()?.strip_prefix(kind)?.strip_prefix(":[")?.strip_suffix(']')?;
    number.parse().ok()
}

fn user_namespace() -> Check {
    match namespace("user") {
        Some(FIRST_USER_NAMESPACE) | None => Check::ok("user-namespace", "user namespace: the machine's own"),
        Some(_) => Check::fail(
            "user-namespace",
            "user namespace: another than the machine's own, so no capability counts",
            "run outside of it (a rootless container has one)",
        ),
    }
}

fn pid_namespace() -> Check {
    match namespace("pid") {
        Some(FIRST_PID_NAMESPACE) | None => Check::ok("pid-namespace", "PID namespace: the machine's own"),
        Some(_) => Check::warn(
            "pid-namespace",
            "PID namespace: another than the machine's own",
            "--pid means nothing here, and other containers are not seen; use hostPID or --pid=host",
        ),
    }
}

/// tlsdump's own: container runtimes forbid bpf(2) by it.
fn own_seccomp() -> Check {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mode = status.lines().find_map(|line| line.strip_prefix("Seccomp:")).map_or("0", str::trim);
    if mode == "0" {
        return Check::ok("own-seccomp", "no seccomp filter on tlsdump");
    }
    let advice = "if the self-test fails, run it privileged, or with seccomp=unconfined";
    Check::warn("own-seccomp", "a seccomp filter on tlsdump", advice)
}

fn sysctl(name: &str) -> Option<i64> {
    fs::read_to_string(Path::new("/proc/sys/kernel").join(name)).ok()?.trim().parse().ok()
}

fn told(value: Option<i64>) -> String {
    value.map_or_else(|| "not told".to_owned(), |value| value.to_string())
}

fn unprivileged_bpf() -> Check {
    let value = told(sysctl("unprivileged_bpf_disabled"));
    let what = format!("kernel.unprivileged_bpf_disabled: {value} (where not 0, -Z needs Linux 5.19)");
    Check::ok("unprivileged-bpf", what)
}

fn paranoid() -> Check {
    let value = told(sysctl("perf_event_paranoid"));
    Check::ok(
        "perf-event-paranoid",
        format!("kernel.perf_event_paranoid: {value} (no matter with CAP_PERFMON)"),
    )
}

/// `none [integrity] confidentiality`
fn lockdown() -> Check {
    let text = fs::read_to_string("/sys/kernel/security/lockdown").unwrap_or_default();
    let mode =
        text.split_once('[').and_then(|(_, rest)| rest.split_once(']')).map_or("none", |(mode, _)| mode);
    let what = format!("lockdown: {mode}");
    if mode == "confidentiality" {
        let advice =
            "boot with lockdown=integrity, or without Secure Boot: BPF may not read the kernel's memory";
        return Check::fail("lockdown", what, advice);
    }
    Check::ok("lockdown", what)
}

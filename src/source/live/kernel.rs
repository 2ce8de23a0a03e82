//! The running kernel: what it offers, found by asking its BTF, never guessed from a version number.

use std::path::Path;

use anyhow::{Context as _, ensure};
use libbpf_rs::btf::types::{Enum, Func, FuncProto, Typedef};
use libbpf_rs::btf::{Btf, BtfType};

const VMLINUX_BTF: &str = "/sys/kernel/btf/vmlinux";

/// What is asked of the kernel, with the version that first had it.
#[derive(Clone, Copy, Debug)]
pub struct Features {
    /// Ring buffer, 5.8.
    pub ring_buffer: bool,
    /// Attach cookies, 5.15.
    pub cookies: bool,
    /// `bpf_loop()`, 5.17.
    pub bpf_loop: bool,
    /// Uprobes by one link for many places, 6.6; needs no `CAP_SYS_ADMIN`.
    pub uprobe_multi: bool,
    /// Raw tracepoints `sock_send_length` and `sock_recv_length`, 6.3.
    pub socket_tracepoints: bool,
    /// `fentry` programs, 5.5.
    pub fentry: bool,
    /// Whether `tcp_recvmsg()` has six arguments: until 5.18, then five.
    pub six_arguments: bool,
    /// By which raw tracepoint it shows what is submitted to `io_uring`, if by any: 6.0.
    pub uring: Option<Uring>,
}

/// The raw tracepoint at which requests of `io_uring` are seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Uring {
    /// `io_uring_submit_req`, 6.4.
    Request,
    /// `io_uring_submit_sqe`, with the request as its first argument.
    Entry,
}

impl Features {
    /// Asks the running kernel.
    ///
    /// # Errors
    /// It has no type information, or none that can be read.
    pub fn ask() -> anyhow::Result<Self> {
        ensure!(
            Path::new(VMLINUX_BTF).exists(),
            "this kernel has no type information ({VMLINUX_BTF} is missing): \
             use one built with CONFIG_DEBUG_INFO_BTF=y"
        );
        let btf = Btf::from_vmlinux().with_context(|| format!("cannot read {VMLINUX_BTF}"))?;
        let helper = |name| enum_has(&btf, "bpf_func_id", name);
        Ok(Self {
            ring_buffer: helper("BPF_FUNC_ringbuf_output"),
            cookies: helper("BPF_FUNC_get_attach_cookie"),
            bpf_loop: helper("BPF_FUNC_loop"),
            uprobe_multi: enum_has(&btf, "bpf_attach_type", "BPF_TRACE_UPROBE_MULTI"),
            socket_tracepoints: btf.type_by_name::<Typedef<'_>>("btf_trace_sock_send_length").is_some(),
            fentry: enum_has(&btf, "bpf_attach_type", "BPF_TRACE_FENTRY")
                && btf.type_by_name::<Func<'_>>("tcp_sendmsg").is_some(),
            six_arguments: recv_arguments(&btf) == Some(6),
            uring: uring(&btf),
        })
    }
}

fn recv_arguments(btf: &Btf<'_>) -> Option<usize> {
    let prototype = btf.type_by_name::<Func<'_>>("tcp_recvmsg").and_then(|function| function.next_type());
    let prototype = prototype.and_then(|prototype| FuncProto::try_from(prototype).ok());
    prototype.map(|prototype| prototype.len())
}

fn uring(btf: &Btf<'_>) -> Option<Uring> {
    if btf.type_by_name::<Typedef<'_>>("btf_trace_io_uring_submit_req").is_some() {
        return Some(Uring::Request);
    }
    // void (*)(void *, struct io_kiocb *, …); before, the second was the ring.
    let typedef = btf.type_by_name::<Typedef<'_>>("btf_trace_io_uring_submit_sqe")?;
    let prototype = FuncProto::try_from(typedef.next_type()?.next_type()?).ok()?;
    let second = btf.type_by_id::<BtfType<'_>>(prototype.get(1)?.ty)?;
    (second.next_type()?.name()? == "io_kiocb").then_some(Uring::Entry)
}

fn enum_has(btf: &Btf<'_>, name: &str, member: &str) -> bool {
    btf.type_by_name::<Enum<'_>>(name).is_some_and(|e| e.iter().any(|m| m.name.is_some_and(|n| n == member)))
}

//! The running kernel: what it offers, found by asking its BTF, never guessed from a version number.

use std::path::Path;

use anyhow::{Context as _, ensure};
use libbpf_rs::btf::Btf;
use libbpf_rs::btf::types::{Enum, Func, Typedef};

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
        })
    }
}

fn enum_has(btf: &Btf<'_>, name: &str, member: &str) -> bool {
    btf.type_by_name::<Enum<'_>>(name).is_some_and(|e| e.iter().any(|m| m.name.is_some_and(|n| n == member)))
}

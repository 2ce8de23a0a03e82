//! What a live capture is made of.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::event::{Comm, Container, MountNs};
use crate::probe::{Found, RecordWriter};

use super::Wires;

/// What the kernel lets through: kinds of conditions AND, values of one kind OR. An empty list sets no
/// condition, so the caller sees to it that not all are.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Mount namespaces; an id of 0 is learnt before any probe is attached.
    pub mntns: Vec<MountNs>,
    /// Processes.
    pub pids: Vec<u32>,
    /// Real users.
    pub uids: Vec<u32>,
    /// Command names of the thread or of its process.
    pub comms: Vec<Comm>,
}

/// Which kernel buffer carries the records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Transport {
    /// Ring where there is one.
    #[default]
    Auto,
    /// One ring buffer for all CPUs (5.8).
    Ring,
    /// A perf buffer for each CPU.
    Perf,
}

/// Which kernel programs see the sockets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Witness {
    /// The first that works, in the order below.
    #[default]
    Auto,
    /// Raw tracepoints `sock_send_length`, `sock_recv_length` (6.3).
    Tracepoint,
    /// `fentry` on `tcp_sendmsg`, `tcp_recvmsg` (5.5).
    Fentry,
    /// `kprobe` on the same.
    Kprobe,
}

/// How uprobes are attached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Attach {
    /// By `uprobe.multi` where there is one.
    #[default]
    Auto,
    /// `uprobe.multi` links (6.6): need no `CAP_SYS_ADMIN`.
    Multi,
    /// A perf event for each probe.
    Perf,
}

/// All that a live capture is made of.
#[derive(Debug, Default)]
pub struct Options {
    /// Whose calls.
    pub filter: Filter,
    /// On which libraries.
    pub libraries: Vec<Found>,
    /// Files without TLS that libraries use.
    pub helpers: Vec<Found>,
    /// Tell the secrets of sessions too.
    pub secrets: bool,
    /// Give the real packets of sessions too, as seen there.
    pub wires: Option<Wires>,
    /// Where records of libraries are written.
    pub record_writers: Arc<[RecordWriter]>,
    /// Look from the start for records that programs send by themselves, and not only once plaintext was seen
    /// that left by no socket.
    pub watch_records: bool,
    /// Names of the containers that are known before they are seen.
    pub containers: Vec<Container<'static>>,
    /// Size of the kernel's buffer; of all CPUs' together for a perf buffer. Rounded up to a power of two.
    pub buffer_bytes: usize,
    /// Ring or perf.
    pub transport: Transport,
    /// How sockets are seen.
    pub witness: Witness,
    /// How uprobes are attached.
    pub attach: Attach,
    /// Where processes are looked up: `/proc`.
    pub proc: PathBuf,
    /// Ends the capture when set.
    pub stop: Arc<AtomicBool>,
}

//! The kernel's buffer of records, ring or perf, behind one call.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use anyhow::Context as _;
use libbpf_rs::{ErrorKind, Map, PerfBuffer, PerfBufferBuilder, RingBuffer, RingBufferBuilder};

use crate::wire;

/// A turn of reading ends when it has taken so many bytes, so that a busy kernel can't keep it for ever and
/// the batch stays bounded (one record more may be in it; a perf buffer is read once around).
const TURN_BYTES_MAX: usize = 1 << 20;

/// What the callback answers to end a turn; no error of the kernel's has this number.
const TURN_ENDS: i32 = -4096;

/// Records that were taken from the kernel and not yet given on.
type Inbox = Rc<RefCell<Vec<u8>>>;

/// The reading side of the map `events`.
pub(super) struct Buffer {
    inner: Inner,
    inbox: Inbox,
}

enum Inner {
    Ring(RingBuffer<'static>),
    Perf(PerfBuffer<'static>),
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.inner {
            Inner::Ring(_) => "ring",
            Inner::Perf(_) => "perf",
        };
        f.debug_struct("Buffer").field("kind", &kind).finish_non_exhaustive()
    }
}

impl Buffer {
    /// Over a map of type ring buffer.
    pub(super) fn ring(map: &Map<'_>) -> anyhow::Result<Self> {
        let inbox = Inbox::default();
        let into = Rc::clone(&inbox);
        let mut builder = RingBufferBuilder::new();
        let full = move |sample: &[u8]| if take(&into, sample) < TURN_BYTES_MAX { 0 } else { TURN_ENDS };
        builder.add(map, full).context("cannot read the ring buffer")?;
        let inner = Inner::Ring(builder.build().context("cannot read the ring buffer")?);
        Ok(Self { inner, inbox })
    }

    /// Over a map of type perf event array, with so many pages (a power of two) for each CPU.
    pub(super) fn perf(map: &Map<'_>, pages: usize) -> anyhow::Result<Self> {
        let inbox = Inbox::default();
        let into = Rc::clone(&inbox);
        let builder = PerfBufferBuilder::new(map).pages(pages).sample_cb(move |_cpu, sample: &[u8]| {
            take(&into, sample);
        });
        let inner =
            Inner::Perf(builder.build().context("cannot make the perf buffers (try a smaller --buffer)")?);
        Ok(Self { inner, inbox })
    }

    /// Waits, but no longer once much is there, and appends what is there to `batch`.
    pub(super) fn read(&self, wait: Duration, batch: &mut Vec<u8>) -> anyhow::Result<()> {
        let result = match &self.inner {
            // The kernel side wakes nobody for a few records: what is there after the wait is taken unasked.
            Inner::Ring(ring) => match ring.poll_raw(wait) {
                TURN_ENDS => Ok(()),
                n => turn(n).and_then(|()| turn(ring.consume_raw())),
            },
            Inner::Perf(perf) => perf.poll(wait),
        };
        match result {
            Err(error) if error.kind() != ErrorKind::Interrupted => {
                return Err(error).context("cannot read records from the kernel");
            }
            _ => {}
        }
        batch.append(&mut self.inbox.borrow_mut());
        Ok(())
    }
}

/// A turn of reading that was ended by its bound is no error.
fn turn(result: i32) -> libbpf_rs::Result<()> {
    match result {
        n if n >= 0 || n == TURN_ENDS => Ok(()),
        n => Err(libbpf_rs::Error::from_raw_os_error(-n)),
    }
}

/// Takes one record in, without the padding that a perf buffer puts behind it; what is no record is left out.
/// Gives the size of the inbox.
fn take(inbox: &Inbox, sample: &[u8]) -> usize {
    let mut inbox = inbox.borrow_mut();
    if let Some(record) = wire::record_size(sample).and_then(|size| sample.get(..size)) {
        inbox.extend_from_slice(record);
    }
    inbox.len()
}

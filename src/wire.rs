//! Record bytes ↔ events: the only place that knows the layout of `bpf/abi.h`.
//!
//! A record begins with its size (u32, the whole record), its kind (u16) and two reserved bytes. All integers
//! are little endian. Kinds below 16 are made by the kernel side and laid out as in `bpf/abi.h`; those from 16
//! on are made by user space and hold the facts that are not in the kernel's records. `docs/stream-format.md`
//! describes all of them.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;

use crate::event::{
    Clock, Close, CloseReason, Comm, Conn, Container, Context, Counters, Data, Dir, Event, Exit, How, Library,
    MountNs, Role, Session, Start, Task, Totals, Tuple,
};

/// Bytes of the header that begins every record.
pub const HEADER_BYTES: usize = 8;
/// Bytes of a record about a session before its own fields.
pub const CONTEXT_BYTES: usize = 128;
/// Bytes of a data record before its payload.
pub const DATA_HEADER_BYTES: usize = CONTEXT_BYTES + 16;
/// Largest record: one chunk of plaintext (`CHUNK_BYTES` of `bpf/abi.h`), or a record of names.
pub const RECORD_BYTES_MAX: usize = 64 * 1024;

/// Where the task begins in a record about a session, and in one about the end of a process.
const TASK_IN_CONTEXT: usize = HEADER_BYTES + 24;
const TASK_IN_EXIT: usize = HEADER_BYTES + 8;

const KIND_DATA: u16 = 1;
const KIND_CLOSE: u16 = 2;
const KIND_EXIT: u16 = 3;
const KIND_START: u16 = 16;
const KIND_CLOCK: u16 = 17;
const KIND_LIBRARY: u16 = 18;
const KIND_CONTAINER: u16 = 19;
const KIND_COUNTERS: u16 = 20;
const KIND_TOTALS: u16 = 21;

/// Why bytes are not a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// The record ends before its fields do, or its size is not that of its contents.
    Length,
    /// A field has a value that is not defined.
    Value(&'static str),
    /// A kind of record that this version does not know; it can be skipped.
    Kind(u16),
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length => write!(f, "record of wrong length"),
            Self::Value(field) => write!(f, "record with an undefined {field}"),
            Self::Kind(kind) => write!(f, "record of unknown kind {kind}"),
        }
    }
}

impl std::error::Error for DecodeError {}

/// The size that a record's header tells, if `bytes` holds a header and the size is possible.
#[must_use]
pub fn record_size(bytes: &[u8]) -> Option<usize> {
    let size = u32::from_le_bytes(*bytes.first_chunk::<4>()?) as usize;
    (bytes.len() >= HEADER_BYTES && (HEADER_BYTES..=RECORD_BYTES_MAX).contains(&size)).then_some(size)
}

/// Cuts a buffer of records one after another into records. Ends at the first that is not whole.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    rest: &'a [u8],
}

impl<'a> Records<'a> {
    /// Over the records in `bytes`.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// What was not cut yet.
    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (record, rest) = self.rest.split_at_checked(record_size(self.rest)?)?;
        self.rest = rest;
        Some(record)
    }
}

/// What one whole record says.
///
/// # Errors
/// The record is damaged, or of a kind from a later version.
pub fn decode(record: &[u8]) -> Result<Event<'_>, DecodeError> {
    if record_size(record) != Some(record.len()) {
        return Err(DecodeError::Length);
    }
    let mut r = Reader { rest: &record[4..] };
    let kind = r.u16()?;
    r.u16()?;
    let event = match kind {
        KIND_DATA => Event::Data(r.data()?),
        KIND_CLOSE => Event::Close(r.close()?),
        KIND_EXIT => Event::Exit(Exit { at: r.u64()?, task: r.task()? }),
        KIND_START => Event::Start(Start { application: r.text()?, os: r.text()?, command: r.text()? }),
        KIND_CLOCK => Event::Clock(Clock { mono: r.u64()?, wall: r.u64()? }),
        KIND_LIBRARY => Event::Library(Library { id: r.u32()?, path: r.text()?, version: r.text()? }),
        KIND_CONTAINER => Event::Container(Container {
            mntns: MountNs { id: r.u64()?, number: r.u32()? },
            name: r.text()?,
            description: r.text()?,
        }),
        KIND_COUNTERS => Event::Counters(r.counters()?),
        KIND_TOTALS => Event::Totals(Totals { context: r.context()?, totals: [r.u64()?, r.u64()?] }),
        other => return Err(DecodeError::Kind(other)),
    };
    if r.rest.is_empty() { Ok(event) } else { Err(DecodeError::Length) }
}

/// Whose a record of the kernel's is, at a glance: without decoding the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Glance {
    /// About a session of this task.
    Session(Task),
    /// The end of this process.
    Exit(Task),
}

/// Looks only at the task of a record; `None` for records that have none.
#[must_use]
pub fn glance(record: &[u8]) -> Option<Glance> {
    let kind = u16::from_le_bytes([*record.get(4)?, *record.get(5)?]);
    let task = |begin| Reader { rest: record.get(begin..).unwrap_or_default() }.task().ok();
    match kind {
        KIND_DATA | KIND_CLOSE => task(TASK_IN_CONTEXT).map(Glance::Session),
        KIND_EXIT => task(TASK_IN_EXIT).map(Glance::Exit),
        _ => None,
    }
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn bytes(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        let (bytes, rest) = self.rest.split_at_checked(len).ok_or(DecodeError::Length)?;
        self.rest = rest;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (bytes, rest) = self.rest.split_first_chunk::<N>().ok_or(DecodeError::Length)?;
        self.rest = rest;
        Ok(*bytes)
    }

    fn u8(&mut self) -> Result<u8, DecodeError> {
        Ok(self.array::<1>()?[0])
    }

    fn u16(&mut self) -> Result<u16, DecodeError> {
        self.array().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Result<u32, DecodeError> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, DecodeError> {
        self.array().map(u64::from_le_bytes)
    }

    fn text(&mut self) -> Result<Cow<'a, str>, DecodeError> {
        let len = self.u32()? as usize;
        Ok(String::from_utf8_lossy(self.bytes(len)?))
    }

    fn data(&mut self) -> Result<Data<'a>, DecodeError> {
        let context = self.context()?;
        let offset = self.u64()?;
        let len = self.u32()? as usize;
        let dir = match self.u32()? {
            0 => Dir::Out,
            1 => Dir::In,
            _ => return Err(DecodeError::Value("direction")),
        };
        // So that no later sum of an offset and a length can overflow.
        if offset > u64::MAX / 2 {
            return Err(DecodeError::Value("offset"));
        }
        Ok(Data { context, dir, offset, bytes: self.bytes(len)? })
    }

    fn close(&mut self) -> Result<Close, DecodeError> {
        let context = self.context()?;
        let totals = [self.u64()?, self.u64()?];
        let reason = match self.u32()? {
            1 => CloseReason::Shutdown,
            2 => CloseReason::Free,
            _ => return Err(DecodeError::Value("reason")),
        };
        self.u32()?;
        Ok(Close { context, reason, totals })
    }

    fn context(&mut self) -> Result<Context, DecodeError> {
        let at = self.u64()?;
        let session = Session { id: self.u64()?, number: self.u32()?, library: self.u32()? };
        Ok(Context { at, session, task: self.task()?, conn: self.conn()? })
    }

    fn task(&mut self) -> Result<Task, DecodeError> {
        let (pid, tid, uid, number) = (self.u32()?, self.u32()?, self.u32()?, self.u32()?);
        let mntns = MountNs { number, id: self.u64()? };
        Ok(Task { pid, tid, uid, mntns, start_ns: self.u64()?, comm: Comm(self.array()?) })
    }

    fn conn(&mut self) -> Result<Conn, DecodeError> {
        let family = self.u8()?;
        let how = match self.u8()? {
            0 => How::Unknown,
            1 => How::Fd,
            2 => How::Nested,
            _ => return Err(DecodeError::Value("address source")),
        };
        let role = match self.u8()? {
            0 => Role::Unknown,
            1 => Role::Client,
            2 => Role::Server,
            _ => return Err(DecodeError::Value("role")),
        };
        self.u8()?;
        let (local_port, remote_port, netns) = (self.u16()?, self.u16()?, self.u32()?);
        self.u32()?;
        let (local, remote) = (self.array::<16>()?, self.array::<16>()?);
        let tuple = match family {
            0 => None,
            4 => Some((v4(local), v4(remote))),
            6 => Some((IpAddr::from(local).to_canonical(), IpAddr::from(remote).to_canonical())),
            _ => return Err(DecodeError::Value("address family")),
        };
        let tuple =
            tuple.map(|(local, remote)| Tuple { local, local_port, remote, remote_port, netns });
        Ok(Conn { tuple, how, role })
    }

    fn counters(&mut self) -> Result<Counters, DecodeError> {
        Ok(Counters {
            moved_bytes: self.u64()?,
            captured_bytes: self.u64()?,
            lost_bytes: self.u64()?,
            lost_records: self.u64()?,
            unreadable: self.u64()?,
            lost_calls: self.u64()?,
            socket_conflicts: self.u64()?,
        })
    }
}

fn v4(bytes: [u8; 16]) -> IpAddr {
    let [a, b, c, d, ..] = bytes;
    IpAddr::from([a, b, c, d])
}

/// Appends the record that says `event`. Names longer than fits a record are cut; a payload longer than
/// [`RECORD_BYTES_MAX`] minus [`DATA_HEADER_BYTES`] must not be asked for.
pub fn encode(event: &Event<'_>, out: &mut Vec<u8>) {
    let begin = out.len();
    out.extend_from_slice(&[0; HEADER_BYTES]);
    let kind = match event {
        Event::Data(data) => {
            put_context(out, &data.context);
            put_u64(out, data.offset);
            put_u32(out, data.bytes.len() as u32);
            put_u32(out, data.dir.index() as u32);
            out.extend_from_slice(data.bytes);
            KIND_DATA
        }
        Event::Close(close) => {
            put_context(out, &close.context);
            close.totals.iter().for_each(|&n| put_u64(out, n));
            put_u32(out, if close.reason == CloseReason::Shutdown { 1 } else { 2 });
            put_u32(out, 0);
            KIND_CLOSE
        }
        Event::Exit(exit) => {
            put_u64(out, exit.at);
            put_task(out, &exit.task);
            KIND_EXIT
        }
        Event::Start(start) => {
            [&start.application, &start.os, &start.command].iter().for_each(|text| put_text(out, text));
            KIND_START
        }
        Event::Clock(clock) => {
            put_u64(out, clock.mono);
            put_u64(out, clock.wall);
            KIND_CLOCK
        }
        Event::Library(library) => {
            put_u32(out, library.id);
            put_text(out, &library.path);
            put_text(out, &library.version);
            KIND_LIBRARY
        }
        Event::Container(container) => {
            put_u64(out, container.mntns.id);
            put_u32(out, container.mntns.number);
            put_text(out, &container.name);
            put_text(out, &container.description);
            KIND_CONTAINER
        }
        Event::Counters(counters) => {
            put_counters(out, counters);
            KIND_COUNTERS
        }
        Event::Totals(totals) => {
            put_context(out, &totals.context);
            totals.totals.iter().for_each(|&n| put_u64(out, n));
            KIND_TOTALS
        }
    };
    let size = (out.len() - begin) as u32;
    out[begin..begin + 4].copy_from_slice(&size.to_le_bytes());
    out[begin + 4..begin + 6].copy_from_slice(&kind.to_le_bytes());
}

/// Most bytes of one name in a record: a path, a command line.
const TEXT_BYTES_MAX: usize = 16 * 1024;

fn put_u16(out: &mut Vec<u8>, n: u16) {
    out.extend_from_slice(&n.to_le_bytes());
}

fn put_u32(out: &mut Vec<u8>, n: u32) {
    out.extend_from_slice(&n.to_le_bytes());
}

fn put_u64(out: &mut Vec<u8>, n: u64) {
    out.extend_from_slice(&n.to_le_bytes());
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    let bytes = &text.as_bytes()[..text.floor_char_boundary(TEXT_BYTES_MAX)];
    put_u32(out, bytes.len() as u32);
    out.extend_from_slice(bytes);
}

fn put_context(out: &mut Vec<u8>, context: &Context) {
    put_u64(out, context.at);
    put_u64(out, context.session.id);
    put_u32(out, context.session.number);
    put_u32(out, context.session.library);
    put_task(out, &context.task);
    put_conn(out, &context.conn);
}

fn put_task(out: &mut Vec<u8>, task: &Task) {
    [task.pid, task.tid, task.uid, task.mntns.number].iter().for_each(|&n| put_u32(out, n));
    put_u64(out, task.mntns.id);
    put_u64(out, task.start_ns);
    out.extend_from_slice(&task.comm.0);
}

fn put_conn(out: &mut Vec<u8>, conn: &Conn) {
    let how = match conn.how {
        How::Unknown => 0,
        How::Fd => 1,
        How::Nested => 2,
    };
    let role = match conn.role {
        Role::Unknown => 0,
        Role::Client => 1,
        Role::Server => 2,
    };
    let Some(tuple) = conn.tuple else {
        out.extend_from_slice(&[0, how, role, 0]);
        out.extend_from_slice(&[0; 44]);
        return;
    };
    let family = if tuple.local.is_ipv4() && tuple.remote.is_ipv4() { 4 } else { 6 };
    out.extend_from_slice(&[family, how, role, 0]);
    put_u16(out, tuple.local_port);
    put_u16(out, tuple.remote_port);
    put_u32(out, tuple.netns);
    put_u32(out, 0);
    put_address(out, tuple.local, family);
    put_address(out, tuple.remote, family);
}

fn put_address(out: &mut Vec<u8>, address: IpAddr, family: u8) {
    match address {
        IpAddr::V4(v4) if family == 4 => {
            out.extend_from_slice(&v4.octets());
            out.extend_from_slice(&[0; 12]);
        }
        IpAddr::V4(v4) => out.extend_from_slice(&v4.to_ipv6_mapped().octets()),
        IpAddr::V6(v6) => out.extend_from_slice(&v6.octets()),
    }
}

fn put_counters(out: &mut Vec<u8>, c: &Counters) {
    let all = [
        c.moved_bytes,
        c.captured_bytes,
        c.lost_bytes,
        c.lost_records,
        c.unreadable,
        c.lost_calls,
        c.socket_conflicts,
    ];
    all.iter().for_each(|&n| put_u64(out, n));
}

/// Turns an entry of the kernel's map of sessions (`struct session` of `bpf/abi.h`) into what it tells.
///
/// # Errors
/// The bytes are not such an entry.
pub fn decode_session(value: &[u8], at: u64) -> Result<Totals, DecodeError> {
    let mut r = Reader { rest: value.get(HEADER_BYTES..).ok_or(DecodeError::Length)? };
    let context = r.context()?;
    let totals = [r.u64()?, r.u64()?];
    Ok(Totals { context: Context { at, ..context }, totals })
}

/// Turns one CPU's entry of the kernel's map of counters (`struct counters` of `bpf/abi.h`) into events' form.
///
/// # Errors
/// The bytes are not such an entry.
pub fn decode_counters(value: &[u8]) -> Result<Counters, DecodeError> {
    Reader { rest: value }.counters()
}

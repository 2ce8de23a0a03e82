//! Record bytes → events. Nothing here trusts the bytes: a recorded stream may be damaged or made up.

use std::borrow::Cow;
use std::net::IpAddr;

use crate::event::{
    Clock, Close, CloseReason, Comm, Conn, Container, Context, Counters, Data, Dir, Event, Exit, How,
    Library, MountNs, NAME_BYTES_MAX, Name, NameKind, PACKET_BYTES_MAX, Packet, Role, SECRET_BYTES_MAX,
    Secret, SecretKind, Session, Start, Task, Totals, Tuple,
};

use super::{
    CONN_IN_CONTEXT, CONTEXT_BYTES, DIR_IN_DATA, DecodeError, EXIT_LOST, HEADER_BYTES, KIND_CLOCK,
    KIND_CLOSE, KIND_CONTAINER, KIND_COUNTERS, KIND_DATA, KIND_EXIT, KIND_LIBRARY, KIND_NAME, KIND_PACKET,
    KIND_SECRET, KIND_START, KIND_TOTALS, TASK_IN_CONTEXT, TASK_IN_EXIT, record_size,
};

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
        KIND_NAME => Event::Name(r.name()?),
        KIND_SECRET => Event::Secret(r.secret()?),
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
        KIND_PACKET => Event::Packet(r.packet()?),
        KIND_TOTALS => Event::Totals(Totals { context: r.context()?, totals: [r.u64()?, r.u64()?] }),
        other => return Err(DecodeError::Kind(other)),
    };
    if r.rest.is_empty() { Ok(event) } else { Err(DecodeError::Length) }
}

/// Whose a record of the kernel's is, at a glance: without decoding the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Glance {
    /// About a session of this task; and which way something went of which nobody knows over what.
    Session(Task, Option<Dir>),
    /// The end of this process, and whether bytes of its sessions were lost.
    Exit(Task, bool),
}

/// Looks only at the task of a record; `None` for records that have none.
#[must_use]
pub fn glance(record: &[u8]) -> Option<Glance> {
    let kind = u16::from_le_bytes([*record.get(4)?, *record.get(5)?]);
    let task = |begin| Reader { rest: record.get(begin..).unwrap_or_default() }.task().ok();
    match kind {
        KIND_DATA | KIND_CLOSE | KIND_NAME | KIND_SECRET => {
            let is_written = record.get(DIR_IN_DATA..)?.first_chunk() == Some(&0u32.to_le_bytes());
            // Neither addresses nor what the session is on instead.
            let is_unknown = record.get(CONN_IN_CONTEXT..)?.starts_with(&[0, 0]);
            let dir = if is_written { Dir::Out } else { Dir::In };
            let stray = (kind == KIND_DATA && is_unknown).then_some(dir);
            task(TASK_IN_CONTEXT).map(|task| Glance::Session(task, stray))
        }
        KIND_EXIT => {
            let flags = u16::from_le_bytes([*record.get(6)?, *record.get(7)?]);
            task(TASK_IN_EXIT).map(|task| Glance::Exit(task, flags & EXIT_LOST != 0))
        }
        _ => None,
    }
}

struct Reader<'a> {
    rest: &'a [u8],
}

/// Inlined, so that the fields of a record are read into where they belong.
impl<'a> Reader<'a> {
    #[inline]
    fn bytes(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        let (bytes, rest) = self.rest.split_at_checked(len).ok_or(DecodeError::Length)?;
        self.rest = rest;
        Ok(bytes)
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (bytes, rest) = self.rest.split_first_chunk::<N>().ok_or(DecodeError::Length)?;
        self.rest = rest;
        Ok(*bytes)
    }

    #[inline]
    fn u8(&mut self) -> Result<u8, DecodeError> {
        Ok(self.array::<1>()?[0])
    }

    #[inline]
    fn u16(&mut self) -> Result<u16, DecodeError> {
        self.array().map(u16::from_le_bytes)
    }

    #[inline]
    fn u32(&mut self) -> Result<u32, DecodeError> {
        self.array().map(u32::from_le_bytes)
    }

    #[inline]
    fn u64(&mut self) -> Result<u64, DecodeError> {
        self.array().map(u64::from_le_bytes)
    }

    /// 0 where the record ends before.
    fn late_u64(&mut self) -> Result<u64, DecodeError> {
        if self.rest.is_empty() { Ok(0) } else { self.u64() }
    }

    fn text(&mut self) -> Result<Cow<'a, str>, DecodeError> {
        let len = self.u32()? as usize;
        Ok(String::from_utf8_lossy(self.bytes(len)?))
    }

    #[inline]
    fn data(&mut self) -> Result<Data<'a>, DecodeError> {
        let context = self.context()?;
        let offset = self.u64()?;
        let len = self.u32()? as usize;
        let dir = self.dir()?;
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

    fn name(&mut self) -> Result<Name<'a>, DecodeError> {
        let context = self.context()?;
        let what = match self.u32()? {
            1 => NameKind::ServerName,
            2 => NameKind::Alpn,
            3 => NameKind::Socket,
            _ => return Err(DecodeError::Value("kind of name")),
        };
        let len = self.u32()? as usize;
        if len > NAME_BYTES_MAX {
            return Err(DecodeError::Value("name length"));
        }
        Ok(Name { context, what, bytes: self.bytes(len)? })
    }

    fn packet(&mut self) -> Result<Packet<'a>, DecodeError> {
        let (at, session) = (self.u64()?, self.u64()?);
        let (netns, interface, dir, length) = (self.u32()?, self.u32()?, self.dir()?, self.u32()?);
        let len = self.u32()? as usize;
        self.u32()?;
        if len > PACKET_BYTES_MAX || len > length as usize {
            return Err(DecodeError::Value("packet length"));
        }
        Ok(Packet { at, session, netns, interface, dir, length, bytes: self.bytes(len)? })
    }

    #[inline]
    fn dir(&mut self) -> Result<Dir, DecodeError> {
        match self.u32()? {
            0 => Ok(Dir::Out),
            1 => Ok(Dir::In),
            _ => Err(DecodeError::Value("direction")),
        }
    }

    fn secret(&mut self) -> Result<Secret<'a>, DecodeError> {
        let context = self.context()?;
        let kind = self.u32()?.checked_sub(1).and_then(|kind| SecretKind::ALL.get(kind as usize));
        let what = *kind.ok_or(DecodeError::Value("kind of secret"))?;
        let len = self.u32()? as usize;
        let client_random = self.array()?;
        let bytes = self.bytes(SECRET_BYTES_MAX)?.get(..len).filter(|bytes| !bytes.is_empty());
        let bytes = bytes.ok_or(DecodeError::Value("secret length"))?;
        Ok(Secret { context, what, client_random, bytes })
    }

    #[inline]
    fn context(&mut self) -> Result<Context, DecodeError> {
        // Their length is looked at once for all.
        let mut r = Reader { rest: self.bytes(CONTEXT_BYTES - HEADER_BYTES)? };
        let at = r.u64()?;
        let session = Session { id: r.u64()?, number: r.u32()?, library: r.u32()? };
        Ok(Context { at, session, task: r.task()?, conn: r.conn()? })
    }

    #[inline]
    fn task(&mut self) -> Result<Task, DecodeError> {
        let (pid, tid, uid, number) = (self.u32()?, self.u32()?, self.u32()?, self.u32()?);
        let mntns = MountNs { number, id: self.u64()? };
        Ok(Task { pid, tid, uid, mntns, start_ns: self.u64()?, comm: Comm(self.array()?) })
    }

    #[inline]
    fn conn(&mut self) -> Result<Conn, DecodeError> {
        let family = self.u8()?;
        let how = match self.u8()? {
            0 => How::Unknown,
            1 => How::Fd,
            2 => How::Nested,
            3 => How::Record,
            _ => return Err(DecodeError::Value("address source")),
        };
        let role = match self.u8()? {
            0 => Role::Unknown,
            1 => Role::Client,
            2 => Role::Server,
            _ => return Err(DecodeError::Value("role")),
        };
        let place = self.u8()?;
        let (local_port, remote_port, netns) = (self.u16()?, self.u16()?, self.u32()?);
        self.u32()?;
        let (local, remote) = (self.array::<16>()?, self.array::<16>()?);
        let tuple = match family {
            0 => None,
            4 => Some((v4(local), v4(remote))),
            6 => Some((IpAddr::from(local).to_canonical(), IpAddr::from(remote).to_canonical())),
            _ => return Err(DecodeError::Value("address family")),
        };
        let tuple = tuple.map(|(local, remote)| Tuple { local, local_port, remote, remote_port, netns });
        Ok(Conn { tuple, how, role, place })
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
            // Streams of the first version of the format may end before.
            lost_secrets: self.late_u64()?,
            lost_packets: self.late_u64()?,
        })
    }
}

fn v4(bytes: [u8; 16]) -> IpAddr {
    let [a, b, c, d, ..] = bytes;
    IpAddr::from([a, b, c, d])
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

/// Turns one CPU's entry of the kernel's map of counters (`struct counters` of `bpf/abi.h`) into an event's.
///
/// # Errors
/// The bytes are not such an entry.
pub fn decode_counters(value: &[u8]) -> Result<Counters, DecodeError> {
    Reader { rest: value }.counters()
}

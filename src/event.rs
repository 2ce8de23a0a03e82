//! The vocabulary of the program: what a decoded record says. No I/O, std only.
//!
//! An [`Event`] borrows its payload from the record that it was decoded from. All times in an event are
//! nanoseconds of the kernel's monotonic clock (`bpf_ktime_get_ns`); [`Clock`] events tell how they map
//! to the wall clock.

use std::borrow::Cow;
use std::net::IpAddr;

/// Which way plaintext went, as the traced process sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Dir {
    /// Written by the traced process (`SSL_write`).
    Out,
    /// Read by the traced process (`SSL_read`).
    In,
}

impl Dir {
    /// The opposite direction.
    #[must_use]
    pub fn flip(self) -> Self {
        match self {
            Self::Out => Self::In,
            Self::In => Self::Out,
        }
    }

    /// 0 for [`Dir::Out`], 1 for [`Dir::In`]: the index of per-direction arrays.
    #[must_use]
    pub fn index(self) -> usize {
        match self {
            Self::Out => 0,
            Self::In => 1,
        }
    }
}

/// The side of the TLS session that the traced process is on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Role {
    /// The program never said (the session was made before the capture began).
    #[default]
    Unknown,
    /// `SSL_connect`, `SSL_set_connect_state`.
    Client,
    /// `SSL_accept`, `SSL_set_accept_state`.
    Server,
}

/// How the addresses of a session became known, strongest last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum How {
    /// Not known (yet).
    #[default]
    Unknown,
    /// The session's file descriptor, given by `SSL_set_fd`, was followed to its socket.
    Fd,
    /// The socket was seen sending or receiving inside the library call itself.
    Nested,
    /// A TLS record that the library had made was seen being sent over the socket by the program.
    Record,
}

/// The two ends of the connection, seen from the traced process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tuple {
    /// Address on this machine; IPv4-mapped IPv6 is already IPv4 here.
    pub local: IpAddr,
    /// Port on this machine.
    pub local_port: u16,
    /// The peer's address.
    pub remote: IpAddr,
    /// The peer's port.
    pub remote_port: u16,
    /// Inode number of the network namespace in which the addresses mean something.
    pub netns: u32,
}

/// What is known about the transport of a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Conn {
    /// Addresses, where known.
    pub tuple: Option<Tuple>,
    /// How they became known.
    pub how: How,
    /// The side that the traced process is on.
    pub role: Role,
    /// Another number than before: the session is no longer on the connection that was known, whether or not
    /// another is known yet.
    pub place: u8,
}

/// A process's command name, at most 15 bytes and a NUL as in the kernel's `task_struct::comm`.
/// It comes from the traced process: any byte may be in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Comm(pub [u8; 16]);

impl Comm {
    /// The bytes before the first NUL.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        let end = self.0.iter().position(|&b| b == 0).unwrap_or(self.0.len());
        &self.0[..end]
    }

    /// The name as text: invalid UTF-8 and control characters are replaced by U+FFFD.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(self.bytes())
            .chars()
            .map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c })
            .collect()
    }
}

/// The mount namespace of a task. The number is what `lsns` shows and is used again after the namespace
/// is gone; the id, where the kernel has one (5.2 and later), never is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MountNs {
    /// `readlink /proc/PID/ns/mnt`: `mnt:[4026532573]`.
    pub number: u32,
    /// `ns_common::ns_id` or `mnt_namespace::seq`; 0 where unknown.
    pub id: u64,
}

/// The thread that made a call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Task {
    /// Process id (thread group), in the initial PID namespace.
    pub pid: u32,
    /// Thread id.
    pub tid: u32,
    /// Real user id, as the initial user namespace sees it.
    pub uid: u32,
    /// The container.
    pub mntns: MountNs,
    /// When the process was started, monotonic; tells apart two processes with one pid.
    pub start_ns: u64,
    /// The thread's command name at the call.
    pub comm: Comm,
}

/// One TLS session (an `SSL *` between `SSL_new` and `SSL_free`) in one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Session {
    /// Unique in a capture, also when the process id and the pointer are used again.
    pub id: u64,
    /// Number of this record among those of the session that reached user space: 0, 1, 2, … without holes.
    /// Records of a session may arrive out of order, never with a number missing.
    pub number: u32,
    /// Which [`Library`] made the call; 0 where the kernel can't tell.
    pub library: u32,
}

/// Facts that every record of a session carries, so that the loss of one record loses only its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Context {
    /// Monotonic time: for writes when the call began, for reads when it returned.
    pub at: u64,
    /// The session.
    pub session: Session,
    /// Who made the call.
    pub task: Task,
    /// Over which connection.
    pub conn: Conn,
}

/// Plaintext that a call really moved, or one chunk of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Data<'a> {
    /// Whose.
    pub context: Context,
    /// Which way.
    pub dir: Dir,
    /// Position of `bytes[0]` in the plaintext stream of this direction, counted from the first byte that
    /// was seen of the session.
    pub offset: u64,
    /// The bytes.
    pub bytes: &'a [u8],
}

/// Why a session, or one direction of it, ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CloseReason {
    /// `SSL_shutdown`: no more data will be written by this process.
    Shutdown,
    /// `SSL_free` (the object may live on if the program holds another reference), or a new session at
    /// the same place.
    Free,
}

/// A session ended, with the number of bytes that the kernel side counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Close {
    /// Whose.
    pub context: Context,
    /// Why.
    pub reason: CloseReason,
    /// Bytes written and read in the whole session, captured or not; indexed by [`Dir::index`].
    pub totals: [u64; 2],
}

/// What a [`Name`] names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NameKind {
    /// The server name that the client asks for (SNI, RFC 6066, section 3).
    ServerName,
    /// The application protocol that was agreed on (ALPN, RFC 7301).
    Alpn,
    /// What the session is on where that isn't TCP: see [`socket_text`].
    Socket,
}

/// Most bytes of a [`Name`]: what ALPN can carry, and more than a host name can have.
pub const NAME_BYTES_MAX: usize = 255;

/// The text for the bytes of a [`NameKind::Socket`]: address family and protocol (2 × u16, little endian, as
/// `linux/socket.h` and `linux/in.h` number them), and the family's name of the socket.
///
/// `unix:/run/x.sock`, or `unix:@x` in the abstract namespace; `vsock:2:1024`, which is context id and port
/// of the remote end; `udp`; `family:16`. A pair of UNIX sockets has no name, and is `unix`.
#[must_use]
pub fn socket_text(bytes: &[u8]) -> String {
    let Some(([f0, f1, p0, p1], name)) = bytes.split_first_chunk() else { return "unknown".to_owned() };
    let (family, protocol) = (u16::from_le_bytes([*f0, *f1]), u16::from_le_bytes([*p0, *p1]));
    match (family, name) {
        (AF_UNIX, []) => "unix".to_owned(),
        (AF_UNIX, [0, name @ ..]) => format!("unix:@{}", String::from_utf8_lossy(name)),
        (AF_UNIX, path) => {
            // The kernel keeps it with a NUL at its end.
            let path = path.split(|&byte| byte == 0).next().unwrap_or_default();
            format!("unix:{}", String::from_utf8_lossy(path))
        }
        (AF_VSOCK, &[c0, c1, c2, c3, p0, p1, p2, p3]) => {
            let (cid, port) = (u32::from_le_bytes([c0, c1, c2, c3]), u32::from_le_bytes([p0, p1, p2, p3]));
            format!("vsock:{cid}:{port}")
        }
        (AF_INET | AF_INET6, _) if protocol == IPPROTO_UDP => "udp".to_owned(),
        (AF_INET | AF_INET6, _) => format!("protocol:{protocol}"),
        _ => format!("family:{family}"),
    }
}

const AF_UNIX: u16 = 1;
const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;
const AF_VSOCK: u16 = 40;
const IPPROTO_UDP: u16 = 17;

/// A name that the session goes by, as the program told or asked its library.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Name<'a> {
    /// Whose.
    pub context: Context,
    /// What it names.
    pub what: NameKind,
    /// The name, at most [`NAME_BYTES_MAX`] bytes. It comes from the traced process or its peer: any byte may
    /// be in it.
    pub bytes: &'a [u8],
}

/// What a [`Secret`] is the secret of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SecretKind {
    /// The master secret of TLS 1.2 and before.
    Master = 1,
    /// The client's early data.
    ClientEarly,
    /// What is exported early.
    EarlyExporter,
    /// The client's part of the handshake.
    ClientHandshake,
    /// The server's part of the handshake.
    ServerHandshake,
    /// What the client sends, with its first key.
    ClientTraffic,
    /// What the server sends, with its first key.
    ServerTraffic,
    /// What is exported.
    Exporter,
}

impl SecretKind {
    /// All, in the order of their numbers, which are those of `bpf/abi.h` and begin with 1.
    pub const ALL: [Self; 8] = [
        Self::Master,
        Self::ClientEarly,
        Self::EarlyExporter,
        Self::ClientHandshake,
        Self::ServerHandshake,
        Self::ClientTraffic,
        Self::ServerTraffic,
        Self::Exporter,
    ];
}

/// Bytes of the random number of a hello (RFC 8446, section 4.1.2).
pub const RANDOM_BYTES: usize = 32;
/// Most bytes of a secret: as the longest hash has.
pub const SECRET_BYTES_MAX: usize = 64;

/// A secret of a session, from which the keys of its real packets follow. Its context has the number of the
/// session's next record: nothing misses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Secret<'a> {
    /// Whose.
    pub context: Context,
    /// Of what.
    pub what: SecretKind,
    /// The client's random number, by which a reader of packets knows the session.
    pub client_random: [u8; RANDOM_BYTES],
    /// The secret, 1 to [`SECRET_BYTES_MAX`] bytes.
    pub bytes: &'a [u8],
}

/// A real packet of a session's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// Wall-clock time, nanoseconds since 1970: packets have no other.
    pub at: u64,
    /// Whose ([`Session::id`]).
    pub session: u64,
    /// Network namespace in which it was seen.
    pub netns: u32,
    /// Number of the interface in it.
    pub interface: u32,
    /// Which way, as the traced process sees it.
    pub dir: Dir,
    /// How long it was.
    pub length: u32,
    /// Its bytes from the Ethernet header on, or the first of them; at most [`PACKET_BYTES_MAX`].
    pub bytes: &'a [u8],
}

/// Most bytes of a [`Packet`]: what Wireshark reads of one.
pub const PACKET_BYTES_MAX: usize = 262_144;

/// How many bytes a session had moved when the kernel's table was read: tells of a loss at the end of a
/// session, which no later record can show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Totals {
    /// Whose. `session.number` says how many records of the session were emitted before.
    pub context: Context,
    /// Bytes written and read in the whole session, captured or not; indexed by [`Dir::index`].
    pub totals: [u64; 2],
}

/// A process is gone, or has become another program, and with it every session that was its.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    /// Monotonic time.
    pub at: u64,
    /// The process; `tid` is the thread that went last.
    pub task: Task,
}

/// The first event of a stream: where and how it was captured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start<'a> {
    /// `tlsdump 0.1.0`.
    pub application: Cow<'a, str>,
    /// `Linux 6.18.44 x86_64`.
    pub os: Cow<'a, str>,
    /// The command line that captured.
    pub command: Cow<'a, str>,
}

/// One reading of both clocks. Repeated about once a second, so that a long capture follows the wall clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    /// Monotonic nanoseconds.
    pub mono: u64,
    /// Nanoseconds since 1970-01-01 UTC.
    pub wall: u64,
}

/// What a library number in [`Session::library`] stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Library<'a> {
    /// The number, from 1.
    pub id: u32,
    /// Path within its container, for people.
    pub path: Cow<'a, str>,
    /// Kind and version where they can be told: `OpenSSL 3.0.22`.
    pub version: Cow<'a, str>,
}

/// What a mount namespace stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container<'a> {
    /// The namespace.
    pub mntns: MountNs,
    /// Short name; where no better one is known, `mnt:[4026532573]`.
    pub name: Cow<'a, str>,
    /// Runtime, image, pod, as far as known; may be empty.
    pub description: Cow<'a, str>,
}

/// Counts of the kernel side since the start of the capture, cumulative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Bytes that traced calls moved.
    pub moved_bytes: u64,
    /// Bytes of them that reached the buffer.
    pub captured_bytes: u64,
    /// Bytes of them that did not.
    pub lost_bytes: u64,
    /// Records that found the buffer full.
    pub lost_records: u64,
    /// Chunks whose memory could not be read.
    pub unreadable: u64,
    /// Calls whose beginning had been forgotten at their return (table full, or nested too deep).
    pub lost_calls: u64,
    /// Sessions whose library call used a socket other than the session's own.
    pub socket_conflicts: u64,
    /// Secrets that could not be read or found the buffer full.
    pub lost_secrets: u64,
    /// Packets that found the ring of their socket full, or came too long before it was known whose they are;
    /// counted by user space.
    pub lost_packets: u64,
}

impl Counters {
    /// Adds another set of counts, such as another CPU's.
    pub fn add(&mut self, other: &Self) {
        self.moved_bytes = self.moved_bytes.wrapping_add(other.moved_bytes);
        self.captured_bytes = self.captured_bytes.wrapping_add(other.captured_bytes);
        self.lost_bytes = self.lost_bytes.wrapping_add(other.lost_bytes);
        self.lost_records = self.lost_records.wrapping_add(other.lost_records);
        self.unreadable = self.unreadable.wrapping_add(other.unreadable);
        self.lost_calls = self.lost_calls.wrapping_add(other.lost_calls);
        self.socket_conflicts = self.socket_conflicts.wrapping_add(other.socket_conflicts);
        self.lost_secrets = self.lost_secrets.wrapping_add(other.lost_secrets);
        self.lost_packets = self.lost_packets.wrapping_add(other.lost_packets);
    }
}

/// What one record of the stream says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// Where and how the stream was captured. Always first.
    Start(Start<'a>),
    /// Relation of the clocks.
    Clock(Clock),
    /// Meaning of a library number; before its first use.
    Library(Library<'a>),
    /// Meaning of a mount namespace; before its first use where it is known by then.
    Container(Container<'a>),
    /// Plaintext.
    Data(Data<'a>),
    /// End of a session or of one direction.
    Close(Close),
    /// A name of a session.
    Name(Name<'a>),
    /// A secret of a session.
    Secret(Secret<'a>),
    /// A packet of a session.
    Packet(Packet<'a>),
    /// Byte counts of a session.
    Totals(Totals),
    /// End of a process.
    Exit(Exit),
    /// Counts of the kernel side.
    Counters(Counters),
}

#[cfg(test)]
mod tests {
    use super::socket_text;

    #[test]
    fn a_socket_is_called_by_its_family_and_name() {
        for (bytes, text) in [
            (&b"\x01\0\0\0/run/x.sock\0"[..], "unix:/run/x.sock"),
            (b"\x01\0\0\0no NUL", "unix:no NUL"),
            (b"\x01\0\0\0\0abstract\0x", "unix:@abstract\0x"),
            (b"\x01\0\0\0\xff", "unix:\u{fffd}"),
            (b"\x01\0\0\0", "unix"),
            (b"\x28\0\0\0\x02\0\0\0\x00\x04\0\0", "vsock:2:1024"),
            (b"\x28\0\0\0\x02", "family:40"),
            (b"\x02\0\x11\0", "udp"),
            (b"\x0a\0\x84\0", "protocol:132"),
            (b"\x10\0\0\0", "family:16"),
            (b"\x01", "unknown"),
            (b"", "unknown"),
        ] {
            assert_eq!(socket_text(bytes), text);
        }
    }
}

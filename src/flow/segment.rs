//! What the flow stage gives: pieces of drawn conversations.

use std::net::SocketAddr;

use crate::event::{Dir, How, NameKind, Task, socket_text};

/// Names of a session, as far as they are known; at most [`crate::event::NAME_BYTES_MAX`] bytes each, and any
/// byte may be in them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FlowNames {
    /// [`NameKind::ServerName`].
    pub server: Option<Box<[u8]>>,
    /// [`NameKind::Alpn`].
    pub alpn: Option<Box<[u8]>>,
    /// [`NameKind::Socket`]; what it says is [`crate::event::socket_text`]. It was true as long as the
    /// addresses are unknown.
    pub socket: Option<Box<[u8]>>,
}

impl FlowNames {
    /// Keeps a name. One that comes late, when newer ones may have come, replaces none.
    pub(crate) fn learn(&mut self, what: NameKind, bytes: &[u8], is_late: bool) {
        let name = match what {
            NameKind::ServerName => &mut self.server,
            NameKind::Alpn => &mut self.alpn,
            NameKind::Socket => &mut self.socket,
        };
        if name.is_none() || !is_late {
            *name = Some(bytes.into());
        }
    }
}

/// Who a segment belongs to. `task` is the thread that made the call of this very segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Number of the drawn conversation, from 1, in order of first appearance.
    pub id: u64,
    /// The session that it shows ([`crate::event::Session::id`]).
    pub session: u64,
    /// The end in the traced process.
    pub local: SocketAddr,
    /// The other end.
    pub remote: SocketAddr,
    /// Whether `local` is the client, that is, sends the SYN.
    pub local_is_client: bool,
    /// How the addresses are known; with [`How::Unknown`] they are made up (198.18.0.0/15).
    pub how: How,
    /// Network namespace of the addresses; 0 where they are made up.
    pub netns: u32,
    /// Library number ([`crate::event::Library::id`]), 0 for unknown.
    pub library: u32,
    /// Who.
    pub task: Task,
    /// What is known of the session's names by now.
    pub names: FlowNames,
    /// The process at the other end of the connection, if its end is captured too. It is told with one
    /// segment only: the first after it became known.
    pub other_end: Option<Task>,
}

impl Flow {
    /// The direction in which the client sends.
    #[must_use]
    pub fn client(&self) -> Dir {
        if self.local_is_client { Dir::Out } else { Dir::In }
    }

    /// What the session is on, where that is known not to be TCP ([`crate::event::socket_text`]).
    #[must_use]
    pub fn socket(&self) -> Option<String> {
        let socket = self.names.socket.as_deref().filter(|_| self.how == How::Unknown);
        socket.map(socket_text)
    }

    /// The port of the server.
    #[must_use]
    pub fn server_port(&self) -> u16 {
        if self.local_is_client { self.remote.port() } else { self.local.port() }
    }
}

/// What happens in a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What<'a> {
    /// The conversation begins (drawn as the TCP handshake). `dir` is that of the client.
    Open,
    /// Bytes, in order, none twice.
    Data(&'a [u8]),
    /// So many bytes of this direction were lost here.
    Gap(u64),
    /// This direction ends.
    Fin,
    /// The conversation breaks off: its end was not seen, or it is drawn anew because its addresses changed.
    Reset,
}

/// A piece of a flow. `S` is what the next stage keeps for each flow; it lives as long as the flow does.
#[derive(Debug)]
pub struct Segment<'a, S> {
    /// Wall-clock time, nanoseconds since 1970-01-01 UTC.
    pub at: u64,
    /// Whose.
    pub flow: &'a Flow,
    /// The next stage's own memory of this flow (TCP numbers, envelope), `S::default()` at [`What::Open`].
    pub state: &'a mut S,
    /// Which way: [`Dir::Out`] goes from `flow.local` to `flow.remote`.
    pub dir: Dir,
    /// What.
    pub what: What<'a>,
}

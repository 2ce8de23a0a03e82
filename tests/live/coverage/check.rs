//! Whether what was captured is what the relay saw.

use std::net::SocketAddr;

use super::listed::{Listed, is_file};
use super::peers::answer;
use super::play::{MARKS, body};
use super::{Row, Side, Talk, Verdict};
use crate::capture::{Captured, tshark};
use crate::relay::Relayed;
use crate::streams::Conversation;

/// What HTTP/2 may send when the other side is closing, and that side then does not read: some frames
/// without data.
const UNREAD_MAX: usize = 64;
const FRAME_HEADER: usize = 9;

/// What came of a row that is as it says.
pub(crate) struct Outcome {
    /// What `tlsdump list` says: the library and its version, or why not.
    pub(crate) listed: Listed,
    /// How many of the requests and answers that were made were captured.
    pub(crate) requests: Count,
    pub(crate) answers: Count,
}

/// Of how many.
pub(crate) struct Count {
    pub(crate) captured: usize,
    pub(crate) made: usize,
}

/// What is said over connections: of each request and each answer pieces that must all be found.
struct Expected {
    requests: Vec<Vec<Vec<u8>>>,
    answers: Vec<Vec<Vec<u8>>>,
}

/// Compares; `ports` are those of the relay for the container that is captured and for its neighbour.
#[track_caller]
pub(crate) fn check(
    row: &Row,
    listed: Listed,
    captured: &Captured,
    relayed: &[Relayed],
    ports: [u16; 2],
    answers: &dyn Fn(u8) -> Vec<u8>,
) -> Outcome {
    // Browsers open connections that they then don't use.
    let used =
        |port| relayed.iter().filter(move |r| r.port == port && !(r.written.is_empty() && r.read.is_empty()));
    let own: Vec<_> = used(ports[0]).collect();
    assert!(!own.is_empty() && used(ports[1]).next().is_some(), "both containers should have talked");
    let expected = Expected::of(row, answers);
    let (asked, answered): (Vec<_>, Vec<_>) = own.iter().map(|r| row.ways(&r.written, &r.read)).unzip();
    let made = expected.count(&asked, &answered);
    assert_eq!(
        made,
        (expected.requests.len(), expected.answers.len()),
        "the relay should have seen them all"
    );
    let conversations: Vec<_> = captured.conversations.iter().filter(|c| !is_empty(c)).collect();
    let (asked, answered): (Vec<_>, Vec<_>) =
        conversations.iter().map(|c| row.ways(c.written().bytes(), c.read().bytes())).unzip();
    let mut found = expected.count(&asked, &answered);
    if row.is_http2() {
        found.0 = found.0.min(paths(captured));
    }
    match (row.verdict, &listed) {
        (Verdict::Nothing(words), Listed::Refused(why)) => {
            assert!(why.contains(words), "the list says: {why}");
            assert!(captured.conversations.is_empty(), "it works now: change the row\n{captured}");
        }
        (Verdict::Works, Listed::Found { .. }) => {
            assert_eq!(conversations.len(), own.len(), "connections:\n{captured}");
            own.iter().for_each(|relayed| is_exact(row, captured, relayed));
            assert_eq!(found, made, "{captured}");
            assert!(!captured.mentions(MARKS[1]), "the neighbour is in the file");
        }
        (Verdict::Nothing(_), Listed::Found { version, .. }) => {
            panic!("the list has it, as {version}\n{captured}")
        }
        (_, Listed::Refused(why)) => panic!("the list does not have it: {why}\n{captured}"),
    }
    Outcome {
        listed,
        requests: Count { captured: found.0, made: made.0 },
        answers: Count { captured: found.1, made: made.1 },
    }
}

/// A connection is there with every byte, truly attributed.
#[track_caller]
fn is_exact(row: &Row, captured: &Captured, relayed: &Relayed) {
    let conversation = captured.between(relayed.program, relayed.relay);
    assert_eq!(conversation.server, row.server(relayed), "the SYN goes to it:\n{captured}");
    assert_eq!(captured.value(conversation, "tuple"), row.socket, "{captured}");
    let library = captured.value(conversation, "lib");
    assert!(is_file(&library, row.file), "{library}");
    for (stream, peer, what) in
        [(conversation.written(), &relayed.written, "written"), (conversation.read(), &relayed.read, "read")]
    {
        assert_eq!(stream.gaps(), [], "nothing may be lost:\n{captured}");
        same(row, stream.bytes(), peer, what);
    }
}

/// `bytes` are what the peer had. Of HTTP/2 one may have a little that the other did not read any more.
#[track_caller]
fn same(row: &Row, bytes: &[u8], peer: &[u8], what: &str) {
    let common = bytes.iter().zip(peer).take_while(|(a, b)| a == b).count();
    let longer = bytes.len().max(peer.len());
    let unread = if row.is_within_http2() { UNREAD_MAX } else { 0 };
    let show = |bytes: &[u8]| bytes[common..bytes.len().min(common + 100)].escape_ascii().to_string();
    assert!(
        common == bytes.len().min(peer.len()) && longer - common <= unread,
        "{what}: {} bytes were captured, the peer had {}, equal are the first {common}, then come {} and {}",
        bytes.len(),
        peer.len(),
        show(bytes),
        show(peer)
    );
}

fn is_empty(conversation: &Conversation) -> bool {
    conversation.written().bytes().is_empty() && conversation.read().bytes().is_empty()
}

impl Row {
    /// Pages of HTTP/2.
    fn is_http2(&self) -> bool {
        matches!(self.talk, Talk::Http { version: 2, .. })
    }

    /// Anything in HTTP/2.
    fn is_within_http2(&self) -> bool {
        self.is_http2() || matches!(self.talk, Talk::Other { style: "h2", .. })
    }

    /// Who of a connection was connected to.
    fn server(&self, relayed: &Relayed) -> SocketAddr {
        if self.side == Side::Client { relayed.relay } else { relayed.program }
    }

    /// What is asked, and what is answered, of what the program wrote and read.
    fn ways(&self, written: &[u8], read: &[u8]) -> (Vec<u8>, Vec<u8>) {
        let (asked, answered) = if self.side == Side::Client { (written, read) } else { (read, written) };
        if self.is_http2() { (data(asked), data(answered)) } else { (asked.to_vec(), answered.to_vec()) }
    }
}

impl Expected {
    fn of(row: &Row, answers: &dyn Fn(u8) -> Vec<u8>) -> Self {
        let mark = MARKS[0];
        let marked = |texts: &[&str]| {
            texts.iter().map(|text| vec![text.replace("{}", mark).into_bytes()]).collect::<Vec<_>>()
        };
        match row.talk {
            Talk::Other { asks, answers, .. } => Self { requests: marked(asks), answers: marked(answers) },
            Talk::Http { version, posts } => {
                // In HTTP/2 it is packed (RFC 7541): there the answers tell the path, and tshark does.
                let path = |page| (version == 1).then(|| format!(" /{mark}/{page} HTTP/1.").into_bytes());
                let body = |page| (page == 3 && posts).then(|| body(mark).into_bytes());
                let request = |page| path(page).into_iter().chain(body(page)).collect();
                let answers = (1..=3).map(|page| match row.side {
                    Side::Client => vec![answer(mark, page).into_bytes()],
                    Side::Server => vec![answers(page)],
                });
                Self { requests: (1..=3).map(request).collect(), answers: answers.collect() }
            }
        }
    }

    /// How many of the requests and the answers are in what was asked and answered over connections.
    fn count(&self, asked: &[Vec<u8>], answered: &[Vec<u8>]) -> (usize, usize) {
        let has = |said: &Vec<u8>, pieces: &[Vec<u8>]| {
            pieces.iter().all(|piece| memchr::memmem::find(said, piece).is_some())
        };
        let count = |wanted: &[Vec<Vec<u8>>], said: &[Vec<u8>]| {
            wanted.iter().filter(|pieces| said.iter().any(|said| has(said, pieces))).count()
        };
        (count(&self.requests, asked), count(&self.answers, answered))
    }
}

/// How many of the pages are asked for in HTTP/2 according to tshark.
fn paths(captured: &Captured) -> usize {
    let fields = ["-Y", "http2.headers.path", "-T", "fields", "-e", "http2.headers.path"];
    let shown = tshark(&captured.file, &fields);
    let shown: Vec<_> = shown.split(['\n', ',']).collect();
    (1..=3).filter(|page| shown.contains(&format!("/{}/{page}", MARKS[0]).as_str())).count()
}

/// The data of HTTP/2 (RFC 9113, section 4.1 and 6.1), of all its streams one after the other.
fn data(mut bytes: &[u8]) -> Vec<u8> {
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    bytes = bytes.strip_prefix(PREFACE).unwrap_or(bytes);
    let mut streams = std::collections::BTreeMap::<u32, Vec<u8>>::new();
    while bytes.len() >= FRAME_HEADER {
        let (header, rest) = bytes.split_at(FRAME_HEADER);
        let length = usize::from(header[0]) << 16 | usize::from(header[1]) << 8 | usize::from(header[2]);
        let length = length.min(rest.len());
        if header[3] == 0 {
            let stream = u32::from_be_bytes([header[5], header[6], header[7], header[8]]);
            streams.entry(stream).or_default().extend_from_slice(&rest[..length]);
        }
        bytes = &rest[length..];
    }
    streams.into_values().flatten().collect()
}

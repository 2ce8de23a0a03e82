//! The sealed envelope: TLS 1.3 with `TLS_AES_128_GCM_SHA256` and keys that are made for one file (`keys`).
//!
//! It takes the place of records and handshake of [`super::tls`], which says when they are drawn. Nothing of
//! the plaintext is drawn outside a sealed record, on no port; a handshake always begins a session of its
//! own, so that no key meets a nonce twice.

use crate::event::Dir;

use super::keys::{Keys, Name, Part, Place, RANDOM_BYTES, RECORDS_PER_KEY, Side, TAG_BYTES};
use super::tcp::Pen;
use super::{Note, SEGMENT_MAX, Seed, hello};

/// Most bytes that a sealed record adds to its plaintext: header, type, tag.
const RECORD_ADDS: usize = hello::RECORD_HEADER_BYTES + 1 + TAG_BYTES;

const _: () = assert!(hello::RECORD_MAX + RECORD_ADDS <= SEGMENT_MAX);

/// The session that a flow is in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Session {
    number: u64,
    /// The direction in which the client sends.
    client: Dir,
    /// Records of application data that each side has sent, by [`Dir::index`].
    sent: [u64; 2],
}

/// Seals records for all flows.
#[derive(Debug)]
pub(super) struct Sealer {
    keys: Keys,
    /// Sessions begun so far.
    sessions: u64,
    /// The record that was drawn last: only its memory is used again.
    record: Vec<u8>,
}

impl Sealer {
    pub(super) fn new(seed: &Seed) -> Self {
        Self { keys: Keys::new(seed), sessions: 0, record: Vec::new() }
    }

    /// The next record of a side's application data, and its place in the session counted.
    fn seal(&mut self, flow: u64, session: &mut Session, dir: Dir, kind: u8, text: &[u8]) -> Vec<u8> {
        let side = if dir == session.client { Side::Client } else { Side::Server };
        let sent = &mut session.sent[dir.index()];
        let (epoch, sequence) = (*sent / RECORDS_PER_KEY, *sent % RECORDS_PER_KEY);
        *sent += 1;
        let place = Place { name: Name { flow, number: session.number }, side, epoch };
        let mut record = std::mem::take(&mut self.record);
        record.clear();
        let key = self.keys.traffic(place);
        push(&mut record, kind, text, |header, inner| key?.seal(sequence, header, inner));
        record
    }
}

/// Appends a record (RFC 8446, section 5.2). What cannot be sealed is not written either, but zeros.
fn push(
    out: &mut Vec<u8>,
    kind: u8,
    text: &[u8],
    seal: impl FnOnce(&[u8], &mut [u8]) -> Option<[u8; TAG_BYTES]>,
) {
    let header = hello::record_header(text.len() + 1);
    out.extend_from_slice(&header);
    let begin = out.len();
    out.extend_from_slice(text);
    out.push(kind);
    let inner = &mut out[begin..];
    let tag = seal(&header, inner).unwrap_or_else(|| {
        inner.fill(0);
        [0; TAG_BYTES]
    });
    out.extend_from_slice(&tag);
}

/// Begins a session: the hellos in clear, the rest of the handshake under keys of its own. The secrets go
/// with the first frame. Works at any time, in the middle of a flow too.
pub(super) fn handshake<E>(pen: &mut Pen<'_, E>, server_name: &[u8], alpn: &[u8]) -> Result<(), E> {
    let Some(sealer) = pen.sealer.as_deref_mut() else { return Ok(()) };
    sealer.sessions += 1;
    let name = Name { flow: pen.flow.id, number: sealer.sessions };
    let client = pen.flow.client();
    pen.state.session = Some(Session { number: name.number, client, sent: [0; 2] });
    let keys = &sealer.keys;
    let public = |part| keys.part(name, part).unwrap_or([0; RANDOM_BYTES]);
    let [client_hello, mut server_flight] = [
        hello::client_1_3(
            &public(Part::Random(Side::Client)),
            &public(Part::Share(Side::Client)),
            server_name,
            alpn,
        ),
        hello::server_1_3(&public(Part::Random(Side::Server)), &public(Part::Share(Side::Server))),
    ];
    let [client_key, server_key] = [Side::Client, Side::Server].map(|side| keys.handshake(name, side));
    push(&mut server_flight, hello::HANDSHAKE, &hello::server_finish_1_3(alpn), |header, inner| {
        server_key?.seal(0, header, inner)
    });
    let mut client_flight = Vec::new();
    push(&mut client_flight, hello::HANDSHAKE, &hello::FINISHED_1_3, |header, inner| {
        client_key?.seal(0, header, inner)
    });
    let secrets = keys.log(name).unwrap_or_default();
    pen.secret_payload(client, &[&client_hello], &secrets)?;
    pen.payload(client.flip(), &[&server_flight], None)?;
    pen.payload(client, &[&client_flight], None)
}

/// One record of application data.
pub(super) fn record<E>(pen: &mut Pen<'_, E>, dir: Dir, text: &[u8], note: Option<Note>) -> Result<(), E> {
    renew(pen, dir)?;
    let record = seal(pen, dir, hello::APPLICATION_DATA, text);
    let drawn = pen.payload(dir, &[&record], note);
    give_back(pen, record);
    drawn
}

/// The end of a direction, with the alert that says so.
pub(super) fn close<E>(pen: &mut Pen<'_, E>, dir: Dir) -> Result<(), E> {
    renew(pen, dir)?;
    let record = seal(pen, dir, hello::ALERT, &hello::CLOSE_NOTIFY);
    let drawn = pen.fin(dir, &record);
    give_back(pen, record);
    drawn
}

/// The last record that a key is used for tells that the next has another (RFC 8446, section 4.6.3).
fn renew<E>(pen: &mut Pen<'_, E>, dir: Dir) -> Result<(), E> {
    let sent = pen.state.session.map_or(0, |session| session.sent[dir.index()]);
    if sent % RECORDS_PER_KEY != RECORDS_PER_KEY - 1 {
        return Ok(());
    }
    let record = seal(pen, dir, hello::HANDSHAKE, &hello::KEY_UPDATE_1_3);
    pen.payload(dir, &[&record], None)
}

/// The record; nothing without a session, which every flow has that wears the envelope.
fn seal<E>(pen: &mut Pen<'_, E>, dir: Dir, kind: u8, text: &[u8]) -> Vec<u8> {
    match (pen.sealer.as_deref_mut(), &mut pen.state.session) {
        (Some(sealer), Some(session)) => sealer.seal(pen.flow.id, session, dir, kind, text),
        _ => Vec::new(),
    }
}

fn give_back<E>(pen: &mut Pen<'_, E>, record: Vec<u8>) {
    if let Some(sealer) = pen.sealer.as_deref_mut() {
        sealer.record = record;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::event::{How, Task};
    use crate::flow::{Flow, FlowNames, Segment, What};
    use crate::frame::{Encoder, Envelope, State, tls};

    const SEED: Seed = [9; 32];
    fn flow(id: u64) -> Flow {
        Flow {
            id,
            session: id,
            local: "10.0.0.1:50001".parse().unwrap(),
            remote: "10.0.0.2:443".parse().unwrap(),
            local_is_client: true,
            how: How::Fd,
            netns: 1,
            library: 1,
            task: Task::default(),
            names: FlowNames::default(),
            other_end: None,
        }
    }

    /// The payloads that are drawn, and the secrets with them.
    fn draw(encoder: &mut Encoder, flow: &Flow, state: &mut State, what: What<'_>) -> Vec<(Vec<u8>, String)> {
        let mut drawn = Vec::new();
        let segment = Segment { at: 0, flow, state, dir: Dir::Out, what };
        let done: Result<(), ()> = encoder.segment(segment, &mut |frame| {
            drawn.push((frame.payload.concat(), frame.secrets.unwrap_or_default().to_owned()));
            Ok(())
        });
        done.unwrap();
        drawn
    }

    /// The record that a side sends under a key.
    fn record(flow: u64, number: u64, epoch: u64, sequence: u64, kind: u8, text: &[u8]) -> Vec<u8> {
        let place = Place { name: Name { flow, number }, side: Side::Client, epoch };
        let mut keys = Keys::new(&SEED);
        let mut record = Vec::new();
        let key = keys.traffic(place);
        push(&mut record, kind, text, |header, inner| key?.seal(sequence, header, inner));
        record
    }

    #[test]
    fn a_hello_drawn_again_begins_a_session_with_other_secrets() {
        let mut encoder = Encoder::new(Envelope::Sealed, &SEED);
        let (flows, mut states) = ([flow(1), flow(2)], [State::default(); 2]);
        let mut secrets = std::collections::HashSet::new();
        for round in 0..3 {
            for (flow, state) in flows.iter().zip(&mut states) {
                let number = round * 2 + flow.id;
                state.dress = tls::Dress::default();
                let first = draw(&mut encoder, flow, state, What::Data(b"first"));
                assert_eq!(first.len(), 4);
                assert_eq!(first.iter().filter(|(_, lines)| !lines.is_empty()).count(), 1);
                assert_eq!(first[0].1.lines().count(), 4);
                secrets.extend(first[0].1.lines().map(|line| line[line.len() - 64..].to_owned()));
                assert_eq!(first[3].0, record(flow.id, number, 0, 0, 23, b"first"));
                let second = draw(&mut encoder, flow, state, What::Data(b"second"));
                assert_eq!(second, [(record(flow.id, number, 0, 1, 23, b"second"), String::new())]);
            }
        }
        assert_eq!(secrets.len(), 3 * 2 * 4);
    }

    #[test]
    fn a_key_is_renewed_before_it_is_used_too_often() {
        let mut encoder = Encoder::new(Envelope::Sealed, &SEED);
        let (flow, mut state) = (flow(5), State::default());
        draw(&mut encoder, &flow, &mut state, What::Data(b"hello"));
        for epoch in 0..2 {
            let sent = (epoch + 1) * RECORDS_PER_KEY - 2;
            state.session.as_mut().unwrap().sent = [sent; 2];
            let last = draw(&mut encoder, &flow, &mut state, What::Data(b"last"));
            let next = draw(&mut encoder, &flow, &mut state, What::Data(b"next"));
            let drawn: Vec<_> = last.into_iter().chain(next).map(|(payload, _)| payload).collect();
            let expected = [
                record(5, 1, epoch, RECORDS_PER_KEY - 2, 23, b"last"),
                record(5, 1, epoch, RECORDS_PER_KEY - 1, 22, &[24, 0, 0, 1, 0]),
                record(5, 1, epoch + 1, 0, 23, b"next"),
            ];
            assert_eq!(drawn, expected);
        }
        let fin = draw(&mut encoder, &flow, &mut state, What::Fin);
        assert_eq!(fin[0].0, record(5, 1, 2, 1, 21, &[1, 0]));
    }

    #[test]
    fn what_cannot_be_sealed_is_not_written() {
        let mut out = Vec::new();
        push(&mut out, 23, b"secret", |_, _| None);
        assert_eq!(out, [&[23, 3, 3, 0, 23][..], &[0; 23]].concat());
    }
}

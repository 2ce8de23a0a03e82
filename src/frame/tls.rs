//! The envelope in which Wireshark knows every protocol: a TLS session that encrypts nothing (`hello`).
//!
//! The handshake is drawn only before the first bytes of a flow, because the protocol may have to be known by
//! them. Where there is a key (`sealed`), its handshake and its records take the place of those here.

use crate::event::Dir;
use crate::flow::What;

use super::guess::{PREFACE, Protocol, begins_with_preface};
use super::ports::{self, Rule};
use super::tcp::Pen;
use super::{Note, SEGMENT_MAX, hello, plain, sealed};

/// What stands for bytes that were lost.
static ZEROS: [u8; hello::RECORD_MAX] = [0; hello::RECORD_MAX];

const _: () = assert!(hello::RECORD_MAX + hello::RECORD_ADDS <= SEGMENT_MAX);

/// What a flow wears.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Dress {
    worn: Option<Worn>,
    /// Which directions have ended.
    finished: [bool; 2],
}

#[derive(Clone, Copy, Debug)]
enum Worn {
    /// Nothing: the port wants it so. HTTP/2 there is known by its first bytes only.
    Plain { http2: bool },
    /// The envelope, with the protocol that the bytes were seen to be, and what the port wants before it.
    Tls(Option<Protocol>, Rule),
}

/// Draws what happens in a flow.
pub(super) fn draw<E>(pen: &mut Pen<'_, E>, dir: Dir, what: What<'_>) -> Result<(), E> {
    match what {
        What::Open => pen.handshake(dir, None),
        What::Data([]) | What::Gap(0) => Ok(()),
        What::Data(bytes) => match dress(pen, bytes)? {
            Worn::Plain { .. } => plain::draw(pen, dir, what),
            Worn::Tls(..) => {
                bytes.chunks(hello::RECORD_MAX).try_for_each(|piece| record(pen, dir, piece, None))
            }
        },
        What::Gap(lost) => match dress(pen, &[])? {
            Worn::Plain { .. } => plain::draw(pen, dir, what),
            Worn::Tls(..) if lost <= pen.fill_max => fill(pen, dir, lost),
            Worn::Tls(protocol, rule) => restart(pen, dir, lost, protocol, rule),
        },
        What::Fin => {
            pen.state.dress.finished[dir.index()] = true;
            // A flow that shows nothing else in this part isn't begun again for its end alone.
            if pen.state.strange.is_some() { pen.fin(dir, &[]) } else { close(pen, dir) }
        }
        What::Reset => pen.reset(dir),
    }
}

/// Sees to it that the flow is dressed, and known to a reader; `bytes` are the first of it that are seen.
fn dress<E>(pen: &mut Pen<'_, E>, bytes: &[u8]) -> Result<Worn, E> {
    let again = pen.reintroduce()?;
    if let Some(worn) = pen.state.dress.worn {
        if again {
            show(pen, worn, false)?;
            close_again(pen)?;
        }
        return Ok(worn);
    }
    let rule = match pen.sealer {
        None => ports::rule(pen.flow.server_port(), bytes),
        Some(_) => ports::rule_sealed(pen.flow.server_port()),
    };
    let protocol = Protocol::of(bytes);
    let worn = match rule {
        Rule::Plain | Rule::Http => {
            Worn::Plain { http2: rule == Rule::Http && protocol == Some(Protocol::Http2) }
        }
        Rule::Tls | Rule::Ask { .. } => Worn::Tls(protocol, rule),
    };
    pen.state.dress.worn = Some(worn);
    show(pen, worn, begins_with_preface(bytes))?;
    Ok(worn)
}

/// What must be seen before the bytes of a flow, so that a reader knows what they are. `announced` is whether
/// they begin as HTTP/2 does.
fn show<E>(pen: &mut Pen<'_, E>, worn: Worn, announced: bool) -> Result<(), E> {
    match worn {
        Worn::Tls(protocol, rule) => handshake(pen, protocol, rule),
        Worn::Plain { http2 } if http2 && !announced => {
            pen.payload(pen.flow.client(), &[PREFACE], Some(Note::Added))
        }
        Worn::Plain { .. } => Ok(()),
    }
}

fn handshake<E>(pen: &mut Pen<'_, E>, protocol: Option<Protocol>, rule: Rule) -> Result<(), E> {
    let names = &pen.flow.names;
    // Wireshark knows HTTP/2 by one name only; gRPC agrees on another ("grpc-exp") where both ends know it.
    let alpn = match protocol {
        Some(Protocol::Http2) => Protocol::Http2.alpn(),
        _ => names.alpn.as_deref().or(protocol.map(Protocol::alpn)).unwrap_or_default(),
    };
    let client = pen.flow.client();
    if let Rule::Ask { question, answer } = rule {
        pen.payload(client, &[question], None)?;
        pen.payload(client.flip(), &[answer], None)?;
    }
    let server_name = names.server.as_deref().unwrap_or_default();
    if pen.sealer.is_some() {
        return sealed::handshake(pen, server_name, alpn);
    }
    pen.payload(client, &[&hello::client(server_name, alpn)], None)?;
    pen.payload(client.flip(), &[&hello::server(alpn)], None)?;
    pen.payload(client, &[&hello::CHANGE], None)
}

/// One record of application data. It is put together only in the frame.
fn record<E>(pen: &mut Pen<'_, E>, dir: Dir, plaintext: &[u8], note: Option<Note>) -> Result<(), E> {
    if pen.sealer.is_some() {
        return sealed::record(pen, dir, plaintext, note);
    }
    let header = hello::record_header(plaintext.len());
    pen.payload(dir, &[&header, plaintext, &hello::MAC], note)
}

/// The end of a direction. The protocol inside is told of it by the alert, in the same segment: an answer may
/// have no other end. (Wireshark does so since 4.2.)
fn close<E>(pen: &mut Pen<'_, E>, dir: Dir) -> Result<(), E> {
    match pen.state.dress.worn {
        Some(Worn::Tls(..)) if pen.sealer.is_some() => sealed::close(pen, dir),
        Some(Worn::Tls(..)) => pen.fin(dir, &hello::CLOSE),
        _ => pen.fin(dir, &[]),
    }
}

/// Zeros in place of lost bytes.
fn fill<E>(pen: &mut Pen<'_, E>, dir: Dir, lost: u64) -> Result<(), E> {
    let mut left = lost;
    while left > 0 {
        let bytes = left.min(hello::RECORD_MAX as u64);
        let note = Note::Filled { bytes, first: left == lost };
        // At most the length of a record, by the minimum.
        record(pen, dir, &ZEROS[..bytes as usize], Some(note))?;
        left -= bytes;
    }
    Ok(())
}

/// A new connection in place of lost bytes.
fn restart<E>(
    pen: &mut Pen<'_, E>,
    dir: Dir,
    lost: u64,
    protocol: Option<Protocol>,
    rule: Rule,
) -> Result<(), E> {
    pen.restart(dir, lost)?;
    handshake(pen, protocol, rule)?;
    close_again(pen)
}

/// Directions that had ended before a connection was begun again end in it again.
fn close_again<E>(pen: &mut Pen<'_, E>) -> Result<(), E> {
    for dir in [Dir::Out, Dir::In] {
        if pen.state.dress.finished[dir.index()] {
            close(pen, dir)?;
        }
    }
    Ok(())
}

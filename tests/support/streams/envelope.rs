//! Takes the plaintext out of the TLS sessions that encrypt nothing, byte by byte as the standard has them.

use super::super::pcapng::Result;
use super::Stream;

const CLIENT_RANDOM: &[u8] = b"tlsdump: synthetic TLS, no key!!";
pub(super) const SSL_REQUEST: &[u8] = &[0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];
/// The alert that a side sends no more.
const CLOSE: &[u8] = &[21, 3, 3, 0, 18, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
const CHANGE: &[u8] = &[20, 3, 3, 0, 1, 1];

/// What the handshake told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hello {
    pub server_name: Option<Vec<u8>>,
    pub alpn: Option<Vec<u8>>,
    /// Whether PostgreSQL's request for TLS came before it.
    pub asked: bool,
}

/// Replaces the streams of a conversation by the plaintext in them, if it begins with a synthetic handshake.
pub fn unwrap(client: &mut Stream, server: &mut Stream) -> Result<Option<Hello>> {
    let asked = client.bytes.starts_with(SSL_REQUEST) && server.bytes.starts_with(b"S\x16");
    let (ask, grant) = if asked { (SSL_REQUEST.len(), 1) } else { (0, 0) };
    // Record header, message header, version; then the random.
    if client.bytes.get(ask + 11..ask + 43) != Some(CLIENT_RANDOM) {
        return Ok(None);
    }
    if !client.gaps.is_empty() || !server.gaps.is_empty() {
        return Err("a gap in the envelope".to_owned());
    }
    let mut hello = Hello { asked, ..Hello::default() };
    let (messages, next) = record(&client.bytes, ask, 22)?;
    client_hello(messages, &mut hello)?;
    application_data(client, next)?;
    // A capture may end (`-c`) before the server has answered.
    if server.bytes.len() > grant {
        let (messages, next) = record(&server.bytes, grant, 22)?;
        server_hello(messages, &hello)?;
        application_data(server, next)?;
    }
    Ok(Some(hello))
}

/// The body of the record at `at`, which must be of this type, and where the next one is.
pub(super) fn record(bytes: &[u8], at: usize, kind: u8) -> Result<(&[u8], usize)> {
    let header = bytes.get(at..at + 5).ok_or_else(|| format!("no record header at {at}"))?;
    if header[..3] != [kind, 3, 3] {
        return Err(format!("record {header:02x?} at {at}, not of type {kind}"));
    }
    let end = at + 5 + usize::from(u16::from_be_bytes([header[3], header[4]]));
    Ok((bytes.get(at + 5..end).ok_or_else(|| format!("record at {at} cut short"))?, end))
}

fn client_hello(messages: &[u8], hello: &mut Hello) -> Result<()> {
    let body = message(messages, 1)?;
    let mut fields = Fields(&body[34..]);
    let fixed = (fields.short()?, fields.long()?, fields.short()?);
    if fixed != (&[][..], &[0, 1][..], &[0][..]) || messages.len() != body.len() + 4 {
        return Err(format!("client hello {fixed:02x?}"));
    }
    for (kind, value) in extensions(fields)? {
        let mut list = Fields(Fields(value).long()?);
        match kind {
            0 if list.take(1)? == [0] => hello.server_name = Some(list.long()?.to_vec()),
            16 => hello.alpn = Some(list.short()?.to_vec()),
            _ => return Err(format!("extension {kind}: {value:02x?}")),
        }
        if !list.0.is_empty() {
            return Err(format!("extension {kind} names more than one"));
        }
    }
    Ok(())
}

fn server_hello(messages: &[u8], client: &Hello) -> Result<()> {
    let body = message(messages, 2)?;
    if messages[body.len() + 4..] != [14, 0, 0, 0] {
        return Err("the server's hello is not done".to_owned());
    }
    let mut fields = Fields(&body[34..]);
    if (fields.short()?, fields.take(3)?) != (&[][..], &[0, 1, 0][..]) {
        return Err(format!("server hello {body:02x?}"));
    }
    let found = extensions(fields)?;
    let alpn = match found[..] {
        [] => None,
        [(16, value)] => Some(Fields(Fields(value).long()?).short()?.to_vec()),
        _ => return Err(format!("extensions {found:02x?}")),
    };
    if alpn == client.alpn { Ok(()) } else { Err(format!("{alpn:02x?} was not offered")) }
}

/// The body of the first handshake message; at least the version and the random.
pub(super) fn message(messages: &[u8], kind: u8) -> Result<&[u8]> {
    let [found, 0, high, low, rest @ ..] = messages else { return Err("no handshake message".to_owned()) };
    let length = usize::from(u16::from_be_bytes([*high, *low]));
    let body = rest.get(..length).filter(|body| *found == kind && body.len() >= 34 && body[..2] == [3, 3]);
    body.ok_or_else(|| format!("not a handshake message of type {kind}: {messages:02x?}"))
}

pub(super) fn extensions(mut fields: Fields<'_>) -> Result<Vec<(u8, &[u8])>> {
    let mut found = Vec::new();
    if fields.0.is_empty() {
        return Ok(found);
    }
    let mut rest = Fields(fields.long()?);
    while !rest.0.is_empty() {
        found.push((rest.take(2)?[1], rest.long()?));
    }
    if fields.0.is_empty() { Ok(found) } else { Err("bytes after the extensions".to_owned()) }
}

/// Reads the change of cipher at `at` and the records of application data after it, to the end of the stream.
/// A frame that says it is filled must hold one record of as many zeros as it tells.
fn application_data(stream: &mut Stream, mut at: usize) -> Result<()> {
    let mut plain = Stream { finished: stream.finished, ..Stream::default() };
    let mut fills = stream.fills.iter().peekable();
    if at < stream.bytes.len() {
        if !stream.bytes[at..].starts_with(CHANGE) {
            return Err(format!("no change of cipher at {at}"));
        }
        at += CHANGE.len();
    }
    let closes = stream.finished && stream.bytes[at..].ends_with(CLOSE);
    if stream.finished != closes {
        return Err("ends without an alert, or has one and does not end".to_owned());
    }
    let end = stream.bytes.len() - if closes { CLOSE.len() } else { 0 };
    while at < end {
        let (body, next) = record(&stream.bytes, at, 23)?;
        let text = body.strip_suffix(&[0; 16]).ok_or_else(|| format!("record at {at}: no MAC of zeros"))?;
        if text.is_empty() || text.len() > 16_384 {
            return Err(format!("record at {at} of {} bytes", text.len()));
        }
        match fills.next_if(|fill| fill.0 == at) {
            Some((_, told)) if *told != text.len() as u64 || text.iter().any(|&b| b != 0) => {
                return Err(format!("record at {at} is not {told} zeros"));
            }
            Some(_) => plain.lose(text.len() as u64),
            None => plain.bytes.extend_from_slice(text),
        }
        at = next;
    }
    if let Some(fill) = fills.next() {
        return Err(format!("filled at {}, where no record begins", fill.0));
    }
    *stream = plain;
    Ok(())
}

pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    pub(super) fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        let (field, rest) = self.0.split_at_checked(length).ok_or("field longer than its message")?;
        self.0 = rest;
        Ok(field)
    }

    /// With a length of one byte.
    pub(super) fn short(&mut self) -> Result<&'a [u8]> {
        let length = self.take(1)?[0];
        self.take(length.into())
    }

    /// With a length of two bytes.
    pub(super) fn long(&mut self) -> Result<&'a [u8]> {
        let length = self.take(2)?;
        self.take(u16::from_be_bytes([length[0], length[1]]).into())
    }
}

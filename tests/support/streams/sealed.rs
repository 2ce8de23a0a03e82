//! Opens TLS 1.3 sessions with the secrets in the capture (RFC 8446, sections 4, 5 and 7). Everything is
//! checked: each record must be the next of its direction under its key, so that with secrets that are all
//! different no key meets a nonce twice.

use std::collections::{HashMap, HashSet};

use ring::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, KeyType, Prk};

use super::super::pcapng::{Capture, Result};
use super::envelope::{Fields, Hello, extensions, message, record};
use super::{Stream, envelope};

/// By label and client random, in hexadecimal digits.
pub type Secrets = HashMap<(String, String), Vec<u8>>;

const FINISHED: &[u8] = &[20, 0, 0, 32];

/// All secrets of the capture; no two may be the same, and each must be before the packet that it opens.
pub fn secrets(capture: &Capture) -> Result<Secrets> {
    let (mut found, mut seen) = (Secrets::new(), HashSet::new());
    for (before, lines) in &capture.secrets {
        for line in lines.strip_suffix('\n').ok_or("a key log without an end of line")?.split('\n') {
            let words: Vec<&str> = line.split(' ').collect();
            let [label, random, secret] = words[..] else { return Err(format!("key log line {line}")) };
            // Those of captured sessions can have a longer hash.
            let secret = bytes(secret).filter(|secret| [32, 48].contains(&secret.len()));
            let secret = secret.ok_or("no secret of 32 or 48 bytes")?;
            let binary = bytes(random).filter(|random| random.len() == 32).ok_or("no random of 32 bytes")?;
            // Record header, message header, version; then the random.
            if capture.packets[..*before].iter().any(|packet| packet.payload.get(11..43) == Some(&binary)) {
                return Err(format!("a secret after its hello: {line}"));
            }
            // Sessions of TLS 1.2 that were resumed have the same.
            if label != "CLIENT_RANDOM" && !seen.insert(secret.clone()) {
                return Err(format!("a secret that is used twice: {line}"));
            }
            found.insert((label.to_owned(), random.to_owned()), secret);
        }
    }
    Ok(found)
}

fn bytes(hex: &str) -> Option<Vec<u8>> {
    let digit = |digit: u8| char::from(digit).to_digit(16);
    let pairs = hex.as_bytes().chunks(2);
    pairs.map(|pair| Some((digit(pair[0])? * 16 + digit(*pair.get(1)?)?) as u8)).collect()
}

/// Replaces the streams of a conversation by the plaintext in them, if it begins with a sealed handshake.
pub fn unwrap(client: &mut Stream, server: &mut Stream, secrets: &Secrets) -> Result<Option<Hello>> {
    let asked = client.bytes.starts_with(envelope::SSL_REQUEST) && server.bytes.starts_with(b"S\x16");
    let (ask, grant) = if asked { (envelope::SSL_REQUEST.len(), 1) } else { (0, 0) };
    // Record header, message header, version; random, no session; then the length and the cipher suites.
    if client.bytes.get(ask + 43..ask + 48) != Some(&[0, 0, 2, 0x13, 1]) {
        return Ok(None);
    }
    if !client.gaps.is_empty() || !server.gaps.is_empty() {
        return Err("a gap in the envelope".to_owned());
    }
    let mut hello = Hello { asked, ..Hello::default() };
    let (messages, client_next) = record(&client.bytes, ask, 22)?;
    let random: String = messages[6..38].iter().map(|byte| format!("{byte:02x}")).collect();
    client_hello(messages, &mut hello)?;
    let of = |label: &str| {
        let secret = secrets.get(&(label.to_owned(), random.clone()));
        secret.map(|secret| Opener::new(secret)).ok_or_else(|| format!("no {label} for {random}"))
    };
    // A capture may end (`-c`) before the server has answered, or the client has finished.
    if server.bytes.len() > grant {
        let (messages, next) = record(&server.bytes, grant, 22)?;
        server_hello(messages)?;
        let (kind, text, next) = of("SERVER_HANDSHAKE_TRAFFIC_SECRET")?.open(&server.bytes, next)?;
        encrypted_extensions(kind, &text, &hello)?;
        application_data(server, next, of("SERVER_TRAFFIC_SECRET_0")?)?;
    }
    if client_next < client.bytes.len() {
        let (kind, text, next) = of("CLIENT_HANDSHAKE_TRAFFIC_SECRET")?.open(&client.bytes, client_next)?;
        if kind != 22 || !text.starts_with(FINISHED) || text.len() != 36 {
            return Err(format!("not a Finished: {text:02x?}"));
        }
        application_data(client, next, of("CLIENT_TRAFFIC_SECRET_0")?)?;
    } else {
        client.bytes.clear();
    }
    Ok(Some(hello))
}

fn client_hello(messages: &[u8], hello: &mut Hello) -> Result<()> {
    let body = message(messages, 1)?;
    let mut fields = Fields(&body[34..]);
    let fixed = (fields.short()?, fields.long()?, fields.short()?);
    if fixed != (&[][..], &[0x13, 1][..], &[0][..]) || messages.len() != body.len() + 4 {
        return Err(format!("client hello {fixed:02x?}"));
    }
    let mut kinds = Vec::new();
    for (kind, value) in extensions(fields)? {
        kinds.push(kind);
        let mut value = Fields(value);
        match kind {
            0 => {
                let mut list = Fields(value.long()?);
                list.take(1)?;
                hello.server_name = Some(list.long()?.to_vec());
            }
            16 => hello.alpn = Some(Fields(value.long()?).short()?.to_vec()),
            10 | 13 if value.long()?.len() == 2 => {}
            43 if value.short()? == [3, 4] => {}
            51 if key_share(Fields(value.long()?))? => {}
            _ => return Err(format!("extension {kind}")),
        }
        if !value.0.is_empty() {
            return Err(format!("extension {kind} has more"));
        }
    }
    let needed = [10, 13, 43, 51];
    if needed.iter().all(|kind| kinds.contains(kind)) { Ok(()) } else { Err(format!("extensions {kinds:?}")) }
}

fn server_hello(messages: &[u8]) -> Result<()> {
    let body = message(messages, 2)?;
    let mut fields = Fields(&body[34..]);
    if (fields.short()?, fields.take(3)?) != (&[][..], &[0x13, 1, 0][..]) || messages.len() != body.len() + 4
    {
        return Err(format!("server hello {body:02x?}"));
    }
    match extensions(fields)?[..] {
        [(43, [3, 4]), (51, share)] if key_share(Fields(share))? => Ok(()),
        ref found => Err(format!("extensions {found:02x?}")),
    }
}

/// Whether this is one share of X25519 and nothing else.
fn key_share(mut share: Fields<'_>) -> Result<bool> {
    Ok(share.take(2)? == [0, 29] && share.long()?.len() == 32 && share.0.is_empty())
}

fn encrypted_extensions(kind: u8, messages: &[u8], client: &Hello) -> Result<()> {
    let [8, 0, high, low, rest @ ..] = messages else {
        return Err(format!("no extensions: {messages:02x?}"));
    };
    let length = usize::from(u16::from_be_bytes([*high, *low]));
    let (body, finished) = rest.split_at_checked(length).ok_or("cut short")?;
    if kind != 22 || !finished.starts_with(FINISHED) || finished.len() != 36 {
        return Err(format!("not a Finished: {finished:02x?}"));
    }
    let alpn = match extensions(Fields(body))?[..] {
        [] => None,
        [(16, value)] => Some(Fields(Fields(value).long()?).short()?.to_vec()),
        ref found => return Err(format!("extensions {found:02x?}")),
    };
    if alpn == client.alpn { Ok(()) } else { Err(format!("{alpn:02x?} was not offered")) }
}

/// Opens the records from `at` to the end of the stream. A frame that says it is filled must hold one record
/// of as many zeros as it tells.
fn application_data(stream: &mut Stream, mut at: usize, mut opener: Opener) -> Result<()> {
    let mut plain = Stream { finished: stream.finished, ..Stream::default() };
    let mut fills = stream.fills.iter().peekable();
    let mut closed = false;
    while at < stream.bytes.len() {
        let (kind, text, next) = opener.open(&stream.bytes, at)?;
        if closed {
            return Err(format!("record at {at} after the alert"));
        }
        match (kind, fills.next_if(|fill| fill.0 == at)) {
            (21, None) if text == [1, 0] => closed = true,
            (23, _) if text.is_empty() || text.len() > 16_384 => {
                return Err(format!("record at {at} of {} bytes", text.len()));
            }
            (23, None) => plain.bytes.extend_from_slice(&text),
            (23, Some((_, told))) if *told == text.len() as u64 && text.iter().all(|&b| b == 0) => {
                plain.lose(*told);
            }
            (kind, _) => return Err(format!("record at {at} of type {kind}: {text:02x?}")),
        }
        at = next;
    }
    if closed != stream.finished {
        return Err("ends without an alert, or has one and does not end".to_owned());
    }
    if let Some(fill) = fills.next() {
        return Err(format!("filled at {}, where no record begins", fill.0));
    }
    *stream = plain;
    Ok(())
}

/// A key, and how many records were opened with it.
struct Opener {
    key: LessSafeKey,
    iv: Vec<u8>,
    sequence: u64,
}

impl Opener {
    fn new(secret: &[u8]) -> Self {
        let key = UnboundKey::new(&AES_128_GCM, &expand(secret, b"\0\x10\x09tls13 key\0", 16)).unwrap();
        Self { key: LessSafeKey::new(key), iv: expand(secret, b"\0\x0c\x08tls13 iv\0", 12), sequence: 0 }
    }

    /// Type and text of the record at `at`, and where the next one is.
    fn open(&mut self, bytes: &[u8], at: usize) -> Result<(u8, Vec<u8>, usize)> {
        let (body, next) = record(bytes, at, 23)?;
        let mut nonce: [u8; 12] = self.iv[..].try_into().unwrap();
        nonce[4..].iter_mut().zip(self.sequence.to_be_bytes()).for_each(|(byte, number)| *byte ^= number);
        let mut body = body.to_vec();
        let nonce = Nonce::assume_unique_for_key(nonce);
        let opened = self.key.open_in_place(nonce, Aad::from(&bytes[at..at + 5]), &mut body);
        let text = opened.map_err(|_| format!("record {} at {at} does not open", self.sequence))?;
        let (kind, text) = text.split_last().ok_or("an empty record")?;
        self.sequence += 1;
        Ok((*kind, text.to_vec(), next))
    }
}

fn expand(secret: &[u8], label: &[u8], length: usize) -> Vec<u8> {
    struct Length(usize);
    impl KeyType for Length {
        fn len(&self) -> usize {
            self.0
        }
    }
    let mut out = vec![0; length];
    Prk::new_less_safe(HKDF_SHA256, secret).expand(&[label], Length(length)).unwrap().fill(&mut out).unwrap();
    out
}

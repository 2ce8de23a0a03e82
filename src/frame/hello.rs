//! The handshake of a TLS 1.2 session that encrypts nothing (RFC 5246, sections 6.2.1 and 7.4).
//!
//! With `TLS_RSA_WITH_NULL_MD5` a record holds the plaintext and a MAC. Wireshark checks no MAC of a session
//! whose keys it does not have, and shows the plaintext.
//!
//! And the messages of a TLS 1.3 handshake (RFC 8446, section 4), as far as a reader with the secrets needs
//! them: without a certificate, because there is none.

/// The client random, which a reader finds its keys by: there are none, and it says so.
pub(super) const CLIENT_RANDOM: [u8; 32] = *b"tlsdump: synthetic TLS, no key!!";
/// The server random.
const SERVER_RANDOM: [u8; 32] = *b"tlsdump: synthetic server hello!";

/// `TLS_RSA_WITH_NULL_MD5`.
const CIPHER_SUITE: [u8; 2] = [0x00, 0x01];
/// `TLS_AES_128_GCM_SHA256` (RFC 8446, section B.4).
const CIPHER_SUITE_1_3: [u8; 2] = [0x13, 0x01];
const TLS_1_2: [u8; 2] = [3, 3];
const TLS_1_3: [u8; 2] = [3, 4];
/// A group of keys, and a way to sign (RFC 8446, sections 4.2.7 and 4.2.3).
const X25519: [u8; 2] = [0, 0x1d];
const ECDSA_SECP256R1_SHA256: [u8; 2] = [4, 3];

const CHANGE_CIPHER_SPEC: u8 = 20;
pub(super) const ALERT: u8 = 21;
pub(super) const HANDSHAKE: u8 = 22;
pub(super) const APPLICATION_DATA: u8 = 23;

const CLIENT_HELLO: u8 = 1;
const SERVER_HELLO: u8 = 2;
const ENCRYPTED_EXTENSIONS: u8 = 8;
const SERVER_HELLO_DONE: u8 = 14;
const FINISHED: u8 = 20;
const KEY_UPDATE: u8 = 24;

/// Extensions: `server_name` (RFC 6066, section 3), `application_layer_protocol_negotiation` (RFC 7301) and
/// those of TLS 1.3 (RFC 8446, section 4.2).
const SERVER_NAME: [u8; 2] = [0, 0];
const SUPPORTED_GROUPS: [u8; 2] = [0, 10];
const SIGNATURE_ALGORITHMS: [u8; 2] = [0, 13];
const ALPN: [u8; 2] = [0, 16];
const SUPPORTED_VERSIONS: [u8; 2] = [0, 43];
const KEY_SHARE: [u8; 2] = [0, 51];

/// Bytes of a record's header.
pub(super) const RECORD_HEADER_BYTES: usize = 5;
/// What stands for the MAC of a record.
pub(super) const MAC: [u8; 16] = [0; 16];
/// Most plaintext in a record (RFC 5246, section 6.2.1).
pub(super) const RECORD_MAX: usize = 1 << 14;
/// Most bytes that the envelope adds to the plaintext of a record.
pub(super) const RECORD_ADDS: usize = RECORD_HEADER_BYTES + MAC.len();

/// A record that changes to the cipher that was agreed on.
pub(super) const CHANGE: [u8; 6] = [CHANGE_CIPHER_SPEC, 3, 3, 0, 1, 1];

/// A record with the alert that a side sends no more (RFC 5246, section 7.2.1), as the cipher has it.
pub(super) const CLOSE: [u8; 23] = [ALERT, 3, 3, 0, 18, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// The header of a record of application data: of `plaintext` bytes, at most [`RECORD_MAX`].
pub(super) fn record_header(plaintext: usize) -> [u8; RECORD_HEADER_BYTES] {
    let [high, low] = ((plaintext + MAC.len()) as u16).to_be_bytes();
    [APPLICATION_DATA, 3, 3, high, low]
}

/// What the client sends first. An empty name is left out; at most 255 bytes of each are taken.
pub(super) fn client(server_name: &[u8], alpn: &[u8]) -> Vec<u8> {
    record(|out| {
        message(out, CLIENT_HELLO, |out| {
            out.extend_from_slice(&TLS_1_2);
            out.extend_from_slice(&CLIENT_RANDOM);
            out.push(0); // no session to resume
            long(out, |out| out.extend_from_slice(&CIPHER_SUITE));
            out.extend_from_slice(&[1, 0]); // no compression
            extensions(out, server_name, alpn);
        });
    })
}

/// What the server answers, up to its change of the cipher.
pub(super) fn server(alpn: &[u8]) -> Vec<u8> {
    let mut flight = record(|out| {
        message(out, SERVER_HELLO, |out| {
            out.extend_from_slice(&TLS_1_2);
            out.extend_from_slice(&SERVER_RANDOM);
            out.push(0); // no session id
            out.extend_from_slice(&CIPHER_SUITE);
            out.push(0); // no compression
            extensions(out, &[], alpn);
        });
        message(out, SERVER_HELLO_DONE, |_| {});
    });
    flight.extend_from_slice(&CHANGE);
    flight
}

/// The body of an alert that a side sends no more: a warning, `close_notify`.
pub(super) const CLOSE_NOTIFY: [u8; 2] = [1, 0];
/// The last message of a handshake in TLS 1.3. What it proves stands on certificates and shared keys, which
/// there are none of: zeros.
pub(super) const FINISHED_1_3: [u8; 36] = {
    let mut message = [0; 36];
    message[0] = FINISHED;
    message[3] = 32;
    message
};
/// The message that a side changes to its next key with; the other need not (RFC 8446, section 4.6.3).
pub(super) const KEY_UPDATE_1_3: [u8; 5] = [KEY_UPDATE, 0, 0, 1, 0];

/// What the client sends first in TLS 1.3. Names as in [`client`].
pub(super) fn client_1_3(random: &[u8; 32], share: &[u8; 32], server_name: &[u8], alpn: &[u8]) -> Vec<u8> {
    record(|out| {
        message(out, CLIENT_HELLO, |out| {
            out.extend_from_slice(&TLS_1_2);
            out.extend_from_slice(random);
            out.push(0); // no session to resume
            long(out, |out| out.extend_from_slice(&CIPHER_SUITE_1_3));
            out.extend_from_slice(&[1, 0]); // no compression
            long(out, |out| {
                names(out, server_name, alpn);
                extension(out, SUPPORTED_GROUPS, |out| long(out, |out| out.extend_from_slice(&X25519)));
                extension(out, SIGNATURE_ALGORITHMS, |out| {
                    long(out, |out| out.extend_from_slice(&ECDSA_SECP256R1_SHA256));
                });
                extension(out, SUPPORTED_VERSIONS, |out| {
                    out.push(TLS_1_3.len() as u8);
                    out.extend_from_slice(&TLS_1_3);
                });
                extension(out, KEY_SHARE, |out| long(out, |out| key_share(out, share)));
            });
        });
    })
}

/// What the server answers in clear in TLS 1.3.
pub(super) fn server_1_3(random: &[u8; 32], share: &[u8; 32]) -> Vec<u8> {
    record(|out| {
        message(out, SERVER_HELLO, |out| {
            out.extend_from_slice(&TLS_1_2);
            out.extend_from_slice(random);
            out.push(0); // no session id
            out.extend_from_slice(&CIPHER_SUITE_1_3);
            out.push(0); // no compression
            long(out, |out| {
                extension(out, SUPPORTED_VERSIONS, |out| out.extend_from_slice(&TLS_1_3));
                extension(out, KEY_SHARE, |out| key_share(out, share));
            });
        });
    })
}

/// What the server answers encrypted in TLS 1.3: messages, without a record around them.
pub(super) fn server_finish_1_3(alpn: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    message(&mut out, ENCRYPTED_EXTENSIONS, |out| long(out, |out| names(out, &[], alpn)));
    out.extend_from_slice(&FINISHED_1_3);
    out
}

fn key_share(out: &mut Vec<u8>, share: &[u8; 32]) {
    out.extend_from_slice(&X25519);
    long(out, |out| out.extend_from_slice(share));
}

/// The extensions of TLS 1.2, which are left out where there are none.
fn extensions(out: &mut Vec<u8>, server_name: &[u8], alpn: &[u8]) {
    if !server_name.is_empty() || !alpn.is_empty() {
        long(out, |out| names(out, server_name, alpn));
    }
}

/// The extensions with the names that are not empty.
fn names(out: &mut Vec<u8>, server_name: &[u8], alpn: &[u8]) {
    let [server_name, alpn] = [server_name, alpn].map(|name| &name[..name.len().min(u8::MAX.into())]);
    if !server_name.is_empty() {
        extension(out, SERVER_NAME, |out| {
            long(out, |out| {
                out.push(0); // a host name
                long(out, |out| out.extend_from_slice(server_name));
            });
        });
    }
    if !alpn.is_empty() {
        extension(out, ALPN, |out| {
            long(out, |out| {
                out.push(alpn.len() as u8); // at most 255, as cut above
                out.extend_from_slice(alpn);
            });
        });
    }
}

fn extension(out: &mut Vec<u8>, kind: [u8; 2], body: impl FnOnce(&mut Vec<u8>)) {
    out.extend_from_slice(&kind);
    long(out, body);
}

/// A record of handshake messages.
fn record(body: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = vec![HANDSHAKE];
    out.extend_from_slice(&TLS_1_2);
    long(&mut out, body);
    out
}

/// A handshake message: its type, and its length in three bytes.
fn message(out: &mut Vec<u8>, kind: u8, body: impl FnOnce(&mut Vec<u8>)) {
    out.extend_from_slice(&[kind, 0]);
    long(out, body);
}

/// A length in two bytes and so many bytes. Names are bounded, so that no length here reaches 1000.
fn long(out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
    let begin = out.len() + 2;
    out.extend_from_slice(&[0; 2]);
    body(out);
    let length = (out.len() - begin) as u16;
    out[begin - 2..begin].copy_from_slice(&length.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hello_is_what_the_standard_says() {
        #[rustfmt::skip]
        let expected = [
            &[22, 3, 3, 0, 66][..], &[1, 0, 0, 62], &[3, 3], b"tlsdump: synthetic TLS, no key!!", &[0],
            &[0, 2, 0, 1], &[1, 0], &[0, 19],
            &[0, 0, 0, 6, 0, 4, 0, 0, 1, b'a'], &[0, 16, 0, 5, 0, 3, 2, b'h', b'2'],
        ];
        assert_eq!(client(b"a", b"h2"), expected.concat());
        #[rustfmt::skip]
        let expected = [
            &[22, 3, 3, 0, 46][..], &[2, 0, 0, 38], &[3, 3], b"tlsdump: synthetic server hello!", &[0],
            &[0, 1], &[0], &[14, 0, 0, 0], &[20, 3, 3, 0, 1, 1],
        ];
        assert_eq!(server(b""), expected.concat());
    }

    #[test]
    fn a_hello_of_1_3_is_what_the_standard_says() {
        #[rustfmt::skip]
        let expected = [
            &[22, 3, 3, 0, 122][..], &[1, 0, 0, 118], &[3, 3], &[7; 32], &[0], &[0, 2, 0x13, 1], &[1, 0],
            &[0, 75], &[0, 0, 0, 6, 0, 4, 0, 0, 1, b'a'], &[0, 10, 0, 4, 0, 2, 0, 0x1d],
            &[0, 13, 0, 4, 0, 2, 4, 3], &[0, 43, 0, 3, 2, 3, 4],
            &[0, 51, 0, 38, 0, 36, 0, 0x1d, 0, 32], &[8; 32],
        ];
        assert_eq!(client_1_3(&[7; 32], &[8; 32], b"a", b""), expected.concat());
        #[rustfmt::skip]
        let expected = [
            &[22, 3, 3, 0, 90][..], &[2, 0, 0, 86], &[3, 3], &[7; 32], &[0], &[0x13, 1], &[0], &[0, 46],
            &[0, 43, 0, 2, 3, 4], &[0, 51, 0, 36, 0, 0x1d, 0, 32], &[8; 32],
        ];
        assert_eq!(server_1_3(&[7; 32], &[8; 32]), expected.concat());
        let expected =
            [&[8, 0, 0, 11, 0, 9][..], &[0, 16, 0, 5, 0, 3, 2, b'h', b'2'], &[20, 0, 0, 32], &[0; 32]];
        assert_eq!(server_finish_1_3(b"h2"), expected.concat());
    }

    #[test]
    fn a_record_of_every_length_has_a_header() {
        assert_eq!(record_header(1), [23, 3, 3, 0, 17]);
        assert_eq!(record_header(RECORD_MAX), [23, 3, 3, 0x40, 0x10]);
    }
}

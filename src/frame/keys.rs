//! Keys of sealed sessions (RFC 8446, section 7), all out of one seed, and records under them (section 5).
//!
//! A session is named by its flow and by a number that an encoder gives only once. What belongs to it is
//! derived anew from the seed whenever it is needed, so that a flow has no secret to keep.

use std::fmt;

use ring::aead::{AES_128_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, KeyType, Prk, Salt};

use crate::event::SecretKind;

use super::{Seed, keylog};

/// Bytes of a random, of a share of a key and of a secret.
pub(super) const RANDOM_BYTES: usize = 32;
/// Bytes of a tag of AES-GCM.
pub(super) const TAG_BYTES: usize = 16;
/// Bytes of a key of AES-128.
const KEY_BYTES: usize = 16;
/// Records that a key is used for. Of full records, 2^24.5 are as many as are safe (RFC 8446, section 5.5).
pub(super) const RECORDS_PER_KEY: u64 = 1 << 24;
/// Most keys that are kept ready (600 bytes each); others are derived again, which takes a microsecond.
const READY_MAX: usize = 512;

/// Who sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Client,
    Server,
}

/// What is derived for a session, each by its own label.
#[derive(Clone, Copy, Debug)]
pub(super) enum Part {
    Random(Side),
    Share(Side),
    Handshake(Side),
    Traffic(Side),
}

impl Part {
    fn label(self) -> &'static [u8] {
        match self {
            Self::Random(Side::Client) => b"client random",
            Self::Random(Side::Server) => b"server random",
            Self::Share(Side::Client) => b"client key share",
            Self::Share(Side::Server) => b"server key share",
            Self::Handshake(Side::Client) => b"client handshake traffic",
            Self::Handshake(Side::Server) => b"server handshake traffic",
            Self::Traffic(Side::Client) => b"client application traffic",
            Self::Traffic(Side::Server) => b"server application traffic",
        }
    }
}

/// The secrets of a session that a reader needs.
const LOGGED: [(SecretKind, Part); 4] = [
    (SecretKind::ClientHandshake, Part::Handshake(Side::Client)),
    (SecretKind::ServerHandshake, Part::Handshake(Side::Server)),
    (SecretKind::ClientTraffic, Part::Traffic(Side::Client)),
    (SecretKind::ServerTraffic, Part::Traffic(Side::Server)),
];

/// The name of a session: its flow and its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Name {
    pub(super) flow: u64,
    pub(super) number: u64,
}

/// Of which key a side has how many records behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) name: Name,
    pub(super) side: Side,
    /// How often the key was renewed.
    pub(super) epoch: u64,
}

/// Derives everything from the seed.
///
/// All that ring could refuse is a wrong length, and all lengths are constants. Where it is written that
/// something may not be had, nothing is drawn that could be read.
pub(super) struct Keys {
    root: Prk,
    ready: Vec<Option<(Place, Key)>>,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").finish_non_exhaustive()
    }
}

impl Keys {
    pub(super) fn new(seed: &Seed) -> Self {
        let root = Salt::new(HKDF_SHA256, b"tlsdump sealed frames").extract(seed);
        Self { root, ready: std::iter::repeat_with(|| None).take(READY_MAX).collect() }
    }

    pub(super) fn part(&self, name: Name, part: Part) -> Option<[u8; RANDOM_BYTES]> {
        expand(&self.root, &[part.label(), &name.flow.to_be_bytes(), &name.number.to_be_bytes()])
    }

    /// The lines of a key log that a reader of the session needs, each with its end of line.
    pub(super) fn log(&self, name: Name) -> Option<String> {
        let random = self.part(name, Part::Random(Side::Client))?;
        let mut lines = String::new();
        for (what, part) in LOGGED {
            keylog::push_line(&mut lines, what, &random, &self.part(name, part)?);
        }
        Some(lines)
    }

    /// The key of the records of the handshake.
    pub(super) fn handshake(&self, name: Name, side: Side) -> Option<Key> {
        Key::new(&self.part(name, Part::Handshake(side))?)
    }

    /// The key of application data at `place`.
    pub(super) fn traffic(&mut self, place: Place) -> Option<&Key> {
        // The remainder is below READY_MAX.
        let slot = (place.name.number * 2 + u64::from(place.side == Side::Server)) % READY_MAX as u64;
        let is_ready = self.ready.get(slot as usize)?.as_ref().is_some_and(|(ready, _)| *ready == place);
        if !is_ready {
            let mut secret = self.part(place.name, Part::Traffic(place.side))?;
            for _ in 0..place.epoch {
                secret = expand_label(&secret, b"traffic upd")?;
            }
            let key = Key::new(&secret)?;
            *self.ready.get_mut(slot as usize)? = Some((place, key));
        }
        self.ready.get(slot as usize)?.as_ref().map(|(_, key)| key)
    }
}

/// A key and what its nonces are made of (RFC 8446, sections 5.3 and 7.3).
pub(super) struct Key {
    aead: LessSafeKey,
    iv: [u8; NONCE_LEN],
}

impl Key {
    fn new(traffic_secret: &[u8; RANDOM_BYTES]) -> Option<Self> {
        let key: [u8; KEY_BYTES] = expand_label(traffic_secret, b"key")?;
        let aead = LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &key).ok()?);
        Some(Self { aead, iv: expand_label(traffic_secret, b"iv")? })
    }

    /// Encrypts `inner` in place and gives its tag. `sequence` counts the records under this key: each number
    /// is used once.
    pub(super) fn seal(&self, sequence: u64, header: &[u8], inner: &mut [u8]) -> Option<[u8; TAG_BYTES]> {
        let mut nonce = self.iv;
        nonce[NONCE_LEN - 8..].iter_mut().zip(sequence.to_be_bytes()).for_each(|(iv, byte)| *iv ^= byte);
        let nonce = Nonce::assume_unique_for_key(nonce);
        let tag = self.aead.seal_in_place_separate_tag(nonce, Aad::from(header), inner).ok()?;
        tag.as_ref().try_into().ok()
    }
}

/// HKDF-Expand-Label without a context (RFC 8446, section 7.1).
fn expand_label<const N: usize>(secret: &[u8; RANDOM_BYTES], label: &[u8]) -> Option<[u8; N]> {
    // Labels and lengths are constants of a few bytes.
    let (length, label_length) = ((N as u16).to_be_bytes(), [(b"tls13 ".len() + label.len()) as u8]);
    let secret = Prk::new_less_safe(HKDF_SHA256, secret);
    expand(&secret, &[&length, &label_length, b"tls13 ", label, &[0]])
}

/// HKDF-Expand (RFC 5869, section 2.3).
fn expand<const N: usize>(secret: &Prk, info: &[&[u8]]) -> Option<[u8; N]> {
    struct Length(usize);
    impl KeyType for Length {
        fn len(&self) -> usize {
            self.0
        }
    }
    let mut out = [0; N];
    secret.expand(info, Length(N)).ok()?.fill(&mut out).ok()?;
    Some(out)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn bytes<const N: usize>(hex: &str) -> [u8; N] {
        let digits: Vec<u8> = hex.chars().filter_map(|c| c.to_digit(16)).map(|d| d as u8).collect();
        let bytes: Vec<u8> = digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect();
        bytes.try_into().unwrap()
    }

    const CLIENT_TRAFFIC: &str = "9e40646ce79a7f9dc05af8889bce6552875afa0b06df0087f792ebb7c17504a5";

    /// RFC 8448, section 3: "{server} derive write traffic keys for handshake data" and "{client} derive
    /// write traffic keys for application data".
    #[test]
    fn keys_of_a_secret_are_those_of_the_examples() {
        let handshake = bytes("b67b7d690cc16c4e75e54213cb2d37b4e9c912bcded9105d42befd59d391ad38");
        let examples = [
            (handshake, "3fce516009c21727d0f2e4e86ee403bc", "5d313eb2671276ee13000b30"),
            (bytes(CLIENT_TRAFFIC), "17422dda596ed5d9acd890e3c63f5051", "5b78923dee08579033e523d9"),
        ];
        for (secret, key, iv) in examples {
            assert_eq!(expand_label(&secret, b"key"), Some(bytes::<16>(key)));
            assert_eq!(expand_label(&secret, b"iv"), Some(bytes::<12>(iv)));
        }
    }

    /// RFC 8448, section 3: "{client} send application_data record".
    #[test]
    fn a_record_is_that_of_the_example() {
        let mut inner: Vec<u8> = (0..50).chain([23]).collect();
        let key = Key::new(&bytes(CLIENT_TRAFFIC)).unwrap();
        let tag = key.seal(0, &[23, 3, 3, 0, 67], &mut inner).unwrap();
        let expected: [u8; 67] = bytes(
            "a23f7054b62c94d0affafe8228ba55cbefacea42f914aa66bcab3f2b9819a8a5b46b395bd54a9a20441e2b62974e1f5a\
             6292a2977014bd1e3deae63aeebb21694915e4",
        );
        assert_eq!([&inner[..], &tag].concat(), expected);
    }

    #[test]
    fn nothing_is_derived_twice() {
        let mut keys = Keys::new(&[1; 32]);
        let sides = [Side::Client, Side::Server];
        let parts = sides.map(|s| [Part::Random(s), Part::Share(s), Part::Handshake(s), Part::Traffic(s)]);
        let names = [(1, 1), (1, 2), (2, 1), (2, 2)].map(|(flow, number)| Name { flow, number });
        let all = names.iter().flat_map(|name| parts.as_flattened().iter().map(|part| (*name, *part)));
        let found: std::collections::HashSet<_> =
            all.map(|(name, part)| keys.part(name, part).unwrap()).collect();
        assert_eq!(found.len(), 4 * 8);
        assert_ne!(Keys::new(&[2; 32]).log(names[0]), keys.log(names[0]));

        // Two names that share a slot, in turns, and the keys that they are renewed with.
        let mut tags = std::collections::HashSet::new();
        for number in [3, 3 + READY_MAX as u64 / 2, 3] {
            for (side, epoch) in [(Side::Client, 0), (Side::Client, 2), (Side::Server, 0)] {
                let place = Place { name: Name { flow: 1, number }, side, epoch };
                tags.insert(keys.traffic(place).unwrap().seal(0, &[], &mut [0; 9]).unwrap());
            }
        }
        assert_eq!(tags.len(), 2 * 3);
    }
}

//! rustls within Rust programs that have their symbols: where the functions are through which all plaintext
//! goes.
//!
//! What programs call is generic or small, and so compiled into them in as many ways as there are programs.
//! The functions here are neither: most are called by their address only, which no compiler does without, and
//! those that aren't are called from another crate. They were found by taking programs apart.

use std::fmt;

use super::elf::{Elf, ElfError, Function};
use super::signs;
use super::table::Hook;

/// A function within rustls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Site {
    /// `fn send_some_plaintext(&mut CommonState, &[u8]) -> usize`: up to rustls 0.22.
    WriteSlice,
    /// `fn buffer_plaintext(&mut CommonState, OutboundChunks, &mut ChunkVecBuffer) -> usize`: since 0.23.
    WriteChunks,
    /// `fn ExpectTraffic::handle(Box<Self>, &mut Context, Message) -> Result<Box<dyn State>>` of a client.
    ReadClient,
    /// The same of a server.
    ReadServer,
    /// `fn MessageEncrypter::encrypt(&mut self, OutboundPlainMessage, u64) -> Result<OutboundOpaqueMessage>`.
    Encrypt,
    /// `fn ExpectFinished::handle(Box<Self>, &mut Context, Message) -> Result<Box<dyn State>>` of a client.
    FinishClient,
    /// The same of a server.
    FinishServer,
    /// `fn ExpectTraffic::send_key_update_request(&mut self, &mut CommonState) -> Result<()>`.
    NewKeys,
    /// `fn send_close_notify(&mut CommonState)`.
    Shutdown,
    /// `fn drop_in_place(*mut CommonState)`.
    Close,
}

/// How often a function is in a program.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Copies {
    /// Once; more often means several versions of rustls.
    One,
    /// The compiler makes copies, or there are several such functions.
    Many,
}

/// Tells a function by its name.
struct Rule {
    site: Site,
    /// What is in its name, in that order, and at the end of it.
    parts: &'static [&'static str],
    copies: Copies,
    /// The name that is shown.
    shown: &'static str,
}

const STATE: &str = "rustls::common_state::CommonState";

#[rustfmt::skip]
const RULES: [Rule; 11] = [
    one(Site::WriteChunks, &[STATE, "::buffer_plaintext"], "CommonState::buffer_plaintext"),
    one(Site::WriteSlice, &[STATE, "::send_some_plaintext"], "CommonState::send_some_plaintext"),
    many(Site::NewKeys, &["tls13::ExpectTraffic as ", "::send_key_update_request"],
        "ExpectTraffic::send_key_update_request"),
    one(Site::Shutdown, &[STATE, "::send_close_notify"], "CommonState::send_close_notify"),
    many(Site::Close, &["core::ptr::drop_in_place", "<rustls::common_state::CommonState>"],
        "drop(CommonState)"),
    many(Site::Encrypt, &[" as rustls::crypto::cipher::MessageEncrypter>", "::encrypt"],
        "MessageEncrypter::encrypt"),
    many(Site::Encrypt, &[" as rustls::cipher::MessageEncrypter>", "::encrypt"],
        "MessageEncrypter::encrypt"),
    many(Site::ReadClient, &["<rustls::client::tls1", "::ExpectTraffic as ", "::handle"],
        "client ExpectTraffic::handle"),
    many(Site::ReadServer, &["<rustls::server::tls1", "::ExpectTraffic as ", "::handle"],
        "server ExpectTraffic::handle"),
    many(Site::FinishClient, &["<rustls::client::tls1", "::ExpectFinished as ", "::handle"],
        "client ExpectFinished::handle"),
    many(Site::FinishServer, &["<rustls::server::tls1", "::ExpectFinished as ", "::handle"],
        "server ExpectFinished::handle"),
];

const fn one(site: Site, parts: &'static [&'static str], shown: &'static str) -> Rule {
    Rule { site, parts, copies: Copies::One, shown }
}

const fn many(site: Site, parts: &'static [&'static str], shown: &'static str) -> Rule {
    Rule { site, parts, copies: Copies::Many, shown }
}

/// rustls in a program.
#[derive(Debug)]
pub(super) struct Rustls {
    /// File offsets to be probed.
    pub(super) hooks: Vec<(Hook, u64)>,
    /// The functions that these are.
    pub(super) functions: Vec<&'static str>,
    /// `rustls 0.23.46`, or just `rustls`.
    pub(super) version: String,
}

/// Why rustls in a program can't be probed.
#[derive(Debug)]
pub enum RustlsError {
    /// The file is damaged, or too large.
    Elf(ElfError),
    /// A function has several places.
    Several(&'static str),
    /// A function is not there.
    Lacks(&'static str),
}

impl fmt::Display for RustlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Elf(error) => error.fmt(f),
            Self::Several(function) => write!(
                f,
                "has rustls in it in several versions ({function} is there more than once), which are not \
                 told apart"
            ),
            Self::Lacks(function) => write!(
                f,
                "has rustls in it, but {function} is not a function by itself: built in one piece \
                 (lto = \"fat\") or by a version that is not known"
            ),
        }
    }
}

impl From<ElfError> for RustlsError {
    fn from(error: ElfError) -> Self {
        Self::Elf(error)
    }
}

/// Finds rustls by its symbols.
///
/// # Errors
/// When some of its functions are there, but not those that are needed, or too many.
pub(super) fn recognise(elf: &mut Elf<'_>) -> Result<Option<Rustls>, RustlsError> {
    let functions = elf.rust_functions("rustls", &|name| RULES.iter().position(|rule| rule.fits(name)))?;
    let has = |site| functions.iter().any(|f| rule_of(f).is_some_and(|rule| rule.site == site));
    // Without these it is a program that uses some other part of rustls, such as its certificates.
    let reads = has(Site::ReadClient) || has(Site::ReadServer);
    let writes = has(Site::WriteChunks) || has(Site::WriteSlice);
    if !reads && !writes {
        return Ok(None);
    }
    for rule in RULES.iter().filter(|rule| rule.copies == Copies::One) {
        let places = functions.iter().filter(|f| rule_of(f).is_some_and(|of| of.site == rule.site));
        if places.count() > 1 {
            return Err(RustlsError::Several(rule.shown));
        }
    }
    if has(Site::WriteChunks) && has(Site::WriteSlice) {
        return Err(RustlsError::Several("that which writes"));
    }
    for (is_there, name) in [
        (writes, "CommonState::buffer_plaintext"),
        (reads, "ExpectTraffic::handle"),
        (has(Site::Encrypt), "MessageEncrypter::encrypt"),
    ] {
        if !is_there {
            return Err(RustlsError::Lacks(name));
        }
    }
    let hook = |f: &Function| rule_of(f).map(|rule| ((Hook::Rustls(rule.site), f.offset), rule.shown));
    let (mut hooks, functions): (Vec<_>, _) = functions.iter().filter_map(hook).unzip();
    hooks.sort_unstable();
    hooks.dedup();
    let version = signs::version_of_rustls(elf)?;
    let version = version.map_or_else(|| "rustls".to_owned(), |number| format!("rustls {number}"));
    Ok(Some(Rustls { hooks, functions, version }))
}

fn rule_of(function: &Function) -> Option<&'static Rule> {
    RULES.get(function.name)
}

impl Rule {
    fn fits(&self, name: &str) -> bool {
        let mut rest = name;
        for (index, part) in self.parts.iter().enumerate() {
            let is_last = index + 1 == self.parts.len();
            let at = if is_last { rest.len().checked_sub(part.len()) } else { rest.find(part) };
            let after = at.and_then(|at| rest.get(at..)?.strip_prefix(part));
            let Some(after) = after else { return false };
            rest = after;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_told_by_their_names() {
        for (name, site) in [
            ("rustls::common_state::CommonState::buffer_plaintext", Some(Site::WriteChunks)),
            ("<rustls::common_state::CommonState>::buffer_plaintext", Some(Site::WriteChunks)),
            ("rustls::common_state::CommonState::send_some_plaintext", Some(Site::WriteSlice)),
            ("rustls::common_state::CommonState::buffer_plaintext::{{closure}}", None),
            ("core::ptr::drop_in_place<rustls::common_state::CommonState>", Some(Site::Close)),
            ("core::ptr::drop_in_place::<rustls::common_state::CommonState>", Some(Site::Close)),
            ("core::ptr::drop_in_place<core::option::Option<rustls::common_state::CommonState>>", None),
            (
                "<rustls::crypto::ring::tls13::Tls13MessageEncrypter as \
                 rustls::crypto::cipher::MessageEncrypter>::encrypt",
                Some(Site::Encrypt),
            ),
            (
                "<some::provider::Encrypter as rustls::crypto::cipher::MessageEncrypter>::encrypt",
                Some(Site::Encrypt),
            ),
            (
                "<some::provider::Encrypter as rustls::crypto::cipher::MessageEncrypter>\
                 ::encrypted_payload_len",
                None,
            ),
            (
                "<rustls::client::tls13::ExpectFinished as rustls::common_state::State<\
                 rustls::client::client_conn::ClientConnectionData>>::handle",
                Some(Site::FinishClient),
            ),
            (
                "<rustls::server::tls12::ExpectTraffic as rustls::common_state::State<\
                 rustls::server::server_conn::ServerConnectionData>>::handle",
                Some(Site::ReadServer),
            ),
            ("<rustls::client::tls13::ExpectQuicTraffic as rustls::common_state::State<X>>::handle", None),
            ("", None),
        ] {
            let found = RULES.iter().find(|rule| rule.fits(name)).map(|rule| rule.site);
            assert_eq!(found, site, "{name}");
        }
    }
}

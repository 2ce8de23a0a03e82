//! Whether a file without any known function has TLS within, by its constants: for `tlsdump list`.
//!
//! Every implementation of TLS 1.3 derives its secrets by labels that the protocol lays down, and so has them
//! as they are, though it be stripped of all names.

use memchr::memmem;

use super::elf::{Elf, ElfError};

/// Labels of RFC 8446, section 7.1: both are in every implementation, and hardly in anything else.
const LABELS: [&str; 2] = ["c hs traffic", "s ap traffic"];

/// Texts that tell whose it is. The first that is there counts: rustls can have AWS-LC within, which is made
/// from BoringSSL, which is made from OpenSSL.
const MARKS: [(&str, &str); 8] = [
    ("rustls", "rustls"),
    ("AWS-LC", "AWS-LC"),
    ("OPENSSL_internal", "BoringSSL"),
    ("wolfSSL", "wolfSSL"),
    ("GnuTLS", "GnuTLS"),
    ("mbed TLS", "mbedTLS"),
    ("Mbed TLS", "mbedTLS"),
    ("OpenSSL", "OpenSSL"),
];

/// Before the version number of rustls in the paths of its source, which panics tell.
const RUSTLS_SOURCE: &[u8] = b"/rustls-";
/// Longest text that is looked for, with a version number after it.
const TEXT_BYTES_MAX: usize = 48;
/// Longest version number.
const NUMBER_BYTES_MAX: usize = 24;

/// Tells what the file has within although none of its functions is known, and what can be done; None where
/// it has no sign of TLS.
///
/// # Errors
/// When the file can't be read, or has more constants than may be read of it.
pub(super) fn explain(elf: &mut Elf<'_>) -> Result<Option<String>, ElfError> {
    let Some(within) = tls_within(elf)? else { return Ok(None) };
    Ok(Some(if within.starts_with("rustls") && !elf.has_symbols() {
        format!(
            "has {within} within, but is stripped of its symbols, by which its functions are found: \
             build it without `strip`, or capture the other end of its connections"
        )
    } else {
        format!("has {within} within, but none of its functions by a known name")
    }))
}

/// Whether the file has signs of TLS 1.3.
///
/// # Errors
/// As [`explain`].
pub(super) fn has_tls(elf: &mut Elf<'_>) -> Result<bool, ElfError> {
    let mut labels = LABELS.map(|label| (memmem::Finder::new(label), false));
    elf.constants(TEXT_BYTES_MAX, &mut |piece| {
        for (label, seen) in labels.iter_mut().filter(|(_, seen)| !seen) {
            *seen = label.find(piece).is_some();
        }
        labels.iter().all(|(_, seen)| *seen)
    })?;
    Ok(labels.iter().all(|(_, seen)| *seen))
}

/// What the file seems to have within: `rustls 0.23.5`, `OpenSSL 3.0.19`, `TLS`; None where it has no sign of
/// TLS.
///
/// # Errors
/// As [`explain`].
pub(super) fn tls_within(elf: &mut Elf<'_>) -> Result<Option<String>, ElfError> {
    if !has_tls(elf)? {
        return Ok(None);
    }
    let mut marks = MARKS.map(|(mark, name)| (memmem::Finder::new(mark), name, false));
    let mut rustls = None;
    elf.constants(TEXT_BYTES_MAX, &mut |piece| {
        for (mark, _, seen) in marks.iter_mut().filter(|(.., seen)| !seen) {
            *seen = mark.find(piece).is_some();
        }
        rustls = rustls.take().or_else(|| rustls_version(piece));
        false
    })?;
    let name = marks.iter().find(|(.., seen)| *seen).map(|(_, name, _)| *name);
    Ok(Some(match (name, rustls) {
        (Some("rustls"), Some(version)) => format!("rustls {version}"),
        (Some("OpenSSL"), _) => {
            elf.version_text(&["OpenSSL ", "LibreSSL "])?.unwrap_or_else(|| "OpenSSL".to_owned())
        }
        (Some(name), _) => name.to_owned(),
        (None, _) => "TLS".to_owned(),
    }))
}

/// The version of rustls that the file tells, if it has rustls within.
///
/// # Errors
/// When the file can't be read, or has more constants than may be read of it.
pub(super) fn version_of_rustls(elf: &mut Elf<'_>) -> Result<Option<String>, ElfError> {
    let mut found = None;
    elf.constants(TEXT_BYTES_MAX, &mut |piece| {
        found = rustls_version(piece);
        found.is_some()
    })?;
    Ok(found)
}

/// The `0.23.5` of `…/rustls-0.23.5/src/…`, but not that of `/rustls-webpki-0.102.4/`.
fn rustls_version(constants: &[u8]) -> Option<String> {
    memmem::find_iter(constants, RUSTLS_SOURCE).find_map(|at| {
        let number = constants.get(at + RUSTLS_SOURCE.len()..)?;
        let end = number.iter().take(NUMBER_BYTES_MAX).position(|&byte| byte == b'/')?;
        let number = std::str::from_utf8(number.get(..end)?).ok()?;
        let part = |c: char| c.is_ascii_alphanumeric() || ".-+".contains(c);
        (number.starts_with(|c: char| c.is_ascii_digit()) && number.chars().all(part))
            .then(|| number.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_of_rustls_is_that_of_its_own_source() {
        for (constants, version) in [
            (&b"x/rustls-webpki-0.102.4/src/a.rs/b/rustls-0.23.5/src/lib.rs"[..], Some("0.23.5")),
            (b"/rustls-0.24.0-dev.0/src", Some("0.24.0-dev.0")),
            (b"/rustls-0.23.5", None),
            (b"/rustls-native-certs-0.7/src", None),
            (b"/rustls-1\x1b[2J/src", None),
            (b"rustls", None),
        ] {
            assert_eq!(rustls_version(constants).as_deref(), version, "{}", constants.escape_ascii());
        }
    }
}

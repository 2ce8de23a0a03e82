//! What the Go linker tells of itself (`debug/buildinfo` of Go's library).

use super::Abi;
use crate::probe::elf::{Elf, ElfError, Range};

/// The section that it is in.
pub(super) const SECTION: &str = ".go.buildinfo";

const MAGIC: &[u8] = b"\xff Go buildinf:";
const HEADER_BYTES: usize = 32;
/// Of the size of a pointer, and of the flags.
const POINTER_BYTES_AT: usize = 14;
const FLAGS_AT: usize = 15;
/// The text follows the header, behind its length; before Go 1.18 the header has a pointer to a string.
const FLAG_INLINE: u8 = 2;
const FLAG_BIG_ENDIAN: u8 = 1;
/// Longest version text.
const VERSION_BYTES_MAX: u64 = 64;

/// What is told.
#[derive(Debug)]
pub(super) struct BuildInfo {
    /// `Go 1.27.3`, or just `Go`.
    pub(super) version: String,
    /// On machines where the code doesn't show it.
    pub(super) abi: Abi,
}

/// Reads it. A program of before Go 1.13 has none.
pub(super) fn read(elf: &mut Elf<'_>) -> Result<BuildInfo, ElfError> {
    let mut info = BuildInfo { version: "Go".to_owned(), abi: Abi::Stack };
    let Some(section) = elf.section_named(SECTION)? else { return Ok(info) };
    let most = HEADER_BYTES as u64 + 1 + VERSION_BYTES_MAX;
    let head = elf.read(Range { bytes: section.range.bytes.min(most), ..section.range })?;
    let (true, Some(&flags)) = (head.starts_with(MAGIC), head.get(FLAGS_AT)) else { return Ok(info) };
    let text = if flags & FLAG_INLINE != 0 {
        info.abi = Abi::Registers;
        head.get(HEADER_BYTES..).and_then(inline_text).map(<[u8]>::to_vec)
    } else if flags & FLAG_BIG_ENDIAN == 0 && head.get(POINTER_BYTES_AT) == Some(&8) {
        pointed_text(elf, &head)?
    } else {
        None
    };
    if let Some(version) = text.as_deref().and_then(version_in) {
        info.version = format!("Go {version}");
    }
    Ok(info)
}

/// The length is a varint, of one byte for any version.
fn inline_text(bytes: &[u8]) -> Option<&[u8]> {
    let (&length, rest) = bytes.split_first()?;
    rest.get(..usize::from(length))
}

/// The header points to a Go string: a pointer and a length.
fn pointed_text(elf: &mut Elf<'_>, head: &[u8]) -> Result<Option<Vec<u8>>, ElfError> {
    let Some(address) = word(head, FLAGS_AT + 1) else { return Ok(None) };
    let Some(string) = elf.read_at(address, 16)? else { return Ok(None) };
    match (word(&string, 0), word(&string, 8)) {
        (Some(text), Some(length)) => elf.read_at(text, length.min(VERSION_BYTES_MAX)),
        _ => Ok(None),
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|word| u64::from_le_bytes(*word))
}

/// `go1.19.8 X:boringcrypto` → `1.19.8 X:boringcrypto`; None when it is no plain text.
fn version_in(text: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(text).ok()?;
    let plain = text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
    text.strip_prefix("go").filter(|version| plain && version.starts_with(|c: char| c.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_told_and_nothing_else_is() {
        for (text, version) in [
            (&b"go1.27.3"[..], Some("1.27.3")),
            (b"go1.19.8 X:boringcrypto", Some("1.19.8 X:boringcrypto")),
            (b"devel +0123", None),
            (b"go1.2\n", None),
            (b"go1.2\xff", None),
            (b"go", None),
            (b"", None),
        ] {
            assert_eq!(version_in(text), version, "{}", text.escape_ascii());
        }
        assert_eq!(inline_text(b"\x08go1.27.3rest"), Some(&b"go1.27.3"[..]));
        assert_eq!(inline_text(b"\x09go1.27.3"), None);
        assert_eq!(inline_text(b""), None);
    }
}

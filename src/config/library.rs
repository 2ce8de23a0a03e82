//! `--lib FILE[@FUNCTION=ADDRESS,…]`: a file to probe, and where its functions are if that is known.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

use super::path;

/// Most functions that can be named for one file.
const PLACES_MAX: usize = 64;

/// A file to probe besides those that are found, as seen from tlsdump.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LibraryFile {
    /// The library or program.
    pub file: PathBuf,
    /// Names of functions, and their addresses as the file counts them, before the program is moved. Empty:
    /// they are to be found.
    pub places: Vec<(String, u64)>,
}

impl LibraryFile {
    /// The values of all `--lib`.
    ///
    /// # Errors
    /// The first that is wrong.
    pub(super) fn all(values: &[OsString]) -> Result<Vec<Self>> {
        values.iter().map(|value| Self::new(value)).collect()
    }

    /// What follows the last `@` is a list of functions if there is a `=` in it, and part of the name if not.
    fn new(value: &OsStr) -> Result<Self> {
        let bytes = value.as_bytes();
        let at = bytes.iter().rposition(|&byte| byte == b'@');
        let split = at.map(|at| (&bytes[..at], &bytes[at + 1..])).filter(|(_, list)| list.contains(&b'='));
        let Some((file, list)) = split else {
            return Ok(Self { file: path("--lib", value)?, places: Vec::new() });
        };
        let file = path("--lib", OsStr::from_bytes(file))?;
        let places = places(&String::from_utf8_lossy(list));
        Ok(Self { places: places.with_context(|| format!("--lib {}", value.display()))?, file })
    }
}

/// `SSL_read=0x1a6b180,SSL_write=0x1a6b940`
fn places(list: &str) -> Result<Vec<(String, u64)>> {
    let mut places = Vec::new();
    for item in list.split(',') {
        let (name, address) = item.split_once('=').unwrap_or((item, ""));
        let number = address.strip_prefix("0x").filter(|digits| !digits.starts_with('+'));
        let number = number.and_then(|digits| u64::from_str_radix(digits, 16).ok());
        let number = number.filter(|_| !name.is_empty());
        let number = number.with_context(|| {
            format!("{item:?} is not FUNCTION=0xADDRESS; give addresses as readelf and objdump show them")
        })?;
        ensure!(!places.iter().any(|(known, _)| known == name), "{name} is given twice");
        places.push((name.to_owned(), number));
    }
    ensure!(places.len() <= PLACES_MAX, "more than {PLACES_MAX} functions");
    Ok(places)
}

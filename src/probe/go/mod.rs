//! Go programs: whether a file is one, and where the functions of its `crypto/tls` begin and return.
//!
//! They are found by name in the symbol table, or, as that is often stripped, in the table that the runtime
//! itself needs to walk stacks. Returns are places in the code: Go moves stacks and reads the return
//! addresses on them, so a return probe, which replaces them, ends the program.

mod build_info;
mod code;
mod functions;

use std::fmt;

use super::elf::{Elf, ElfError, Function, Range};
use super::table::Hook;

/// Where a function has its arguments and results.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Abi {
    /// In registers: since Go 1.17 on x86-64, 1.18 on arm64.
    Registers,
    /// On the stack, above the return address.
    Stack,
}

/// A place in the code of `crypto/tls`. Those where a call ends come first, so that no call is seen to begin
/// that is not seen to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Site {
    /// `func (c *Conn) Write(b []byte) (int, error)` returns.
    WriteReturn,
    /// `func (c *Conn) Read(b []byte) (int, error)` returns.
    ReadReturn,
    /// The same, and its arguments are on the stack still.
    KeptReadReturn,
    /// `clientHandshake` or `serverHandshake` returns.
    HandshakeReturn,
    /// `Write` begins.
    Write,
    /// `Read` begins.
    Read,
    /// `func (c *Conn) clientHandshake(…) error` begins.
    Client,
    /// `func (c *Conn) serverHandshake(…) error` begins.
    Server,
    /// `func (c *Conn) Close() error` begins.
    Close,
    /// `func (c *Conn) CloseWrite() error` begins.
    CloseWrite,
    /// `func (c *Config) writeKeyLog(label string, clientRandom, secret []byte) error` begins.
    Secret,
}

/// The functions, and what is probed of them: the beginning and, where the end matters, each return.
const FUNCTIONS: [(&str, Site, Option<Site>); 7] = [
    (READ, Site::Read, Some(Site::ReadReturn)),
    (WRITE, Site::Write, Some(Site::WriteReturn)),
    ("crypto/tls.(*Conn).clientHandshake", Site::Client, Some(Site::HandshakeReturn)),
    ("crypto/tls.(*Conn).serverHandshake", Site::Server, Some(Site::HandshakeReturn)),
    ("crypto/tls.(*Conn).Close", Site::Close, None),
    ("crypto/tls.(*Conn).CloseWrite", Site::CloseWrite, None),
    // It is called whether or not anybody wants to know.
    ("crypto/tls.(*Config).writeKeyLog", Site::Secret, None),
];
const READ: &str = "crypto/tls.(*Conn).Read";
const WRITE: &str = "crypto/tls.(*Conn).Write";

/// Largest function that is disassembled.
const CODE_BYTES_MAX: u64 = 64 << 10;

/// `crypto/tls` in a program.
#[derive(Debug)]
pub(super) struct CryptoTls {
    /// File offsets to be probed.
    pub(super) hooks: Vec<(Hook, u64)>,
    /// The functions that these are in.
    pub(super) functions: Vec<&'static str>,
    /// `Go 1.27.3`, or just `Go`.
    pub(super) version: String,
}

/// Why a Go program can't be probed.
#[derive(Debug)]
pub enum GoError {
    /// The file is damaged, or too large.
    Elf(ElfError),
    /// The runtime's table of functions is not as expected.
    Table(&'static str),
    /// A function's code is not as expected.
    Code {
        /// Its name.
        function: &'static str,
        /// What is wrong.
        why: &'static str,
    },
}

impl fmt::Display for GoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Elf(error) => error.fmt(f),
            Self::Table(why) => write!(f, "a Go program, but its table of functions {why}"),
            Self::Code { function, why } => write!(f, "a Go program, but {function} {why}"),
        }
    }
}

impl From<ElfError> for GoError {
    fn from(error: ElfError) -> Self {
        Self::Elf(error)
    }
}

/// The names of the functions, as symbols have them.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    FUNCTIONS.iter().map(|(name, ..)| *name)
}

/// Whether the file is a program made by Go. Reads little of it.
pub(super) fn is_go(elf: &mut Elf<'_>) -> Result<bool, ElfError> {
    Ok(elf.section_named(build_info::SECTION)?.is_some() || functions::has_table(elf)?)
}

/// Finds `crypto/tls` in a file. `symbols` are its functions with one of `names`.
///
/// # Errors
/// When it is there but can't be probed.
pub(super) fn recognise(
    elf: &mut Elf<'_>,
    names: &[&str],
    symbols: &[Function],
) -> Result<Option<CryptoTls>, GoError> {
    if !is_go(elf)? {
        return Ok(None);
    }
    let info = build_info::read(elf)?;
    let mut found = by_symbols(names, symbols);
    let moves = |found: &[(usize, Range)]| found.iter().any(|f| [READ, WRITE].contains(&FUNCTIONS[f.0].0));
    if !moves(&found) {
        found = functions::find(elf)?;
    }
    if !moves(&found) {
        return Ok(None);
    }
    let functions = found.iter().map(|(function, _)| FUNCTIONS[*function].0).collect();
    let mut hooks = Vec::new();
    for (function, range) in found {
        let code = elf.read(range)?;
        let (name, begins, returns) = FUNCTIONS[function];
        let sites = match code::sites(&code, info.abi) {
            Ok(sites) => sites,
            // Plaintext does without.
            Err(_) if begins == Site::Secret => continue,
            Err(why) => return Err(GoError::Code { function: name, why }),
        };
        hooks.push((Hook::Go(begins, sites.abi), range.offset + sites.entry));
        let kept = |site| if site == Site::ReadReturn { Site::KeptReadReturn } else { site };
        let returns = returns.map(|site| if sites.keeps_arguments { kept(site) } else { site });
        let at_return = returns.map(|site| Hook::Go(site, sites.abi));
        hooks.extend(sites.returns.iter().flat_map(|at| at_return.map(|hook| (hook, range.offset + at))));
    }
    hooks.sort_unstable();
    hooks.dedup();
    Ok(Some(CryptoTls { hooks, functions, version: info.version }))
}

/// Indices in [`FUNCTIONS`], and where in the file each is.
fn by_symbols(names: &[&str], symbols: &[Function]) -> Vec<(usize, Range)> {
    let sound = symbols.iter().filter(|symbol| (1..=CODE_BYTES_MAX).contains(&symbol.bytes));
    let index = |name: usize| FUNCTIONS.iter().position(|(wanted, ..)| names.get(name) == Some(wanted));
    sound.filter_map(|s| Some((index(s.name)?, Range { offset: s.offset, bytes: s.bytes }))).collect()
}

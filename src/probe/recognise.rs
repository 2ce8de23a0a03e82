//! Which library of the table a file is, and where its hooks go.

use std::fmt;
use std::fs::File;
use std::os::fd::OwnedFd;

use super::elf::{Elf, ElfError, Function, Range};
use super::given::GivenError;
use super::go::{self, CryptoTls, GoError};
use super::inner::{self, Named};
use super::random::{self, RandomPlace};
use super::rustls::{self, RustlsError};
use super::signature::{self, Doubt, Search};
use super::table::{self, GO, Hook, Library, RUSTLS, TABLE, Unnamed};
use super::{debug, nss, signs};

/// What a file turned out to be.
#[derive(Debug)]
pub struct Recognised {
    /// The first row of the table that fits.
    pub library: &'static Library,
    /// File offsets to be probed, each once for each call shape, in order.
    pub hooks: Vec<(Hook, u64)>,
    /// Names of the functions that these are in, in order; some have none.
    pub functions: Vec<&'static str>,
    /// Where its sessions have the client's random number, if that is known.
    pub random: Option<RandomPlace>,
    /// GNU build id, or empty.
    pub build_id: Vec<u8>,
    /// Kind and version as far as the file tells: `OpenSSL 3.0.19`, `OpenSSL 3`, `BoringSSL`.
    pub version: String,
    /// Whether the library is part of a program.
    pub program: bool,
    /// In a file without names, the functions that were not found for certain.
    pub doubts: Vec<Doubt>,
}

/// Why a file can't be probed.
#[derive(Debug)]
pub enum Unfit {
    /// It isn't a file that could be.
    Elf(ElfError),
    /// It is a Go program with crypto/tls, which can't be probed.
    Go(GoError),
    /// It has rustls in it, which can't be probed.
    Rustls(RustlsError),
    /// None of the names of the table is defined in it.
    Unknown,
    /// It has some of the functions, but not those that tell the library.
    Lookalike {
        /// A function that it has.
        has: &'static str,
        /// One that it lacks.
        lacks: &'static str,
    },
    /// The functions of this library that have no name weren't found.
    Unnamed(&'static str),
    /// It has no names, and a function that is needed is not to be found for certain.
    Doubtful(&'static str, Doubt),
    /// A function isn't where the user says it is.
    Given(GivenError),
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Elf(error) => error.fmt(f),
            Self::Go(error) => error.fmt(f),
            Self::Rustls(error) => error.fmt(f),
            Self::Unknown => {
                let known = TABLE.iter().filter(|library| library.is_tls()).chain([&GO, &RUSTLS]);
                let known: Vec<_> = known.map(|library| library.name).collect();
                write!(f, "no functions of a known TLS library in it ({})", known.join(", "))
            }
            Self::Lookalike { has, lacks } => {
                write!(f, "has {has} but not {lacks}: not a known TLS library")
            }
            Self::Unnamed(library) => {
                write!(f, "the functions by which {library} reads and writes are not to be found in it")
            }
            Self::Doubtful(library, doubt) => write!(
                f,
                "has {library} without names, and {doubt} (tell where it is: --lib FILE@{}=0xADDRESS,…)",
                doubt.name
            ),
            Self::Given(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Unfit {}

impl From<ElfError> for Unfit {
    fn from(error: ElfError) -> Self {
        Self::Elf(error)
    }
}

/// Finds out which library of the table is in `file`, if any. Files with symbols are looked for in `roots`.
/// What is read of the file is taken from `budget`, in bytes.
///
/// # Errors
/// When there is none, with the reason.
pub fn recognise(file: &File, roots: &[&OwnedFd], budget: &mut u64) -> Result<Recognised, Unfit> {
    let mut elf = Elf::open(file, *budget)?;
    let recognised = recognise_elf(&mut elf, roots);
    *budget = budget.saturating_sub(elf.bytes_read());
    recognised
}

fn recognise_elf(elf: &mut Elf<'_>, roots: &[&OwnedFd]) -> Result<Recognised, Unfit> {
    let names = table::all_names();
    let mut functions = elf.functions(&names)?;
    // A file can hold several libraries.
    let mut fitting = fitting(&names, &functions);
    let go = go::recognise(elf, &names, &functions).map_err(Unfit::Go);
    let rustls = rustls::recognise(elf).map_err(Unfit::Rustls);
    // Some names, but not all, are those of another library.
    let nameless = !TABLE.iter().any(|row| row.is_tls() && row.needed().any(defined(&names, &functions)));
    let other = !matches!(go, Ok(None)) || !matches!(rustls, Ok(None));
    if nameless && fitting.is_empty() && !other && signs::has_tls(elf)? {
        let elsewhere = debug::functions(elf, &names, roots);
        let fits = self::fitting(&names, &elsewhere);
        if fits.is_empty() {
            return unnamed(elf, unfit(defined(&names, &functions)));
        }
        (functions, fitting) = (elsewhere, fits);
    }
    let Some(&library) = fitting.first() else {
        if let Some(go) = go? {
            return Ok(go_program(elf, go));
        }
        let unknown = || Err(unfit(defined(&names, &functions)));
        return rustls?.map_or_else(unknown, |rustls| Ok(with_rustls(elf, rustls)));
    };
    let (mut hooks, mut named) = hooks(&fitting, &names, &functions);
    named.extend(inner::improve(elf, &Named { names: &names, functions: &functions }, &mut hooks));
    for library in fitting {
        match library.unnamed {
            Some(Unnamed::Nss) => hooks.extend(nss::hooks(elf)?.ok_or(Unfit::Unnamed(library.name))?),
            None => {}
        }
    }
    // A Go program can have another library in it.
    if let Ok(Some(go)) = go {
        hooks.extend(go.hooks);
        named.extend(go.functions);
    }
    if let Ok(Some(rustls)) = rustls {
        hooks.extend(rustls.hooks);
        named.extend(rustls.functions);
    }
    let random = library.random.and_then(|name| random_place(elf, name, &names, &functions));
    Ok(Recognised { random, ..Recognised::new(elf, library, hooks, named) })
}

impl Recognised {
    pub(super) fn new(
        elf: &mut Elf<'_>,
        library: &'static Library,
        mut hooks: Vec<(Hook, u64)>,
        functions: Vec<&'static str>,
    ) -> Self {
        // Two names can stand for one place.
        hooks.sort_unstable();
        hooks.dedup();
        Self {
            library,
            hooks,
            functions: sorted(functions),
            random: None,
            // What follows is for people. A library is probed also when it can't be told.
            build_id: elf.build_id().unwrap_or_default(),
            version: version(elf, library),
            program: elf.is_program().unwrap_or_default(),
            doubts: Vec::new(),
        }
    }
}

/// The libraries of which all is there that tells them.
fn fitting(names: &[&str], functions: &[Function]) -> Vec<&'static Library> {
    let fitting = TABLE.iter().filter(|library| library.needed().all(defined(names, functions)));
    let mut fitting: Vec<_> = fitting.collect();
    fitting.dedup_by_key(|library| library.name);
    fitting
}

/// Whether a function of that name is among these.
fn defined(names: &[&str], functions: &[Function]) -> impl Fn(&str) -> bool {
    move |wanted| functions.iter().any(|f| names.get(f.name).is_some_and(|name| *name == wanted))
}

/// What there is without any name; `otherwise` if that is nothing.
fn unnamed(elf: &mut Elf<'_>, otherwise: Unfit) -> Result<Recognised, Unfit> {
    let signed = match signature::search(elf)? {
        Search::Nothing => return Err(otherwise),
        Search::Doubtful(library, doubt) => return Err(Unfit::Doubtful(library, doubt)),
        Search::Found(signed) => signed,
    };
    let places = signed.functions.iter().filter_map(|(_, hook, a)| Some((*hook, elf.code_offset(*a)?)));
    let hooks = places.collect();
    let names = signed.functions.iter().map(|(name, ..)| *name).collect();
    let recognised = Recognised::new(elf, signed.library, hooks, names);
    Ok(Recognised { doubts: signed.doubts, ..recognised })
}

fn go_program(elf: &mut Elf<'_>, go: CryptoTls) -> Recognised {
    let CryptoTls { hooks, functions, version } = go;
    Recognised { version, program: true, ..Recognised::new(elf, &GO, hooks, functions) }
}

fn with_rustls(elf: &mut Elf<'_>, rustls: rustls::Rustls) -> Recognised {
    let rustls::Rustls { hooks, functions, version } = rustls;
    Recognised { version, ..Recognised::new(elf, &RUSTLS, hooks, functions) }
}

/// The places to be probed, and the functions that they are in.
fn hooks(
    libraries: &[&Library],
    names: &[&'static str],
    functions: &[Function],
) -> (Vec<(Hook, u64)>, Vec<&'static str>) {
    let hook_of = |function: &Function| {
        let name = *names.get(function.name)?;
        let mut symbols = libraries.iter().flat_map(|library| library.symbols);
        Some(((symbols.find(|symbol| symbol.name == name)?.hook, function.offset), name))
    };
    functions.iter().filter_map(hook_of).unzip()
}

/// Where sessions have what the function of that name gives. A file may have several copies of a library,
/// which then agree or are not understood.
fn random_place(
    elf: &mut Elf<'_>,
    name: &str,
    names: &[&str],
    functions: &[Function],
) -> Option<RandomPlace> {
    let all = functions.iter().filter(|function| names.get(function.name) == Some(&name));
    let code = |function: &Function| {
        elf.read(Range { offset: function.offset, bytes: function.bytes.min(random::CODE_BYTES_MAX) })
    };
    let mut places = all.map(code).map(|code| random::place(&code.ok()?));
    let first = places.next()??;
    places.all(|place| place.as_ref() == Some(&first)).then_some(first)
}

fn sorted(mut names: Vec<&'static str>) -> Vec<&'static str> {
    names.sort_unstable();
    names.dedup();
    names
}

/// Says what is missing of the row that is nearest to fit.
fn unfit(defined: impl Fn(&str) -> bool) -> Unfit {
    let near = TABLE.iter().filter_map(|library| {
        let has = library.needed().find(|name| defined(name))?;
        let lacks = library.needed().find(|name| !defined(name))?;
        Some((library.needed().filter(|name| !defined(name)).count(), has, lacks))
    });
    match near.min_by_key(|(missing, ..)| *missing) {
        Some((_, has, lacks)) => Unfit::Lookalike { has, lacks },
        None => Unfit::Unknown,
    }
}

/// The version text of a static library is among its constants. A shared libssl has none of its own (it is in
/// libcrypto), but symbol versions, or at least a soname.
fn version(elf: &mut Elf<'_>, library: &Library) -> String {
    if let Ok(Some(text)) = elf.version_text(library.version_texts) {
        return text;
    }
    let nodes = elf.defined_versions().unwrap_or_default();
    let told =
        library.version_nodes.iter().find(|(start, _)| nodes.iter().any(|node| node.starts_with(start)));
    if let Some((_, text)) = told {
        return (*text).to_owned();
    }
    match elf.soname() {
        Ok(Some(soname)) => format!("{} ({})", library.name, soname.escape_debug()),
        _ => library.name.to_owned(),
    }
}

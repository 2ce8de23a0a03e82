//! Which library of the table a file is, and where its hooks go.

use std::fmt;
use std::fs::File;

use super::elf::{Elf, ElfError, Function, Range};
use super::go::{self, CryptoTls, GoError};
use super::inner::{self, Named};
use super::nss;
use super::random::{self, RandomPlace};
use super::rustls::{self, RustlsError};
use super::table::{self, GO, Hook, Library, RUSTLS, TABLE, Unnamed};

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
        }
    }
}

impl std::error::Error for Unfit {}

impl From<ElfError> for Unfit {
    fn from(error: ElfError) -> Self {
        Self::Elf(error)
    }
}

/// Finds out which library of the table is in `file`, if any. What is read of the file is taken from
/// `budget`, in bytes.
///
/// # Errors
/// When there is none, with the reason.
pub fn recognise(file: &File, budget: &mut u64) -> Result<Recognised, Unfit> {
    let mut elf = Elf::open(file, *budget)?;
    let recognised = recognise_elf(&mut elf);
    *budget = budget.saturating_sub(elf.bytes_read());
    recognised
}

fn recognise_elf(elf: &mut Elf<'_>) -> Result<Recognised, Unfit> {
    let names = table::all_names();
    let functions = elf.functions(&names)?;
    let defined =
        |wanted: &str| functions.iter().any(|f| names.get(f.name).is_some_and(|name| *name == wanted));
    // A file can hold several libraries.
    let fitting: Vec<_> = TABLE.iter().filter(|library| library.needed().all(defined)).collect();
    let go = go::recognise(elf, &names, &functions).map_err(Unfit::Go);
    let rustls = rustls::recognise(elf).map_err(Unfit::Rustls);
    let Some(&library) = fitting.first() else {
        if let Some(go) = go? {
            return Ok(go_program(elf, go));
        }
        return rustls?.map_or_else(|| Err(unfit(defined)), |rustls| Ok(with_rustls(elf, rustls)));
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
    // Two names can stand for one place.
    hooks.sort_unstable();
    hooks.dedup();
    Ok(Recognised {
        library,
        hooks,
        functions: sorted(named),
        random: library.random.and_then(|name| random_place(elf, name, &names, &functions)),
        // What follows is for people. A library is probed also when it can't be told.
        build_id: elf.build_id().unwrap_or_default(),
        version: version(elf, library),
        program: elf.is_program().unwrap_or_default(),
    })
}

fn go_program(elf: &mut Elf<'_>, go: CryptoTls) -> Recognised {
    Recognised {
        library: &GO,
        hooks: go.hooks,
        functions: sorted(go.functions),
        random: None,
        build_id: elf.build_id().unwrap_or_default(),
        version: go.version,
        program: true,
    }
}

fn with_rustls(elf: &mut Elf<'_>, rustls: rustls::Rustls) -> Recognised {
    Recognised {
        library: &RUSTLS,
        hooks: rustls.hooks,
        random: None,
        functions: sorted(rustls.functions),
        build_id: elf.build_id().unwrap_or_default(),
        version: rustls.version,
        program: elf.is_program().unwrap_or_default(),
    }
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

//! Reads the source tree and enforces its style: sizes, where unsafe code and packages live, who uses whom.
//!
//! It reads lines, not syntax, and can because `cargo fmt` fixes how code is laid out.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

const COLUMNS_MAX: usize = 110;
const FILE_LINES_MAX: usize = 500;
const FUNCTION_LINES_MAX: usize = 70;
const BPF_HEADER_LINES_MAX: usize = 250;

/// The one file that may be long: it is a table.
const TABLE: &str = "src/probe/table.rs";

/// Where each package of `Cargo.toml` may be used: paths begin so. With none, anywhere but in [`PURE`].
const HOMES: &[(&str, &[&str])] = &[
    ("anyhow", &[]),
    ("chrono", &["src/text.rs", "src/file/cuts.rs", "src/file/naming.rs"]),
    ("clap", &["src/cli.rs"]),
    ("crc32fast", &["src/source/stream.rs"]),
    ("etherparse", &["src/packet.rs", "src/frame/headers.rs", "src/real.rs"]),
    ("flume", &["src/run.rs", "src/file/output.rs", "src/file/writing.rs"]),
    ("foldhash", &["src/flow/", "src/file/"]),
    ("iced_x86", &["src/probe/"]),
    // In the second only `close`, which tells its error.
    ("nix", &["src/privileges.rs", "src/file/directory.rs"]),
    ("libbpf_rs", &["src/source/live"]),
    ("libc", &["src/sys"]),
    ("liblzma", &["src/probe/elf/debug.rs"]),
    ("memchr", &["src/probe/"]),
    ("object", &["src/probe/"]),
    ("pcap_file", &["src/file/"]),
    ("ring", &["src/frame/keys.rs"]),
    ("rustc_demangle", &["src/probe/elf/"]),
    ("rustix", &[]),
    ("serde", &["src/list/", "src/doctor/"]),
    ("serde_json", &["src/list/", "src/doctor/"]),
    ("signal_hook", &["src/run.rs", "src/sys.rs"]),
    ("zstd", &["src/file/compress.rs"]),
];

/// Stages without I/O: they know neither `anyhow` nor `rustix`, and their errors are small enums.
const PURE: &[&str] = &[
    "src/event.rs",
    "src/names.rs",
    "src/stats.rs",
    "src/wire/",
    "src/flow/",
    "src/frame/",
    "src/safe.rs",
    "src/secrets.rs",
    "src/packet.rs",
    "src/real.rs",
    "src/source/held.rs",
];

/// Which modules of this crate the files whose paths begin so may use, besides their own; the first row that
/// fits a file counts. Nobody but `main` uses `run`.
const IMPORTS: &[(&str, &[&str])] = &[
    ("src/event.rs", &[]),
    ("src/safe.rs", &[]),
    ("src/stats.rs", &["event", "flow"]),
    ("src/sys", &["event"]),
    ("src/cli.rs", &[]),
    ("src/names.rs", &["event"]),
    ("src/config", &["cli", "event", "file", "frame", "source", "target"]),
    ("src/open.rs", &["config", "file"]),
    ("src/privileges.rs", &[]),
    ("src/wire/", &["event"]),
    ("src/flow/", &["event"]),
    ("src/frame/", &["event", "flow"]),
    ("src/file/", &["event", "flow", "frame", "names", "safe"]),
    ("src/text.rs", &["event", "file", "flow", "names", "safe"]),
    ("src/probe/", &["event", "sys"]),
    ("src/target/", &["event", "sys"]),
    ("src/source/live", &["event", "packet", "probe", "source", "sys", "target", "wire"]),
    ("src/source/", &["event", "packet", "wire"]),
    ("src/packet.rs", &["event"]),
    ("src/packet.rs", &["event"]),
    ("src/real.rs", &["event", "flow", "packet"]),
    ("src/secrets.rs", &["event", "frame"]),
    (
        "src/pipeline",
        &["event", "file", "flow", "frame", "names", "real", "secrets", "stats", "text", "wire"],
    ),
    ("src/list/", &["arm", "config", "event", "probe", "safe", "sys", "target"]),
    ("src/doctor/", &["config", "event", "probe", "safe", "source", "sys", "wire"]),
    ("src/arm.rs", &["config", "event", "probe", "source", "sys", "target"]),
];

/// Files that wire everything together and may use any module.
const WIRING: &[&str] = &["src/lib.rs", "src/main.rs", "src/run.rs"];

/// Files that no module declares.
const ROOTS: &[&str] = &["src/lib.rs", "src/main.rs"];

/// A text file of the project.
struct Source {
    /// From the root of the project: `src/flow/tcp.rs`.
    path: String,
    text: String,
}

impl Source {
    /// A complaint for each line of code, comments left out, that is `bad`.
    fn complaints(&self, bad: impl Fn(&str) -> bool, why: &str) -> Vec<String> {
        let lines = self.text.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//"));
        let bad = lines.filter(|(_, line)| bad(line));
        bad.map(|(i, line)| format!("{}:{}: {why}: {}", self.path, i + 1, line.trim())).collect()
    }

    /// Whether the path begins with one of `places`.
    fn within(&self, places: &[&str]) -> bool {
        places.iter().any(|place| self.path.starts_with(place))
    }
}

/// All Rust, C and header files, and that something was found at all.
fn sources() -> Vec<Source> {
    let mut sources = Vec::new();
    for directory in ["src", "tests", "benches", "bpf"] {
        collect(directory, &mut sources);
    }
    sources.push(Source { path: "build.rs".into(), text: fs::read_to_string(in_root("build.rs")).unwrap() });
    assert!(sources.iter().any(|source| source.path == "src/lib.rs"));
    sources
}

fn collect(directory: &str, sources: &mut Vec<Source>) {
    let Ok(entries) = fs::read_dir(in_root(directory)) else { return };
    for entry in entries {
        let entry = entry.unwrap();
        let path = format!("{directory}/{}", entry.file_name().to_str().unwrap());
        if entry.file_type().unwrap().is_dir() {
            collect(&path, sources);
        } else if [".rs", ".c", ".h"].iter().any(|end| path.ends_with(end)) {
            sources.push(Source { text: fs::read_to_string(entry.path()).unwrap(), path });
        }
    }
}

fn in_root(path: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Fails with all complaints at once.
fn none(complaints: impl IntoIterator<Item = String>) {
    let complaints: Vec<_> = complaints.into_iter().map(|complaint| format!("\n  {complaint}")).collect();
    assert!(complaints.is_empty(), "{}", complaints.concat());
}

/// Whether `word` is in `line` with no letter, digit or underscore beside it.
fn has_word(line: &str, word: &str) -> bool {
    let part_of_word = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        !line[..at].ends_with(part_of_word) && !line[at + word.len()..].starts_with(part_of_word)
    })
}

#[test]
fn files_are_short() {
    none(sources().iter().filter(|source| source.path != TABLE).filter_map(|source| {
        let header = source.path.starts_with("bpf/") && source.path.ends_with(".h");
        let lines_max = if header { BPF_HEADER_LINES_MAX } else { FILE_LINES_MAX };
        let lines = source.text.lines().count();
        (lines > lines_max).then(|| format!("{}: {lines} lines, more than {lines_max}", source.path))
    }));
}

#[test]
fn lines_are_short() {
    none(sources().iter().flat_map(|source| {
        source.text.lines().enumerate().filter_map(|(i, line)| {
            let columns: usize = line.chars().map(|c| if c == '\t' { 8 } else { 1 }).sum();
            (columns > COLUMNS_MAX).then(|| format!("{}:{}: {columns} columns", source.path, i + 1))
        })
    }));
}

#[test]
fn functions_are_short() {
    none(sources().iter().flat_map(|source| {
        let lines: Vec<_> = source.text.lines().collect();
        let beginnings = (0..lines.len()).filter(|at| begins_function(lines[*at]));
        let lengths = beginnings.map(|at| (at + 1, function_lines(&lines[at..])));
        let long = lengths.filter(|(_, length)| *length > FUNCTION_LINES_MAX);
        long.map(|(at, length)| format!("{}:{at}: function of {length} lines", source.path))
            .collect::<Vec<_>>()
    }));
}

/// In Rust the line with `fn`, in C (kernel style) the opening brace alone at the left.
fn begins_function(line: &str) -> bool {
    let modifiers = ["pub", "pub(crate)", "pub(super)", "const", "unsafe", "extern", "\"C\""];
    match line.split_once("fn ") {
        Some((before, _)) => before.split_whitespace().all(|word| modifiers.contains(&word)),
        None => line == "{",
    }
}

/// Lines from the one that begins a function to the brace that closes it, which stands below its beginning.
fn function_lines(lines: &[&str]) -> usize {
    let first = lines[0];
    if first.ends_with('}') || first.ends_with(';') {
        return 1;
    }
    let indent = &first[..first.len() - first.trim_start().len()];
    let ends = |line: &&str| {
        line.strip_prefix(indent).is_some_and(|rest| {
            rest.starts_with('}') || (rest.ends_with(';') && !rest.starts_with(char::is_whitespace))
        })
    };
    1 + lines[1..].iter().position(ends).map_or(lines.len(), |at| at + 1)
}

#[test]
fn unsafe_code_has_one_home() {
    none(
        sources().iter().filter(|source| source.within(&["src/"]) && !source.within(&["src/sys"])).flat_map(
            |source| {
                // The generated skeleton is included there.
                let skeleton = source.within(&["src/source/"]);
                let bad =
                    move |line: &str| has_word(line, "unsafe") || has_word(line, "unsafe_code") && !skeleton;
                source.complaints(bad, "unsafe code belongs into src/sys")
            },
        ),
    );
}

#[test]
fn packages_stay_at_home() {
    let manifest = fs::read_to_string(in_root("Cargo.toml")).unwrap();
    let dependencies = manifest.split("\n[dependencies]\n").nth(1).unwrap().split("\n[").next().unwrap();
    let packages: Vec<_> = dependencies.lines().filter_map(|line| line.split_once(" = ")).collect();
    assert!(!packages.is_empty());
    let sources = sources();
    none(packages.into_iter().flat_map(|(package, _)| {
        let package = package.replace('-', "_");
        let home = HOMES.iter().find(|(name, _)| *name == package);
        let (_, home) = home.unwrap_or_else(|| panic!("{package} has no home: give it one in HOMES"));
        let strangers = sources.iter().filter(|source| {
            source.within(&["src/"])
                && if home.is_empty() { source.within(PURE) } else { !source.within(home) }
        });
        let used = format!("{package}::");
        let why = format!("{package} may not be used here");
        strangers
            .flat_map(|source| source.complaints(|line| uses_path(line, &used), &why))
            .collect::<Vec<_>>()
    }));
}

/// Whether a path that begins with `path` stands in `line`: `anyhow::Result`, not `crate::anyhow::Result`.
fn uses_path(line: &str, path: &str) -> bool {
    let inside = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    line.match_indices(path).any(|(at, _)| !line[..at].ends_with(inside))
}

#[test]
fn modules_use_only_what_they_may() {
    let sources = sources();
    let modules = sources.iter().filter(|source| source.within(&["src/"]) && !source.within(WIRING));
    none(modules.flat_map(|source| {
        let row = IMPORTS.iter().find(|(place, _)| source.path.starts_with(place));
        let (_, allowed) = row.unwrap_or_else(|| panic!("{}: give it a row in IMPORTS", source.path));
        let own = source.path["src/".len()..].split(['/', '.']).next().unwrap();
        let strange = |line: &str| {
            let used = line.match_indices("crate::").map(|(at, found)| &line[at + found.len()..]);
            let used =
                used.map(|rest| rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap());
            used.into_iter().any(|used| used != own && !allowed.contains(&used))
        };
        source.complaints(strange, "this module may not be used here")
    }));
}

#[test]
fn nothing_is_left_for_later() {
    let macros = [concat!("to", "do!("), concat!("unimple", "mented!("), concat!("d", "bg!(")];
    let notes = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];
    let found = |line: &str| {
        macros.iter().any(|word| line.contains(word)) || notes.iter().any(|word| has_word(line, word))
    };
    none(sources().iter().flat_map(|source| {
        let lines = source.text.lines().enumerate().filter(|(_, line)| found(line));
        lines.map(|(i, line)| format!("{}:{}: {line}", source.path, i + 1)).collect::<Vec<_>>()
    }));
}

#[test]
fn every_header_is_included() {
    let sources = sources();
    let headers = sources.iter().filter_map(|source| source.path.strip_prefix("bpf/"));
    none(headers.filter(|name| name.ends_with(".h")).filter_map(|name| {
        let include = format!("#include \"{name}\"");
        let included = sources.iter().any(|source| source.text.contains(&include));
        (!included).then(|| format!("bpf/{name}: nobody includes it"))
    }));
}

#[test]
fn every_module_is_declared() {
    let sources = sources();
    let modules = sources.iter().filter(|source| source.within(&["src/"]) && !source.within(ROOTS));
    none(modules.filter_map(|source| {
        let path = source.path.trim_end_matches(".rs").trim_end_matches("/mod");
        let (parent, module) = path.rsplit_once('/').unwrap();
        let parents = ["/lib.rs", "/mod.rs", ".rs"].map(|end| format!("{parent}{end}"));
        let mut lines = sources.iter().filter(|s| parents.contains(&s.path)).flat_map(|s| s.text.lines());
        let declaration = format!("mod {module};");
        let declared = lines.any(|line| line == declaration || line.ends_with(&format!(" {declaration}")));
        (!declared).then(|| format!("{}: no mod line names it", source.path))
    }));
}

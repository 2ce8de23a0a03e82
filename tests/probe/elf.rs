//! Which files are libraries, and where their functions are.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use tlsdump::probe::elf::{BYTES_READ_MAX, Elf};
use tlsdump::probe::recognise::recognise;
use tlsdump::probe::{Hook, Scanner};

use crate::{FakeProc, PROC, libssl, named, scan};

/// File offsets of the functions of a library as readelf(1) gives them, by name.
pub(crate) fn offsets_by_readelf(path: &Path) -> Option<BTreeMap<String, u64>> {
    let run = |options: &str| {
        let output = Command::new("readelf").arg(options).arg(path).output().ok()?;
        String::from_utf8(output.stdout).ok()
    };
    let hex = |text: &str| u64::from_str_radix(text.trim_start_matches("0x"), 16).unwrap();
    let segments: Vec<_> = run("-lW")?
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .filter(|fields| fields.first() == Some(&"LOAD"))
        .map(|fields| (hex(fields[1]), hex(fields[2]), hex(fields[4])))
        .collect();
    let mut offsets = BTreeMap::new();
    for line in run("-Ws")?.lines() {
        let fields: Vec<_> = line.split_whitespace().collect();
        if let [_, value, _, "FUNC", _, _, section, name, ..] = fields[..]
            && section != "UND"
        {
            let address = hex(value);
            let within = segments.iter().find(|(_, start, bytes)| (*start..start + bytes).contains(&address));
            let (offset, start, _) = within.unwrap();
            offsets.insert(name.split('@').next().unwrap().to_owned(), address - start + offset);
        }
    }
    Some(offsets)
}

#[test]
fn our_own_namespace_has_openssl_with_every_hook() {
    let plan = scan(Path::new(PROC), &[std::process::id()]);
    let id = fs::metadata(libssl()).unwrap();
    let found = plan.found.iter().find(|f| f.file.metadata().unwrap().ino() == id.ino()).unwrap();
    assert_eq!(found.file.metadata().unwrap().dev(), id.dev());
    assert_eq!(found.path, libssl().canonicalize().unwrap());
    assert_eq!((found.library.name, found.version.as_str(), found.program), ("OpenSSL", "OpenSSL 3", false));
    assert!(!found.build_id.is_empty());
    let Some(offsets) = offsets_by_readelf(&libssl()) else {
        println!("SKIP: no readelf to compare with");
        return;
    };
    // These meet in two functions without a name, which are probed instead.
    let meeting = ["SSL_read", "SSL_read_ex", "SSL_write", "SSL_write_ex"];
    let symbols = found.library.symbols.iter().filter(|s| !meeting.contains(&s.name));
    let mut expected: Vec<_> = symbols.filter_map(|s| Some((s.hook, *offsets.get(s.name)?))).collect();
    expected.sort_unstable();
    let (named, inner): (Vec<_>, Vec<_>) = found.hooks.iter().partition(|hook| expected.contains(hook));
    assert_eq!(named, expected);
    let inner: Vec<_> = inner.iter().map(|(hook, _)| *hook).collect();
    assert_eq!(inner, [Hook::WriteEx, Hook::ReadEx]);
    let setters = found.hooks.iter().filter(|(hook, _)| *hook == Hook::SetFd);
    assert_eq!(setters.count(), 3);
}

#[test]
fn a_library_of_any_name_is_taken_when_the_user_names_it() {
    let dir = tempfile::tempdir().unwrap();
    let odd = dir.path().join("plugin");
    fs::copy(libssl(), &odd).unwrap();
    let mut scanner = Scanner::new(Path::new(PROC));
    scanner.library(&odd).unwrap();
    let plan = scanner.take();
    assert_eq!(plan.found.len(), 1);
    assert_eq!((plan.found[0].path.as_path(), plan.found[0].hooks.len()), (odd.as_path(), 20));
}

#[test]
fn what_is_no_library_is_refused_with_the_reason() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    };
    let library = fs::read(libssl()).unwrap();
    let mut other_machine = library.clone();
    other_machine[18..20].copy_from_slice(&243_u16.to_le_bytes());
    let mut narrow = library.clone();
    narrow[4] = 1;
    let mut object = library.clone();
    object[16] = 1;
    let sparse = write("sparse", &library[..64]);
    File::options().write(true).open(&sparse).unwrap().set_len(10 << 30).unwrap();
    let fifo = dir.path().join("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let unknown = "no functions of a known TLS library in it (BoringSSL, OpenSSL, GnuTLS, NSS, \
                   mbedTLS, wolfSSL, s2n, Go crypto/tls, rustls)";
    for (path, why) in [
        (write("empty", b""), "not an ELF file"),
        (write("script", &b"GROUP ( libssl.so.3 libcrypto.so.3 )\n".repeat(3)), "not an ELF file"),
        (write("riscv", &other_machine), "for another machine (riscv)"),
        (write("narrow", &narrow), "not a 64-bit little-endian ELF file"),
        (write("object", &object), "neither a program nor a shared library (ELF type 1)"),
        (write("cut", &library[..library.len() / 2]), "damaged ELF file: a table beyond the end of the file"),
        (std::env::current_exe().unwrap(), unknown),
        (sparse, "larger than 4 GiB"),
        (fifo, "not a regular file"),
        ("/dev/zero".into(), "not a regular file"),
        (dir.path().into(), "not a regular file"),
        (dir.path().join("none"), "No such file or directory (os error 2)"),
    ] {
        let error = Scanner::new(Path::new(PROC)).library(&path).unwrap_err().to_string();
        assert_eq!(error, format!("{}: {why}", path.display()));
    }
}

/// GnuTLS's libgnutls-openssl, and any other that has only the names of OpenSSL's main functions.
#[test]
fn a_library_with_the_names_but_not_the_marks_is_another() {
    let mut bytes = fs::read(libssl()).unwrap();
    let mark = b"\0SSL_do_handshake\0";
    let places: Vec<_> =
        (0..bytes.len() - mark.len()).filter(|&at| &bytes[at..at + mark.len()] == mark).collect();
    assert!(!places.is_empty());
    for at in places {
        bytes[at + 1] = b'X';
    }
    let proc = FakeProc::new();
    fs::write(proc.library("libssl.so.27"), &bytes).unwrap();
    let plan = scan(proc.path(), &[7]);
    assert!(plan.found.is_empty());
    assert_eq!(plan.skipped.len(), 1);
    assert_eq!(plan.skipped[0].why, "has SSL_read but not SSL_do_handshake: not a known TLS library");
}

#[test]
fn indirect_functions_are_left_out() {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let libc = maps.split_whitespace().find(|field| field.contains("/libc.so.6")).expect("the GNU C library");
    let file = File::open(libc).unwrap();
    let functions = Elf::open(&file, BYTES_READ_MAX).unwrap().functions(&["strlen", "getpid"]).unwrap();
    assert!(functions.iter().any(|function| function.name == 1));
    assert!(functions.iter().all(|function| function.name != 0), "strlen is chosen at load time");
    assert!(!Elf::open(&file, BYTES_READ_MAX).unwrap().is_program().unwrap());
}

#[test]
fn damaged_files_end_in_an_answer() {
    let library = fs::read(libssl()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("libssl.so");
    let answer = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        let file = File::open(&path).unwrap();
        let told = recognise(&file, &[], &mut BYTES_READ_MAX.clone()).is_ok();
        if let Ok(mut elf) = Elf::open(&file, BYTES_READ_MAX) {
            let _ = (elf.functions(&["SSL_read"]), elf.build_id(), elf.defined_versions(), elf.is_program());
            assert!(elf.bytes_read() <= BYTES_READ_MAX);
        }
        told
    };
    assert!(answer(&library));
    for cut in (0..library.len()).step_by(library.len() / 60) {
        assert!(!answer(&library[..cut]), "cut at {cut}");
    }
    // Headers, section headers and tables get most of the damage: there a bit decides where to read.
    let tables = usize::try_from(u64::from_le_bytes(library[40..48].try_into().unwrap())).unwrap();
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut below = |limit: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        usize::try_from(random % limit as u64).unwrap()
    };
    for round in 0..400 {
        let mut bytes = library.clone();
        for _ in 0..4 {
            let at = match round % 4 {
                0 => below(0x400),
                1 => tables + below(library.len() - tables),
                2 => below(0x1f000),
                _ => below(library.len()),
            };
            bytes[at] ^= 1 << below(8);
        }
        answer(&bytes);
    }
}

/// A table as large as the file, that is nothing but one name, must not be kept.
#[test]
fn one_name_again_and_again_is_refused() {
    let mut bytes = fs::read(libssl()).unwrap();
    let tables = usize::try_from(u64::from_le_bytes(bytes[40..48].try_into().unwrap())).unwrap();
    let strings = bytes.len();
    bytes.extend(b"SSL_read\0".repeat(1 << 20));
    let size = (bytes.len() - strings) as u64;
    for header in (tables..strings - 63).step_by(64) {
        // SHT_STRTAB: sh_offset and sh_size are at 24 and 32.
        if bytes[header + 4] == 3 {
            bytes[header + 24..header + 32].copy_from_slice(&(strings as u64).to_le_bytes());
            bytes[header + 32..header + 40].copy_from_slice(&size.to_le_bytes());
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("libssl.so");
    fs::write(&path, bytes).unwrap();
    let error =
        recognise(&File::open(&path).unwrap(), &[], &mut BYTES_READ_MAX.clone()).unwrap_err().to_string();
    assert_eq!(error, "too large an ELF file: one function name again and again");
}

#[test]
fn no_more_is_read_than_the_budget() {
    let file = File::open(libssl()).unwrap();
    let mut budget = BYTES_READ_MAX;
    recognise(&file, &[], &mut budget).unwrap();
    let needed = BYTES_READ_MAX - budget;
    assert!(needed > 0 && needed < file.metadata().unwrap().len());
    let mut less = 10_000;
    let error = recognise(&file, &[], &mut less).unwrap_err().to_string();
    assert_eq!(error, "too large an ELF file: tables of more bytes than are read");
    assert!(less < 10_000);
}

#[test]
fn a_program_that_has_the_library_within_is_found_by_its_name() {
    let node = Path::new("/usr/bin/node");
    if !node.exists() {
        println!("SKIP: no {}", node.display());
        return;
    }
    let plan = scan(Path::new(PROC), &[std::process::id()]);
    let found = named(&plan, "node");
    assert_eq!(found.len(), 1);
    assert!(found[0].program && found[0].version.starts_with("OpenSSL 3."), "{:?}", found[0]);
    assert!(found[0].hooks.len() >= 4);
}

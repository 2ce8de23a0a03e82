//! Functions in files without names: by what they look like, by symbols that were kept elsewhere, and by what
//! the user says. Each time they must be where the symbols of the file before it was stripped say they are.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;
use tlsdump::probe::elf::BYTES_READ_MAX;
use tlsdump::probe::recognise::{Recognised, Unfit, recognise};
use tlsdump::probe::{Hook, Scanner};
use tlsdump::sys;

use crate::elf::offsets_by_readelf;
use crate::{PROC, libssl};

/// A program that uses what is to be found, so that the linker takes it in.
const PROGRAM: &str = r#"
#include <openssl/ssl.h>
#include <stdlib.h>
int main(int argc, char **argv)
{
	SSL *ssl = SSL_new(SSL_CTX_new(TLS_method()));
	size_t moved;
	char byte;

	if (argc > 1) {
		SSL_set_fd(ssl, atoi(argv[1]));
		SSL_connect(ssl);
		SSL_read(ssl, &byte, 1);
		SSL_write(ssl, &byte, 1);
		SSL_read_ex(ssl, &byte, 1, &moved);
		SSL_write_ex(ssl, &byte, 1, &moved);
		SSL_shutdown(ssl);
	}
	SSL_free(ssl);
	return 0;
}
"#;

/// A static program with OpenSSL, as the compiler makes it with these options.
struct Program {
    directory: TempDir,
    path: PathBuf,
}

impl Program {
    fn build(options: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (source, path) = (directory.path().join("program.c"), directory.path().join("program"));
        fs::write(&source, PROGRAM).unwrap();
        let mut gcc = Command::new("gcc");
        gcc.args(["-O2", "-w"]).args(options).arg("-o").arg(&path).arg(&source);
        run(gcc.args(["-lssl", "-lcrypto"]));
        Self { directory, path }
    }

    /// A copy that objcopy(1) made with these options.
    fn copy(&self, name: &str, options: &[&str]) -> PathBuf {
        let copy = self.directory.path().join(name);
        run(Command::new("objcopy").args(options).arg(&self.path).arg(&copy));
        copy
    }

    /// Where functions are in the file, by the symbols that it has.
    fn offsets(&self) -> BTreeMap<String, u64> {
        offsets_by_readelf(&self.path).expect("readelf, of binutils")
    }

    /// Their virtual addresses, by nm(1).
    fn addresses(&self) -> BTreeMap<String, u64> {
        let output = Command::new("nm").arg(&self.path).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let fields = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let symbols = fields.filter(|fields| fields.len() == 3);
        symbols.map(|f| (f[2].to_owned(), u64::from_str_radix(f[0], 16).unwrap())).collect()
    }
}

#[track_caller]
fn run(command: &mut Command) {
    let status = command.status().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(status.success(), "{command:?}");
}

fn recognised(path: &Path) -> Result<Recognised, Unfit> {
    recognise(&File::open(path).unwrap(), &[], &mut BYTES_READ_MAX.clone())
}

/// Takes from a file what its functions are known by: the name of their source file.
fn blind(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    // Put together here, so that it isn't found in this very program.
    let places = memmem(&bytes, &[b"ssl_lib", &b".c\0"[..]].concat());
    assert!(!places.is_empty(), "{}", path.display());
    for at in places {
        bytes[at] = b'x';
    }
    fs::write(path, bytes).unwrap();
}

fn memmem(bytes: &[u8], text: &[u8]) -> Vec<usize> {
    (0..bytes.len() - text.len()).filter(|&at| bytes[at..].starts_with(text)).collect()
}

/// Where a section is in the file, and its size.
fn section(path: &Path, name: &str) -> (usize, usize) {
    let output = Command::new("readelf").arg("-SW").arg(path).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let fields: Vec<_> = text.lines().find(|line| line.contains(name)).unwrap().split_whitespace().collect();
    let at = fields.iter().position(|field| *field == name).unwrap();
    let number = |field: &str| usize::from_str_radix(field, 16).unwrap();
    (number(fields[at + 3]), number(fields[at + 4]))
}

/// The build id of a file as readelf(1) shows it, in hexadecimal digits.
fn build_id(path: &Path) -> String {
    let output = Command::new("readelf").args(["-n"]).arg(path).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().find_map(|line| line.trim().strip_prefix("Build ID: ")).unwrap().to_owned()
}

/// What is hooked is where these functions are.
#[track_caller]
fn hooks_are(found: &Recognised, offsets: &BTreeMap<String, u64>, functions: &[(&str, Hook)]) {
    let mut expected: Vec<_> = functions.iter().map(|(name, hook)| (*hook, offsets[*name])).collect();
    expected.sort_unstable();
    assert_eq!(found.hooks, expected, "{found:?}");
}

/// The functions of OpenSSL 3.0 that can be told without a name.
const FOUND: [(&str, Hook); 14] = [
    ("SSL_read", Hook::ReadInt),
    ("SSL_write", Hook::WriteInt),
    ("ssl_read_internal", Hook::ReadEx),
    ("ssl_write_internal", Hook::WriteEx),
    ("SSL_do_handshake", Hook::Flush),
    ("SSL_new", Hook::New),
    ("SSL_shutdown", Hook::Shutdown),
    ("SSL_set_fd", Hook::SetFd),
    ("SSL_set_rfd", Hook::SetFd),
    ("SSL_set_wfd", Hook::SetFd),
    ("SSL_read_early_data", Hook::ReadEx),
    ("SSL_write_early_data", Hook::WriteEx),
    ("SSL_sendfile", Hook::WriteUnseen),
    ("bio_write_intern", Hook::Record),
];

#[test]
fn a_static_program_without_names_is_found_by_what_its_functions_look_like() {
    // Moved by the loader, or not: addresses are written in different ways.
    for options in [&["-static"][..], &["-static-pie"]] {
        let program = Program::build(options);
        let offsets = program.offsets();
        let stripped = recognised(&program.copy("stripped", &["--strip-all"])).unwrap();
        assert_eq!((stripped.library.name, stripped.program), ("OpenSSL", true));
        assert_eq!(stripped.doubts, []);
        let there: Vec<_> = FOUND.into_iter().filter(|(name, _)| offsets.contains_key(*name)).collect();
        hooks_are(&stripped, &offsets, &there);
    }
}

#[test]
fn without_what_unwinds_frames_functions_are_found_that_others_call() {
    let program = Program::build(&["-static"]);
    let path = program.copy("stripped", &["--strip-all"]);
    let stripped = recognised(&path).unwrap();
    let mut bytes = fs::read(&path).unwrap();
    let (begin, size) = section(&path, ".eh_frame");
    bytes[begin..begin + size].fill(0);
    fs::write(&path, bytes).unwrap();
    let bare = recognised(&path).unwrap();
    assert!(bare.hooks.iter().all(|hook| stripped.hooks.contains(hook)), "{bare:?}\n{stripped:?}");
    assert!(["SSL_read", "SSL_write"].iter().all(|name| bare.functions.contains(name)), "{bare:?}");
    assert!(bare.doubts.iter().any(|doubt| doubt.name == "SSL_write_early_data"), "{bare:?}");
}

/// A shared library as the distribution made it, its symbols made unreadable.
#[test]
fn a_shared_library_is_found_so_too() {
    let full = File::open(libssl()).unwrap();
    let named = recognise(&full, &[], &mut BYTES_READ_MAX.clone()).unwrap();
    let mut bytes = fs::read(libssl()).unwrap();
    // Names of symbols and texts of the code are in different sections.
    let (begin, size) = section(&libssl(), ".dynstr");
    for at in memmem(&bytes[begin..begin + size], b"SSL_") {
        bytes[begin + at] = b'X';
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("libssl.so");
    fs::write(&path, bytes).unwrap();
    let found = recognised(&path).unwrap();
    let places: Vec<_> = found.hooks.iter().filter(|hook| !named.hooks.contains(hook)).collect();
    // Of the library with names the functions in which these meet are probed instead, and they, like all
    // others, are found at the same places.
    assert!(places.iter().all(|(hook, _)| matches!(hook, Hook::ReadInt | Hook::WriteInt)), "{places:?}");
    assert_eq!((places.len(), found.hooks.len()), (2, 13), "{found:?}");
    assert_eq!(found.doubts.iter().map(|doubt| doubt.name).collect::<Vec<_>>(), ["BIO_write"]);
}

#[test]
fn a_function_that_is_not_found_for_certain_is_refused() {
    let program = Program::build(&["-static"]);
    let stripped = program.copy("stripped", &["--strip-all"]);
    // The name that SSL_write tells with its errors.
    let mut bytes = fs::read(&stripped).unwrap();
    for at in memmem(&bytes, b"\0SSL_write\0") {
        bytes[at + 1] = b'X';
    }
    fs::write(&stripped, bytes).unwrap();
    let why = recognised(&stripped).unwrap_err().to_string();
    let expected = "has OpenSSL without names, and no function looks like SSL_write (tell where it is: \
                    --lib FILE@SSL_write=0xADDRESS,…)";
    assert_eq!(why, expected);
    blind(&stripped);
    assert!(matches!(recognised(&stripped), Err(Unfit::Unknown)));
}

#[test]
fn compressed_symbols_in_the_file_are_read() {
    let program = Program::build(&["-static"]);
    let symbols = program.copy("symbols", &["--only-keep-debug"]);
    run(Command::new("xz").arg(&symbols));
    let section = format!(".gnu_debugdata={}.xz", symbols.display());
    let packed = program.copy("packed", &["--strip-all", "--add-section", &section]);
    blind(&packed);
    let found = recognised(&packed).unwrap();
    // All that has a name, not only what can be told without.
    assert!(["SSL_free", "SSL_connect", "SSL_read_ex"].iter().all(|name| found.functions.contains(name)));
    let named = recognised(&program.path).unwrap();
    assert_eq!((found.hooks, found.functions), (named.hooks, named.functions));

    // Damaged ones count for none.
    let mut bytes = fs::read(&packed).unwrap();
    let at = memmem(&bytes, b"\xfd7zXZ\0")[0];
    bytes[at + 100] ^= 1;
    fs::write(&packed, bytes).unwrap();
    assert!(matches!(recognised(&packed), Err(Unfit::Unknown)));
}

#[test]
fn a_file_of_symbols_is_found_by_the_build_id() {
    let program = Program::build(&["-static"]);
    let symbols = program.copy("symbols", &["--only-keep-debug"]);
    let stripped = program.copy("stripped", &["--strip-all"]);
    blind(&stripped);
    let root = tempfile::tempdir().unwrap();
    let id = build_id(&stripped);
    let place = root.path().join(format!("usr/lib/debug/.build-id/{}/{}.debug", &id[..2], &id[2..]));
    fs::create_dir_all(place.parent().unwrap()).unwrap();
    fs::copy(&symbols, &place).unwrap();
    let file = File::open(&stripped).unwrap();
    let open = sys::open_root(root.path()).unwrap();
    let look = || recognise(&file, &[&open], &mut BYTES_READ_MAX.clone());
    let (found, named) = (look().unwrap(), recognised(&program.path).unwrap());
    assert_eq!((found.hooks, found.functions), (named.hooks, named.functions));

    // One that tells of another file is nothing, be it by its build id or by where it says functions begin.
    let other = Program::build(&["-static", "-O0", "-g"]);
    fs::copy(&other.path, &place).unwrap();
    assert!(matches!(look(), Err(Unfit::Unknown)));
    let liar = Program::build(&["-static-pie", &format!("-Wl,--build-id=0x{id}")]);
    assert_eq!(build_id(&liar.path), id);
    fs::copy(&liar.path, &place).unwrap();
    assert!(matches!(look(), Err(Unfit::Unknown)));
}

#[test]
fn functions_are_where_the_user_says_if_that_can_be() {
    let program = Program::build(&["-static"]);
    let stripped = program.copy("stripped", &["--strip-all"]);
    blind(&stripped);
    let (addresses, offsets) = (program.addresses(), program.offsets());
    let look = |places: &[(&str, u64)]| {
        let places: Vec<_> = places.iter().map(|(name, at)| ((*name).to_owned(), *at)).collect();
        let mut scanner = Scanner::new(Path::new(PROC));
        scanner.library_at(&stripped, &places).map_err(|error| error.to_string())?;
        Ok::<_, String>(scanner.take().found.remove(0))
    };
    let (read, write) = (addresses["SSL_read"], addresses["SSL_write"]);
    let found = look(&[("SSL_write", write), ("SSL_read", read)]).unwrap();
    assert_eq!(found.functions, ["SSL_read", "SSL_write"]);
    let expected = [(Hook::WriteInt, offsets["SSL_write"]), (Hook::ReadInt, offsets["SSL_read"])];
    assert_eq!((found.hooks.as_slice(), found.library.name), (&expected[..], "OpenSSL"));

    for (places, why) in [
        (&[("SSL_read", read), ("SSL_peek", write)][..], "\"SSL_peek\" is no function that is probed"),
        (&[("SSL_read", read), ("gnutls_record_send", write)], "of several libraries"),
        (&[("SSL_do_handshake", read)], "none of the functions that were given reads or writes"),
        (&[("SSL_read", 8)], "is not in a segment of code"),
        (&[("SSL_read", read + 4)], &format!("one that has it within begins at 0x{read:x}")),
    ] {
        let error = look(places).unwrap_err();
        assert!(error.starts_with(stripped.to_str().unwrap()) && error.contains(why), "{error}");
    }
}

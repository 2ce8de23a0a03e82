//! Which files of a target are looked at.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use std::process::Command;

use tlsdump::probe::Scanner;

use crate::{FakeProc, PROC, libssl, scan};

#[test]
fn one_file_is_found_once_however_often_it_is_asked_for() {
    let mut scanner = Scanner::new(Path::new(PROC));
    let own = std::process::id();
    scanner.scan(&[own, own, 1]);
    scanner.library(&libssl()).unwrap();
    let plan = scanner.take();
    let id = fs::metadata(libssl()).unwrap().ino();
    assert_eq!(plan.found.iter().filter(|found| found.id.inode == id).count(), 1);
    scanner.scan(&[own]);
    scanner.library(&libssl()).unwrap();
    assert!(scanner.take().found.is_empty());
}

#[test]
fn traps_in_a_library_directory_are_neither_opened_nor_followed_out() {
    let proc = FakeProc::new();
    assert!(Command::new("mkfifo").arg(proc.library("libssl.so.0")).status().unwrap().success());
    symlink(libssl(), proc.library("libssl.so.1")).unwrap();
    symlink("/proc/self/exe", proc.library("libssl.so.2")).unwrap();
    fs::create_dir(proc.library("libssl.so.4")).unwrap();
    let sparse = proc.library("libssl.so.5");
    fs::write(&sparse, &fs::read(libssl()).unwrap()[..64]).unwrap();
    File::options().write(true).open(&sparse).unwrap().set_len(10 << 30).unwrap();
    let plan = scan(proc.path(), &[7]);
    assert!(plan.found.is_empty(), "{:?}", plan.found);
    let mut why: Vec<_> = plan.skipped.iter().map(|s| (s.path.to_str().unwrap(), s.why.as_str())).collect();
    why.sort_unstable();
    let expected =
        [("/usr/lib/libssl.so.0", "not a regular file"), ("/usr/lib/libssl.so.5", "larger than 4 GiB")];
    assert_eq!(why, expected);
}

#[test]
fn links_within_the_root_are_followed_there() {
    let proc = FakeProc::new();
    fs::create_dir(proc.path().join("root/data")).unwrap();
    fs::copy(libssl(), proc.path().join("root/data/tls.so")).unwrap();
    symlink("/data/tls.so", proc.library("libssl.so")).unwrap();
    let plan = scan(proc.path(), &[7]);
    assert_eq!(plan.found.len(), 1, "{:?}", plan.skipped);
    assert_eq!(plan.found[0].path, Path::new("/data/tls.so"));
}

#[test]
fn mapped_files_are_looked_at_whatever_their_name() {
    let proc = FakeProc::new();
    let file = proc.path().join("root/usr/bin/server");
    fs::copy(libssl(), &file).unwrap();
    symlink(&file, proc.path().join("7/map_files/1000-2000")).unwrap();
    fs::write(proc.path().join("7/maps"), "1000-2000 r-xp 00000000 fe:00 5 /usr/bin/server\n").unwrap();
    let plan = scan(proc.path(), &[7, 8]);
    assert_eq!(plan.found.len(), 1);
    assert_eq!(plan.found[0].path, Path::new("/usr/bin/server"));
    assert_eq!(plan.skipped, []);
    // Without the right to map_files, by the path within the root.
    fs::remove_file(proc.path().join("7/map_files/1000-2000")).unwrap();
    assert!(scan(proc.path(), &[7]).found.is_empty(), "another inode than the mapped one");
    let maps =
        format!("1000-2000 r-xp 00000000 fe:00 {} /usr/bin/server\n", fs::metadata(&file).unwrap().ino());
    fs::write(proc.path().join("7/maps"), maps).unwrap();
    assert_eq!(scan(proc.path(), &[7]).found.len(), 1);
}

#[test]
fn what_a_later_process_maps_is_found_without_going_through_its_root() {
    let proc = FakeProc::new();
    fs::copy(libssl(), proc.library("libssl.so.3")).unwrap();
    let mut scanner = Scanner::new(proc.path());
    scanner.scan_mapped(&[7]);
    assert!(scanner.take().found.is_empty());
    symlink(proc.library("libssl.so.3"), proc.path().join("7/exe")).unwrap();
    scanner.scan_mapped(&[7]);
    assert_eq!(scanner.take().found.len(), 1);
    scanner.scan(&[7]);
    assert!(scanner.take().found.is_empty());
}

#[test]
fn equal_files_on_two_inodes_are_two() {
    let proc = FakeProc::new();
    fs::copy(libssl(), proc.library("libssl.so.3")).unwrap();
    fs::copy(libssl(), proc.library("libssl.so.4")).unwrap();
    fs::hard_link(proc.library("libssl.so.3"), proc.library("libssl.so.5")).unwrap();
    let plan = scan(proc.path(), &[7]);
    assert_eq!(plan.found.len(), 2);
    assert_ne!(plan.found[0].id, plan.found[1].id);
}

/// A program of one segment, without sections: `constants` behind the headers.
fn program(constants: &[u8]) -> Vec<u8> {
    const HEADERS_BYTES: u64 = 64 + 56;
    let machine: u16 = if cfg!(target_arch = "x86_64") { 62 } else { 183 };
    let bytes = HEADERS_BYTES + constants.len() as u64;
    let mut file = b"\x7fELF\x02\x01\x01".to_vec();
    file.resize(16, 0);
    for half in [2, machine, 1, 0] {
        file.extend(half.to_le_bytes());
    }
    // Entry, program headers, sections.
    [0, 64, 0].iter().for_each(|word: &u64| file.extend(word.to_le_bytes()));
    file.extend([0; 4]);
    for half in [64_u16, 56, 1, 64, 0, 0] {
        file.extend(half.to_le_bytes());
    }
    // To be loaded, readable; offset, addresses, sizes, alignment.
    file.extend([1, 0, 0, 0, 4, 0, 0, 0]);
    for word in [0, 0x40_0000, 0x40_0000, bytes, bytes, 4096_u64] {
        file.extend(word.to_le_bytes());
    }
    [&file, constants].concat()
}

#[test]
fn an_inquiry_tells_of_tls_without_a_known_function() {
    for (name, constants, told) in [
        ("a", &b"c hs traffic, s ap traffic"[..], Some("has TLS within")),
        ("b", b"c hs traffics ap trafficx/rustls-0.23.5/src/a.rs", Some("has rustls 0.23.5 within")),
        ("c", b"c hs traffics ap traffic OPENSSL_internal OpenSSL", Some("has BoringSSL within")),
        ("d", b"c hs traffic rustls OpenSSL 3.0.1", None),
        ("libjvm.so", b"", Some("a Java virtual machine")),
        ("libssl.so", b"", Some("no functions of a known TLS library in it")),
    ] {
        let proc = FakeProc::new();
        let path = proc.path().join("root").join(name);
        fs::write(&path, program(constants)).unwrap();
        symlink(&path, proc.path().join("7/exe")).unwrap();
        let mut scanner = Scanner::new(proc.path()).inquiring();
        scanner.scan_mapped(&[7]);
        let plan = scanner.take();
        let why = plan.skipped.first().map(|skipped| skipped.why.as_str());
        assert_eq!((plan.found.len(), plan.skipped.len()), (0, usize::from(told.is_some())), "{plan:?}");
        assert!(told.is_none_or(|told| why.is_some_and(|why| why.starts_with(told))), "{name}: {why:?}");
        for skipped in &plan.skipped {
            assert_eq!(plan.users[&skipped.id.unwrap()], [7]);
        }
        // A capture is not slowed down by it: it tells only what the name of a file shows.
        let mut scanner = Scanner::new(proc.path());
        scanner.scan_mapped(&[7]);
        assert_eq!(scanner.take().skipped.len(), usize::from(name == "libjvm.so"));
    }
}

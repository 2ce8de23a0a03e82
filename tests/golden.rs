//! Recorded streams must give, to the byte, the files that they gave when they were blessed.
//!
//! `fixtures/NAME.stream` was recorded from real programs; `NAME.pcapng` is what `-w` makes of it,
//! `NAME.plain.pcapng` the same with `--frames plain`, and `NAME.txt` what `--text` shows.
//! `TLSDUMP_BLESS=1 cargo test --test golden` writes the last three anew: look at the difference before it is
//! committed.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support {
    pub mod pcapng;
    pub mod streams;
    pub mod tshark;
}

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::{env, fs};

use support::pcapng;
use support::streams;
use support::tshark::fields;

fn fixtures() -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    let mut all: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    all.retain(|path| path.extension().is_some_and(|extension| extension == "stream"));
    all.sort();
    assert!(!all.is_empty(), "no fixtures");
    all
}

fn tlsdump(args: &[&str], input: &Path) -> Output {
    let output = Command::new(env!("CARGO_BIN_EXE_tlsdump"))
        .arg("-r")
        .arg(input)
        .args(args)
        .env("TZ", "UTC")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}: {}", input.display(), String::from_utf8_lossy(&output.stderr));
    output
}

/// Compares with the file that was blessed, or blesses.
fn check(made: &[u8], golden: &Path) {
    if env::var_os("TLSDUMP_BLESS").is_some() {
        fs::write(golden, made).unwrap();
    }
    let blessed = fs::read(golden).unwrap();
    if made != blessed {
        let at = made.iter().zip(&blessed).take_while(|(a, b)| a == b).count();
        panic!(
            "{}: differs from byte {at} on ({} bytes made, {} blessed)",
            golden.display(),
            made.len(),
            blessed.len()
        );
    }
}

#[test]
fn every_stream_gives_its_capture_and_its_text() {
    for stream in fixtures() {
        check(&tlsdump(&["-w", "-"], &stream).stdout, &stream.with_extension("pcapng"));
        let plain = tlsdump(&["-w", "-", "--frames", "plain"], &stream).stdout;
        check(&plain, &stream.with_extension("plain.pcapng"));
        check(&tlsdump(&[], &stream).stdout, &stream.with_extension("txt"));
    }
}

#[test]
fn every_capture_is_whole_and_in_order_and_the_same_in_any_envelope() {
    for stream in fixtures() {
        let [plain, tls, sealed] = ["plain", "tls", "sealed"].map(|frames| {
            let file = tlsdump(&["-w", "-", "--frames", frames], &stream).stdout;
            streams::conversations(&pcapng::read(&file).unwrap()).unwrap()
        });
        assert!(!plain.is_empty(), "{}", stream.display());
        assert_eq!(plain.len(), tls.len(), "{}", stream.display());
        assert_eq!(plain.len(), sealed.len(), "{}", stream.display());
        for (tls, sealed) in tls.iter().zip(&sealed) {
            assert_eq!(tls.hello, sealed.hello, "{}", stream.display());
            assert!(tls.written().bytes() == sealed.written().bytes());
            assert!(tls.read().bytes() == sealed.read().bytes());
        }
        for (plain, tls) in plain.iter().zip(&tls) {
            assert!(plain.hello.is_none() && tls.hello.is_some(), "{}", stream.display());
            assert!(!plain.written().bytes().is_empty(), "{}", stream.display());
            assert!(plain.written().bytes() == tls.written().bytes());
            assert!(plain.read().bytes() == tls.read().bytes());
        }
    }
}

#[test]
fn a_cut_stream_gives_its_beginning_and_an_error() {
    let dir = tempfile::tempdir().unwrap();
    for stream in fixtures() {
        let whole = fs::read(&stream).unwrap();
        let (cut, out) = (dir.path().join("cut.stream"), dir.path().join("out.pcapng"));
        fs::write(&cut, &whole[..whole.len() - 1]).unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_tlsdump"))
            .arg("-r")
            .arg(&cut)
            .arg("-w")
            .arg(&out)
            .output()
            .unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{error}");
        assert!(error.contains("cut.stream: cut short at byte "), "{error}");
        let capture = pcapng::read(&fs::read(&out).unwrap()).unwrap();
        assert!(!capture.packets.is_empty(), "what came before the cut is in the file");
    }
}

#[test]
fn tshark_shows_what_was_asked_and_answered() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    for (name, scheme) in [("demo.pcapng", "https"), ("demo.plain.pcapng", "http")] {
        let capture = fs::read(dir.join(name)).unwrap();
        let asked = fields(&capture, "http.request", &["http.request.full_uri"]);
        let expected = [1, 2, 3].map(|n| format!("{scheme}://10.9.0.1:8443/from-a/{n}"));
        assert_eq!(asked, expected, "{name}");
        assert_eq!(fields(&capture, "http.response", &["http.response.code"]), ["200"; 3], "{name}");
    }
}

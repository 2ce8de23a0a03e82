//! Builds `tests/programs/rustls`, a Rust program with rustls in it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::SystemTime;

use crate::go_program::Gomove;
use crate::lab::Lab;

const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/programs/rustls");
/// What is built there by `./dev test` too.
const TARGET: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/rustmove");

/// The program, which takes the options of gomove, and more. It is built unless it is there already, and
/// newer than its source.
#[track_caller]
pub(crate) fn rustmove(lab: &Lab) -> Gomove<'_> {
    static ONE: Mutex<()> = Mutex::new(());
    let program = Path::new(TARGET).join("release/rustmove");
    let one = ONE.lock();
    if changed(&program).is_none_or(|built| built < newest(Path::new(SOURCE))) {
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--release", "--locked", "--target-dir", TARGET]).current_dir(SOURCE);
        let built = build.output().unwrap();
        assert!(built.status.success(), "{build:?}: {}", String::from_utf8_lossy(&built.stderr));
    }
    drop(one);
    Gomove::at(lab, program)
}

/// The same without symbols.
#[track_caller]
pub(crate) fn stripped(lab: &Lab) -> PathBuf {
    let program = lab.path("stripped");
    let status = Command::new("strip").arg("-o").arg(&program).arg(&rustmove(lab).program).status().unwrap();
    assert!(status.success());
    program
}

fn changed(file: &Path) -> Option<SystemTime> {
    fs::metadata(file).ok()?.modified().ok()
}

fn newest(directory: &Path) -> SystemTime {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let times = entries.map(|path| if path.is_dir() { newest(&path) } else { changed(&path).unwrap() });
    times.max().unwrap()
}

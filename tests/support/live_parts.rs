//! Captures in parts, as the live tests look at them.

use std::fs;
use std::path::{Path, PathBuf};

use crate::lab::Lab;
use crate::process::run;

/// A directory of the lab for one capture.
pub(crate) fn directory(lab: &Lab, name: &str) -> PathBuf {
    let directory = lab.path(name);
    fs::create_dir(&directory).unwrap();
    directory
}

/// The files in it, in order of when they were last written to, which is the order of parts.
pub(crate) fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap();
    // One that gets its name meanwhile is missed.
    let found = entries.filter_map(|entry| {
        let entry = entry.unwrap();
        Some((entry.metadata().ok()?.modified().unwrap(), entry.path()))
    });
    let mut found: Vec<_> = found.collect();
    found.sort();
    found.into_iter().map(|(_, path)| path).collect()
}

/// The name of a file.
pub(crate) fn name(path: &Path) -> &str {
    path.file_name().unwrap().to_str().unwrap()
}

/// A finished part as it was before compression; it must be whole.
#[track_caller]
pub(crate) fn unpacked(path: &Path) -> Vec<u8> {
    assert!(!name(path).contains(".part"), "{}", path.display());
    let told = run(std::process::Command::new("capinfos").arg("-c").arg(path)).succeeds();
    assert_eq!(told.stderr, "");
    let bytes = fs::read(path).unwrap();
    if path.extension().is_some_and(|extension| extension == "zst") {
        zstd::decode_all(bytes.as_slice()).unwrap()
    } else {
        bytes
    }
}

/// Ticks of a second in which Linux tells processor time, on all but two old architectures.
const TICKS: f64 = 100.0;

/// Processor time that a process has used, seconds.
pub(crate) fn used(pid: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // After the name, which is in parentheses, utime and stime are the 12th and 13th.
    let fields: Vec<_> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    ticks as f64 / TICKS
}

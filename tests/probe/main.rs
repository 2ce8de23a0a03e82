//! What is probed, decided on the real machine: its libraries, its namespaces, its overlays.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod elf;
mod files;
mod go;
mod namespaces;
mod overlays;
mod signature;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tlsdump::probe::{Found, Plan, Scanner};
use tlsdump::sys::{self, Capability};

const PROC: &str = "/proc";

/// The machine's own OpenSSL, which these tests can't do without.
fn libssl() -> PathBuf {
    let places = ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib"];
    let all = places.iter().map(|place| Path::new(place).join("libssl.so.3"));
    let found = all.into_iter().find(|path| path.exists());
    found.expect("these tests need libssl.so.3: install OpenSSL 3 (Debian: apt-get install libssl3)")
}

fn scan(proc: &Path, pids: &[u32]) -> Plan {
    let mut scanner = Scanner::new(proc);
    scanner.scan(pids);
    scanner.take()
}

fn named<'a>(plan: &'a Plan, name: &str) -> Vec<&'a Found> {
    plan.found.iter().filter(|found| found.path.ends_with(name)).collect()
}

/// Whether mounts and namespaces can be made.
fn is_root() -> bool {
    let root = sys::has_capability(Capability::SysAdmin);
    if !root {
        println!("SKIP: needs CAP_SYS_ADMIN");
    }
    root
}

/// A process that a test started; ends with the test.
struct Process(Child);

impl Process {
    /// Runs a shell script in a mount namespace of its own and waits until it has made the file `ready`.
    fn in_namespace(script: &str, ready: &Path) -> Self {
        let mut command = Command::new("unshare");
        command.args(["-m", "sh", "-ec", script]).stdin(Stdio::null());
        let process = Self(command.spawn().expect("unshare, of util-linux"));
        let start = Instant::now();
        while !ready.exists() {
            assert!(start.elapsed() < Duration::from_secs(20), "no {} by: {script}", ready.display());
            std::thread::sleep(Duration::from_millis(10));
        }
        process
    }

    fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A /proc with one process, 7, the root of which is a directory of its own.
struct FakeProc(TempDir);

impl FakeProc {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for name in ["7/map_files", "root/usr/lib", "root/usr/bin"] {
            fs::create_dir_all(dir.path().join(name)).unwrap();
        }
        symlink(dir.path().join("root"), dir.path().join("7/root")).unwrap();
        fs::write(dir.path().join("7/maps"), "").unwrap();
        Self(dir)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn library(&self, name: &str) -> PathBuf {
        self.path().join("root/usr/lib").join(name)
    }
}

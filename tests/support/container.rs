//! Containers as runtimes make them: mount namespaces over one image, whose files are the same inodes in all.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::lab::Lab;
use crate::process::{Process, run};

/// The machine's own files by overlayfs, and the directory of the test at its place. `$1` is the container's
/// directory, `$2` the test's.
const MAKE: &str = "
    mkdir \"$1\"
    mount -t tmpfs tmpfs \"$1\"
    cd \"$1\"
    mkdir upper work root
    mount -t overlay overlay -o lowerdir=/,upperdir=upper,workdir=work root
    mount --rbind /proc root/proc
    mount --rbind /dev root/dev
    mkdir -p \"root$2\"
    mount --bind \"$2\" \"root$2\"
    exec chroot root sh -c 'echo ready; exec sleep 1000'";

/// Where a process can be started.
pub(crate) trait Place {
    /// A command that will run there.
    fn command(&self, program: &(impl AsRef<OsStr> + ?Sized)) -> Command;

    /// A shell there, with a script and its arguments `$1`, …
    fn shell(&self, script: &str, arguments: &[&str]) -> Command {
        let mut command = self.command("sh");
        command.args(["-euc", script, "sh"]).args(arguments);
        command
    }
}

/// The mount namespace of the tests.
pub(crate) struct Host;

impl Place for Host {
    fn command(&self, program: &(impl AsRef<OsStr> + ?Sized)) -> Command {
        Command::new(program)
    }
}

/// A container in which nothing but a `sleep` runs, until it is dropped.
pub(crate) struct Container {
    sleep: Process,
    mntns: u32,
    /// Where it is mounted, in its own namespace.
    directory: PathBuf,
}

impl Container {
    pub(crate) fn new(lab: &Lab) -> Self {
        static MADE: AtomicUsize = AtomicUsize::new(0);
        let name = format!("container{}", MADE.fetch_add(1, Ordering::Relaxed));
        let mut make = Command::new("unshare");
        let directory = lab.path(&name);
        make.args(["--mount", "--", "sh", "-euc", MAKE, "sh"]).arg(&directory).arg(lab.directory());
        let sleep = Process::start(&make);
        sleep.stdout_line("a container", |line| line == "ready");
        let link = std::fs::read_link(format!("/proc/{}/ns/mnt", sleep.pid())).unwrap();
        let link = link.to_str().unwrap();
        let number = link.strip_prefix("mnt:[").and_then(|rest| rest.strip_suffix(']'));
        Self { mntns: number.unwrap().parse().unwrap(), sleep, directory }
    }

    /// The number of its mount namespace.
    pub(crate) fn mntns(&self) -> u32 {
        self.mntns
    }

    /// tlsdump's option for it.
    pub(crate) fn option(&self) -> String {
        format!("--mntns={}", self.mntns)
    }

    /// Makes a directory of the machine a directory of the container, as a volume is.
    pub(crate) fn bind(&self, from: &Path, to: &Path) {
        let mut command = Command::new("nsenter");
        let pid = self.sleep.pid().to_string();
        command.args(["--target", &pid, "--mount", "--", "sh", "-euc"]);
        // The namespace's own root is still the machine's; the container's is below it.
        command.args(["mkdir -p \"$2\"; mount --bind \"$1\" \"$2\"", "sh"]);
        command.arg(from).arg(self.directory.join("root").join(to.strip_prefix("/").unwrap()));
        run(&command).succeeds();
    }

    /// Its root directory, seen from outside.
    pub(crate) fn root(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root", self.sleep.pid()))
    }
}

impl Place for Container {
    fn command(&self, program: &(impl AsRef<OsStr> + ?Sized)) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.sleep.pid().to_string(), "--mount", "--root", "--"]).arg(program);
        command
    }
}

//! The files in a root directory that may be TLS libraries, by place and name.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Dir, FileType, OFlags};

use super::layers::Mount;
use super::table;
use crate::sys;

/// Where libraries are, and programs that have one within, in any distribution.
const DIRECTORIES: [&str; 9] = [
    "/lib",
    "/lib64",
    "/usr/lib",
    "/usr/lib64",
    "/usr/local/lib",
    "/usr/local/lib64",
    "/usr/bin",
    "/usr/local/bin",
    "/opt",
];
/// Where containers have their own programs; not gone into deeper.
const PROGRAM_DIRECTORIES: [&str; 8] =
    ["/", "/app", "/bin", "/go/bin", "/ko-app", "/sbin", "/usr/local/sbin", "/usr/sbin"];
/// A directory of that name too has programs, wherever it is found.
const PROGRAM_NAMES: [&str; 2] = ["bin", "sbin"];
/// A program is looked into ahead of use if it has so many bytes: one with a TLS library within has more, and
/// few others have.
const PROGRAM_BYTES_MIN: i64 = 1 << 20;
/// How deep below one of them.
const DEPTH_MAX: u32 = 12;
/// Most directory entries that are looked at in one root.
const ENTRIES_MAX: u64 = 500_000;
/// Most files that are opened in one root.
const FILES_MAX: u64 = 4096;
/// Largest configuration file of the dynamic linker, and most of them.
const CONF_BYTES_MAX: u64 = 64 << 10;
const CONF_FILES_MAX: usize = 64;
/// Most directories that they may add.
const CONF_DIRECTORIES_MAX: usize = 256;
/// File systems, by the beginning of their type, where a look at a file may take for ever or hang.
const REMOTE: [&str; 8] = ["fuse", "nfs", "cifs", "smb", "ceph", "afs", "9p", "gfs"];

/// Why a file is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// It bears a name of the table.
    Named,
    /// It is a program, and large.
    Program,
}

/// What is done with the path and name (`O_PATH`) of a file.
type Each<'a> = dyn FnMut(&Path, OwnedFd, Kind) + 'a;

/// A directory that is still to be gone through.
struct Pending {
    path: PathBuf,
    depth: u32,
    /// Whether it may be a link.
    follow: bool,
}

/// Goes through the directories of `root` that have libraries and programs, and gives `each` all that bears a
/// name of the table, and large programs. Returns what had to be left out, with the reason.
pub(super) fn walk(root: &OwnedFd, mounts: &[Mount], each: &mut Each<'_>) -> Vec<(PathBuf, String)> {
    let remote = mounts.iter().filter(|m| REMOTE.iter().any(|start| m.fs_type.starts_with(start)));
    let remote = remote.map(|mount| mount.point.clone()).collect();
    let mut walk = Walk {
        root,
        remote,
        visited: HashSet::new(),
        entries_left: ENTRIES_MAX,
        files_left: FILES_MAX,
        each,
    };
    let mut left_out = Vec::new();
    let configured = configured_directories(root);
    let start = |depth| move |path| Pending { path, depth, follow: true };
    // Taken from the end: what is gone into deeper comes first, as a directory is gone through but once.
    let mut pending: Vec<_> = PROGRAM_DIRECTORIES.map(PathBuf::from).map(start(DEPTH_MAX)).into();
    pending.extend(configured.into_iter().chain(DIRECTORIES.map(PathBuf::from)).map(start(0)));
    while let Some(directory) = pending.pop() {
        match walk.directory(&directory, &mut pending) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => left_out.push((directory.path, error.to_string())),
        }
        if walk.entries_left == 0 || walk.files_left == 0 {
            let why =
                format!("more than {ENTRIES_MAX} entries or {FILES_MAX} libraries: the rest is left out");
            left_out.push((PathBuf::from("/"), why));
            break;
        }
    }
    left_out
}

struct Walk<'a, 'e> {
    root: &'a OwnedFd,
    remote: HashSet<PathBuf>,
    /// Device and inode of directories that have been gone through: /lib and /usr/lib are often the same.
    visited: HashSet<(u64, u64)>,
    entries_left: u64,
    files_left: u64,
    each: &'a mut Each<'e>,
}

impl Walk<'_, '_> {
    fn directory(&mut self, directory: &Pending, pending: &mut Vec<Pending>) -> io::Result<()> {
        let Pending { ref path, depth, follow } = *directory;
        if self.remote.contains(path) {
            return Err(io::Error::other("on a file system that may hang"));
        }
        let follow = if follow { OFlags::empty() } else { OFlags::NOFOLLOW };
        let dir = sys::open_in_root(self.root, path, OFlags::RDONLY | OFlags::DIRECTORY | follow)?;
        let stat = rustix::fs::fstat(&dir)?;
        if !self.visited.insert((stat.st_dev, stat.st_ino)) {
            return Ok(());
        }
        let programs = has_programs(path);
        for entry in Dir::new(dir)? {
            let entry = entry?;
            self.entries_left = self.entries_left.saturating_sub(1);
            if self.entries_left == 0 || self.files_left == 0 {
                break;
            }
            let name = entry.file_name().to_bytes();
            let below = path.join(OsStr::from_bytes(name));
            match entry.file_type() {
                _ if name == b"." || name == b".." => {}
                FileType::Directory if depth < DEPTH_MAX => {
                    pending.push(Pending { path: below, depth: depth + 1, follow: false });
                }
                // Some file systems don't tell. What is no directory is then refused when it is opened as
                // one.
                FileType::Unknown if depth < DEPTH_MAX && !table::may_hold_library(name) => {
                    if self.is_directory(&below) {
                        pending.push(Pending { path: below, depth: depth + 1, follow: false });
                    } else if programs {
                        self.program(&below);
                    }
                }
                FileType::Directory => {}
                _ if table::may_hold_library(name) => self.named(&below),
                _ if programs => self.program(&below),
                _ => {}
            }
        }
        Ok(())
    }

    fn is_directory(&self, path: &Path) -> bool {
        let name = sys::open_in_root(self.root, path, OFlags::PATH | OFlags::NOFOLLOW);
        let stat = name.and_then(|name| Ok(rustix::fs::fstat(&name)?));
        stat.is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
    }

    /// A link that leads nowhere, or a file that has just gone, is nothing to speak of.
    fn named(&mut self, path: &Path) {
        if let Ok(file) = sys::open_in_root(self.root, path, OFlags::PATH) {
            self.give(path, file, Kind::Named);
        }
    }

    fn program(&mut self, path: &Path) {
        let Ok(file) = sys::open_in_root(self.root, path, OFlags::PATH) else { return };
        let Ok(stat) = rustix::fs::fstat(&file) else { return };
        let executable = stat.st_mode & 0o111 != 0;
        let regular = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        if regular && executable && stat.st_size >= PROGRAM_BYTES_MIN {
            self.give(path, file, Kind::Program);
        }
    }

    fn give(&mut self, path: &Path, file: OwnedFd, kind: Kind) {
        self.files_left = self.files_left.saturating_sub(1);
        (self.each)(path, file, kind);
    }
}

fn has_programs(directory: &Path) -> bool {
    let named = directory.file_name().is_some_and(|name| PROGRAM_NAMES.iter().any(|known| name == *known));
    named || PROGRAM_DIRECTORIES.iter().any(|known| directory == Path::new(known))
}

/// The directories in the dynamic linker's configuration (ldconfig(8)).
fn configured_directories(root: &OwnedFd) -> Vec<PathBuf> {
    let mut directories = Vec::new();
    let mut files = vec![PathBuf::from("/etc/ld.so.conf")];
    let mut read = 0;
    while let Some(file) = files.pop() {
        let Ok(text) = read_conf(root, &file) else { continue };
        read += 1;
        for line in text.lines().map(|line| line.split('#').next().unwrap_or_default().trim()) {
            match line.strip_prefix("include ") {
                Some(pattern) if read == 1 => files.extend(included(root, Path::new(pattern.trim()))),
                Some(_) => {}
                None if line.starts_with('/') => directories.push(PathBuf::from(line)),
                None => {}
            }
        }
        if read == CONF_FILES_MAX || directories.len() > CONF_DIRECTORIES_MAX {
            break;
        }
    }
    directories.truncate(CONF_DIRECTORIES_MAX);
    directories
}

fn read_conf(root: &OwnedFd, path: &Path) -> io::Result<String> {
    let name = sys::open_in_root(root, path, OFlags::PATH)?;
    if FileType::from_raw_mode(rustix::fs::fstat(&name)?.st_mode) != FileType::RegularFile {
        return Err(io::Error::other("not a regular file"));
    }
    let mut bytes = Vec::new();
    sys::reopen(&name)?.take(CONF_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The files that `include /etc/ld.so.conf.d/*.conf` means; only the last part of the path may have stars.
fn included(root: &OwnedFd, pattern: &Path) -> Vec<PathBuf> {
    let pattern = Path::new("/etc").join(pattern);
    let (Some(directory), Some(name)) = (pattern.parent(), pattern.file_name()) else { return Vec::new() };
    let open = sys::open_in_root(root, directory, OFlags::RDONLY | OFlags::DIRECTORY);
    let Ok(entries) = open.and_then(|dir| Ok(Dir::new(dir)?)) else { return Vec::new() };
    let names = entries.take(CONF_FILES_MAX).flatten();
    let fitting = names.filter(|entry| table::matches(name.as_bytes(), entry.file_name().to_bytes()));
    fitting.map(|entry| directory.join(OsStr::from_bytes(entry.file_name().to_bytes()))).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn names_in(root: &Path, mounts: &[Mount]) -> (Vec<String>, Vec<(PathBuf, String)>) {
        let mut names = Vec::new();
        let fd = sys::open_root(root).unwrap();
        let left_out = walk(&fd, mounts, &mut |path, _, _| names.push(path.to_string_lossy().into_owned()));
        names.sort();
        (names, left_out)
    }

    fn file(root: &Path, path: &str) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "").unwrap();
    }

    #[test]
    fn libraries_are_found_by_place_and_name() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        file(root, "usr/lib/x86_64-linux-gnu/libssl.so.3");
        file(root, "usr/lib/x86_64-linux-gnu/libcrypto.so.3");
        file(root, "usr/local/lib/python3.11/site-packages/psycopg2_binary.libs/libssl-4bc2b4aa.so.3");
        file(root, "usr/bin/node");
        file(root, "usr/bin/sh");
        file(root, "opt/node-v20/bin/node");
        file(root, "home/me/libssl.so.3");
        symlink("usr/lib", root.join("lib")).unwrap();
        symlink("/usr/lib/x86_64-linux-gnu", root.join("usr/lib64")).unwrap();
        let (names, left_out) = names_in(root, &[]);
        let places: Vec<_> = names.iter().map(|name| name.rsplit('/').next().unwrap()).collect();
        assert_eq!(left_out, []);
        assert_eq!(names.len(), 5, "{names:?}");
        for place in ["libssl.so.3", "libcrypto.so.3", "libssl-4bc2b4aa.so.3", "node"] {
            assert!(places.contains(&place), "{place}");
        }
    }

    #[test]
    fn large_programs_are_found_where_programs_are() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        symlink("usr/bin", root.join("bin")).unwrap();
        for (path, mode, bytes) in [
            ("server", 0o755, 1 << 20),
            ("app/server", 0o755, 1 << 20),
            ("usr/bin/tool", 0o755, 1 << 20),
            ("opt/pack/bin/tool", 0o700, 1 << 20),
            ("app/data", 0o644, 1 << 20),
            ("app/deeper/server", 0o755, 1 << 20),
            ("opt/pack/tool", 0o755, 1 << 20),
            ("usr/bin/small", 0o755, (1 << 20) - 1),
        ] {
            file(root, path);
            let file = fs::File::options().write(true).open(root.join(path)).unwrap();
            file.set_len(bytes).unwrap();
            file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
        }
        let (names, left_out) = names_in(root, &[]);
        assert_eq!(names, ["/app/server", "/opt/pack/bin/tool", "/server", "/usr/bin/tool"]);
        assert_eq!(left_out, []);
    }

    #[test]
    fn links_do_not_lead_out_and_do_not_loop() {
        let outside = tempfile::tempdir().unwrap();
        file(outside.path(), "libssl.so.3");
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        fs::create_dir_all(root.join("usr/lib/a")).unwrap();
        symlink(outside.path(), root.join("opt")).unwrap();
        symlink(outside.path().join("libssl.so.3"), root.join("usr/lib/libssl.so.1")).unwrap();
        symlink("..", root.join("usr/lib/a/up")).unwrap();
        symlink("/proc/1/root/usr/lib", root.join("usr/local")).unwrap();
        assert_eq!(names_in(root, &[]), (vec![], vec![]));
    }

    #[test]
    fn directories_of_the_linkers_configuration_are_gone_through() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        fs::create_dir_all(root.join("etc/ld.so.conf.d")).unwrap();
        fs::write(root.join("etc/ld.so.conf"), "include /etc/ld.so.conf.d/*.conf\n/srv/lib # old\n").unwrap();
        fs::write(root.join("etc/ld.so.conf.d/a.conf"), "# libs\n/data/lib\ninclude x\n").unwrap();
        fs::write(root.join("etc/ld.so.conf.d/b.txt"), "/not/this\n").unwrap();
        file(root, "srv/lib/libssl.so.1.1");
        file(root, "data/lib/libssl.so.3");
        file(root, "not/this/libssl.so.3");
        assert_eq!(names_in(root, &[]).0, ["/data/lib/libssl.so.3", "/srv/lib/libssl.so.1.1"]);
    }

    #[test]
    fn depth_and_remote_file_systems_are_bounds() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        file(root, &format!("opt/{}libssl.so.3", "d/".repeat(12)));
        file(root, &format!("opt/{}libssl.so.3", "e/".repeat(13)));
        file(root, "opt/bucket/libssl.so.3");
        let point = PathBuf::from("/opt/bucket");
        let mount = Mount { id: 1, root: "/".into(), point, fs_type: "fuse.s3fs".into(), options: vec![] };
        let (names, left_out) = names_in(root, &[mount]);
        assert_eq!(names, [format!("/opt/{}libssl.so.3", "d/".repeat(12))]);
        assert_eq!(left_out, [("/opt/bucket".into(), "on a file system that may hang".to_owned())]);
    }
}

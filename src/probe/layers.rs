//! Which inode of the kernel a file really is.
//!
//! A uprobe belongs to the inode that holds the bytes. Under overlayfs the same file of an image has another
//! `st_dev` in each container, but one inode in the image's layer; probed once for each container, each call
//! would be seen as often. So the file is looked up in the layers, which mountinfo tells.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::fs::{OFlags, Stat};

use crate::sys;

/// Most layers of an overlay that are looked into (the kernel allows 500).
const LAYERS_MAX: usize = 512;
/// How deep overlays lie on overlays: the kernel allows two.
const DEPTH_MAX: u32 = 2;
/// Most bytes that are read of a mountinfo file.
const MOUNTINFO_BYTES_MAX: u64 = 16 << 20;

/// The inode that a uprobe is attached to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileId {
    /// Device number as stat(2) gives it.
    pub device: u64,
    /// Inode number on it.
    pub inode: u64,
}

impl FileId {
    pub(super) fn of(stat: &Stat) -> Self {
        Self { device: stat.st_dev, inode: stat.st_ino }
    }
}

/// One line of a mountinfo file (proc_pid_mountinfo(5)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mount {
    pub(super) id: u64,
    /// The directory of the file system that is mounted.
    pub(super) root: PathBuf,
    /// Where, seen from the root of the process.
    pub(super) point: PathBuf,
    pub(super) fs_type: String,
    /// Options of the file system, still escaped.
    pub(super) options: Vec<u8>,
}

/// Finds inodes; remembers the mounts that it has seen. To be used for one pass only: when a mount is gone
/// its number may be given to another.
#[derive(Debug)]
pub(super) struct Layers {
    proc: PathBuf,
    overlays: HashMap<u64, Option<Overlay>>,
}

/// Where the layers of a mount are, and where its files are in them.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Overlay {
    /// The upper layer, if any, first.
    layers: Vec<PathBuf>,
    /// Whether the first of the layers is an upper one.
    upper: bool,
    root: PathBuf,
    point: PathBuf,
    /// Whether `point` is seen from this process's root rather than from that of the target.
    own: bool,
}

impl Layers {
    pub(super) fn new(proc: &Path) -> Self {
        Self { proc: proc.to_owned(), overlays: HashMap::new() }
    }

    /// The inode behind `file`, that process `pid` sees. `shown` is [`sys::shown_path`] of it, `path` the
    /// same seen from the root of the process. Where the layers don't tell it for certain the answer is the
    /// inode that stat(2) shows: then the file may be probed once for each container that has it.
    pub(super) fn inode(
        &mut self,
        file: &OwnedFd,
        stat: &Stat,
        pid: u32,
        shown: &Path,
        path: &Path,
    ) -> FileId {
        self.real(file, stat, Some(pid), shown, path, DEPTH_MAX).unwrap_or(FileId::of(stat))
    }

    fn real(
        &mut self,
        file: &OwnedFd,
        stat: &Stat,
        pid: Option<u32>,
        shown: &Path,
        path: &Path,
        depth: u32,
    ) -> Option<FileId> {
        // Overlays have no device of their own; what has one is the inode itself.
        if rustix::fs::major(stat.st_dev) != 0 {
            return Some(FileId::of(stat));
        }
        let id = sys::mount_id(file).ok()?;
        if !self.overlays.contains_key(&id) {
            let overlay = self.overlay(id, pid);
            self.overlays.insert(id, overlay);
        }
        let overlay = self.overlays.get(&id)?.clone()?;
        let seen = if overlay.own { shown } else { path };
        let within = overlay.root.strip_prefix("/").ok()?.join(seen.strip_prefix(&overlay.point).ok()?);
        let (layer, found) = self.hosts().find_map(|host| overlay.find(&host, &within, stat))?;
        let shown = sys::shown_path(&layer).ok()?;
        // A layer may itself be on an overlay, as when containers run within a container.
        match depth.checked_sub(1) {
            Some(depth) => {
                self.real(&layer, &found, None, &shown, &shown, depth).or(Some(FileId::of(&found)))
            }
            None => Some(FileId::of(&found)),
        }
    }

    /// The overlay with that mount id, if it is one and can be believed.
    fn overlay(&self, id: u64, pid: Option<u32>) -> Option<Overlay> {
        let own = self.mount(Path::new("self"), id);
        if let Some(mount) = own {
            return overlay_of(&mount, true);
        }
        let dir = PathBuf::from(pid?.to_string());
        // Where a user may mount, a user may choose what the layers are called.
        if !is_owned_by_us(&self.proc.join(&dir).join("ns/mnt")) {
            return None;
        }
        overlay_of(&self.mount(&dir, id)?, false)
    }

    /// Roots below which the paths of layers may mean something: they are those of whoever mounted, most
    /// often a runtime on the host, and we may be in a container that sees the host's processes.
    fn hosts(&self) -> impl Iterator<Item = OwnedFd> {
        [PathBuf::from("/"), self.proc.join("1/root")]
            .into_iter()
            .filter_map(|path| sys::open_root(&path).ok())
    }

    fn mount(&self, process: &Path, id: u64) -> Option<Mount> {
        mounts(&self.proc.join(process)).into_iter().find(|mount| mount.id == id)
    }
}

impl Overlay {
    /// The file `within` in the first layer that has it, which is the one that the overlay shows: layers with
    /// a whiteout or an opaque directory hide those below, but then there is nothing to be shown. Only a
    /// renamed directory or a file with its data elsewhere is different; then what is found is not the same
    /// file.
    fn find(&self, host: &OwnedFd, within: &Path, seen: &Stat) -> Option<(OwnedFd, Stat)> {
        for (number, layer) in self.layers.iter().enumerate() {
            // A layer that can't be seen can't hide a mistake: no file above has the same number and times.
            let dir = sys::open_in_root(host, layer, OFlags::PATH | OFlags::DIRECTORY);
            let Ok(dir) = dir else { continue };
            let Ok(file) = sys::open_name_beneath(&dir, within) else { continue };
            let stat = rustix::fs::fstat(&file).ok()?;
            let copied_up = self.upper && number == 0;
            return (is_same(seen, &stat, copied_up) && !has_data_elsewhere(&file)).then_some((file, stat));
        }
        None
    }
}

/// Whether a file in a layer is the one that the overlay shows. It shows all of the layer's own attributes
/// but device and inode number: a file that was changed keeps the number of the one it was before, and of a
/// number from a lower layer the high bits may tell the layer (`xino`).
fn is_same(seen: &Stat, layer: &Stat, copied_up: bool) -> bool {
    const NUMBER: u64 = 0xffff_ffff;
    let times = |s: &Stat| (s.st_mtime, s.st_mtime_nsec, s.st_ctime, s.st_ctime_nsec);
    seen.st_mode == layer.st_mode
        && seen.st_size == layer.st_size
        && times(seen) == times(layer)
        && (copied_up || seen.st_ino & NUMBER == layer.st_ino & NUMBER)
}

/// Whether only the attributes of the file are in this layer (`metacopy`).
fn has_data_elsewhere(file: &OwnedFd) -> bool {
    let path = sys::fd_path(file);
    let marks = ["trusted.overlay.metacopy", "user.overlay.metacopy"];
    marks.iter().any(|mark| rustix::fs::getxattr_query(&path, *mark).is_ok())
}

/// Whether the mounts of a namespace were made with the rights of our own user namespace.
fn is_owned_by_us(namespace: &Path) -> bool {
    let owner = File::open(namespace).and_then(|file| sys::namespace_owner(file.as_fd()));
    let ours = std::fs::metadata("/proc/self/ns/user");
    let (Ok(owner), Ok(ours)) = (owner, ours) else { return false };
    let ours = std::os::unix::fs::MetadataExt::ino(&ours);
    rustix::fs::fstat(&owner).is_ok_and(|owner| owner.st_ino == ours)
}

fn overlay_of(mount: &Mount, own: bool) -> Option<Overlay> {
    if mount.fs_type != "overlay" {
        return None;
    }
    let (layers, upper) = layers_of(&mount.options)?;
    Some(Overlay { layers, upper, root: mount.root.clone(), point: mount.point.clone(), own })
}

/// The layers in the options of an overlay, the upper one (if any) first, and whether there is an upper one.
/// None when a layer's path isn't whole.
fn layers_of(options: &[u8]) -> Option<(Vec<PathBuf>, bool)> {
    let mut upper = None;
    let mut lower = Vec::new();
    for option in options.split(|&byte| byte == b',') {
        let option = unescape_octal(option);
        if let Some(path) = option.strip_prefix(b"upperdir=") {
            upper = Some(unescape_backslash(path));
        } else if let Some(paths) = option.strip_prefix(b"lowerdir=") {
            lower.extend(split_colons(paths));
        } else if let Some(path) = option.strip_prefix(b"lowerdir+=") {
            lower.push(path.to_vec());
        }
    }
    let has_upper = upper.is_some();
    let layers: Vec<_> = upper.into_iter().chain(lower).map(to_path).collect();
    let whole = !layers.is_empty() && layers.len() <= LAYERS_MAX && layers.iter().all(|l| l.is_absolute());
    whole.then_some((layers, has_upper))
}

/// `a:b\:c` → `a`, `b:c`. An empty part (layers that hold data only come after `::`) is left out.
fn split_colons(text: &[u8]) -> Vec<Vec<u8>> {
    let mut parts = vec![Vec::new()];
    let mut bytes = text.iter();
    while let Some(&byte) = bytes.next() {
        match byte {
            b':' => parts.push(Vec::new()),
            b'\\' => parts.last_mut().into_iter().for_each(|part| part.extend(bytes.next())),
            _ => parts.last_mut().into_iter().for_each(|part| part.push(byte)),
        }
    }
    parts.retain(|part| !part.is_empty());
    parts
}

fn unescape_backslash(text: &[u8]) -> Vec<u8> {
    let mut bytes = text.iter();
    let mut plain = Vec::with_capacity(text.len());
    while let Some(&byte) = bytes.next() {
        plain.extend(if byte == b'\\' { bytes.next().copied() } else { Some(byte) });
    }
    plain
}

/// The mounts that a process sees, none when they can't be read.
pub(super) fn mounts(process: &Path) -> Vec<Mount> {
    let mut text = Vec::new();
    let read = File::open(process.join("mountinfo")).and_then(|file| {
        std::io::Read::read_to_end(&mut std::io::Read::take(file, MOUNTINFO_BYTES_MAX), &mut text)
    });
    if read.is_err() { Vec::new() } else { parse_mountinfo(&text) }
}

/// Lines that make no sense are left out.
fn parse_mountinfo(text: &[u8]) -> Vec<Mount> {
    text.split(|&byte| byte == b'\n').filter_map(parse_mount).collect()
}

/// `36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue`
fn parse_mount(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|&byte| byte == b' ');
    let id = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
    let root = to_path(unescape_octal(fields.nth(2)?));
    let point = to_path(unescape_octal(fields.next()?));
    let mut rest = fields.skip_while(|&field| field != b"-").skip(1);
    let fs_type = String::from_utf8(unescape_octal(rest.next()?)).ok()?;
    let options = rest.nth(1)?.to_vec();
    Some(Mount { id, root, point, fs_type, options })
}

/// `\040` → space: how the kernel writes bytes that would be taken for separators.
pub(super) fn unescape_octal(text: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, tail)) = rest.split_first() {
        let code = (byte == b'\\').then(|| tail.get(..3).and_then(octal)).flatten();
        plain.push(code.unwrap_or(byte));
        rest = if code.is_some() { tail.get(3..).unwrap_or_default() } else { tail };
    }
    plain
}

fn octal(digits: &[u8]) -> Option<u8> {
    digits.iter().all(|d| (b'0'..=b'7').contains(d)).then_some(())?;
    u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok()
}

fn to_path(bytes: Vec<u8>) -> PathBuf {
    PathBuf::from(OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTINFO: &[u8] = b"\
22 1 253:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,discard
40 22 0:34 / /var/lib/docker/overlay2/f00/merged rw - overlay overlay rw,lowerdir=/l/A:/l/B
41 22 0:35 /sub\\040dir /mnt/a\\134b ro,relatime master:2 propagate_from:3 - overlay none ro,lowerdir+=/z
42 22 0:36 / /short
x 22 0:36 / /bad rw - tmpfs t rw
";

    fn path(text: &str) -> PathBuf {
        PathBuf::from(text)
    }

    #[test]
    fn mounts_are_read_and_damaged_lines_left_out() {
        let mounts = parse_mountinfo(MOUNTINFO);
        let short: Vec<_> = mounts.iter().map(|m| (m.id, m.fs_type.as_str(), m.point.clone())).collect();
        assert_eq!(
            short,
            [
                (22, "ext4", path("/")),
                (40, "overlay", path("/var/lib/docker/overlay2/f00/merged")),
                (41, "overlay", path("/mnt/a\\b")),
            ]
        );
        assert_eq!(mounts[2].root, path("/sub dir"));
    }

    #[test]
    fn layers_are_in_order_upper_first() {
        for (options, layers) in [
            (
                "rw,lowerdir=/l/A:/l/B,upperdir=/u\\040p,workdir=/w",
                Some((vec!["/u p", "/l/A", "/l/B"], true)),
            ),
            ("ro,lowerdir=/a:/b", Some((vec!["/a", "/b"], false))),
            ("ro,lowerdir+=/a:x,lowerdir+=/b,datadir+=/d", Some((vec!["/a:x", "/b"], false))),
            ("rw,lowerdir=/a\\134:b:/c\\054d,xino=off", Some((vec!["/a:b", "/c,d"], false))),
            ("rw,lowerdir=/a::/data", Some((vec!["/a", "/data"], false))),
            // Relative to where the runtime was when it mounted; that isn't told.
            ("rw,lowerdir=l/A:l/B,upperdir=f00/diff", None),
            ("rw,lowerdir=/a,upperdir=diff", None),
            ("rw", None),
            ("", None),
        ] {
            let expected = layers.map(|(all, upper)| (all.into_iter().map(path).collect(), upper));
            assert_eq!(layers_of(options.as_bytes()), expected, "{options}");
        }
        let many = format!("lowerdir={}", vec!["/a"; LAYERS_MAX + 1].join(":"));
        assert_eq!(layers_of(many.as_bytes()), None);
    }

    #[test]
    fn escapes_are_undone_and_what_is_none_is_kept() {
        for (text, plain) in [
            ("a\\040b", "a b"),
            ("\\134", "\\"),
            ("\\04", "\\04"),
            ("\\999", "\\999"),
            ("\\777", "\\777"),
            ("\\", "\\"),
        ] {
            assert_eq!(unescape_octal(text.as_bytes()), plain.as_bytes(), "{text}");
        }
    }
}

//! All `unsafe` code of the crate, and the system calls that need care.

#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::ops::RangeInclusive;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::ioctl::{Getter, Ioctl, IoctlOutput, Opcode, opcode};
use rustix::thread::{CapabilitySet, LinkNameSpaceType, UnshareFlags};
use rustix::time::{ClockId, Timespec};

use crate::event::Clock;

mod packets;

pub use packets::{PacketRing, SeenPacket};

/// The ioctl group of nsfs, `NSIO` in `linux/nsfs.h`.
const NSIO: u8 = 0xb7;
/// `_IO(NSIO, 0x1)`: a new descriptor of the user namespace that owns a namespace.
const NS_GET_USERNS: Opcode = opcode::none(NSIO, 0x1);
/// `_IO(NSIO, 0x3)`: the `CLONE_NEW*` flag of a namespace.
const NS_GET_NSTYPE: Opcode = opcode::none(NSIO, 0x3);
/// `_IOR(NSIO, 0x5, __u64)`: the id of a mount namespace that is never used again (Linux 6.11 and later).
const NS_GET_MNTNS_ID: Opcode = opcode::read::<u64>(NSIO, 0x5);
/// `CLONE_NEWNS` of `linux/sched.h`: what [`NS_GET_NSTYPE`] says of a mount namespace.
const CLONE_NEWNS: i32 = 0x0002_0000;
/// `NSFS_MAGIC` of `linux/magic.h`.
const NSFS_MAGIC: u64 = 0x6e73_6673;

/// How often [`clock`] reads the clocks to find a reading that was not interrupted.
const CLOCK_READINGS: u32 = 8;

/// Where a descriptor of this process can be opened, or attached to, by path.
#[must_use]
pub fn fd_path(fd: impl AsFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd()))
}

/// Opens `path` only to name it (`O_PATH`): no driver sees the open, so a FIFO or a device can't do harm.
/// Symbolic links are followed, those of /proc too.
///
/// # Errors
/// Those of open(2).
pub fn open_name(path: &Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?)
}

/// Opens the directory `path` as a root for [`open_in_root`].
///
/// # Errors
/// Those of open(2).
pub fn open_root(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

/// Opens `path` as if `root` were the root directory: absolute symbolic links and `..` stay within it, links
/// of /proc are refused.
///
/// # Errors
/// Those of openat2(2); [`io::ErrorKind::Unsupported`] before Linux 5.6.
pub fn open_in_root(root: impl AsFd, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
    open_resolved(root, path, flags, ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS)
}

/// Names the file `path` below the directory `dir` (`O_PATH`), where no part of it may be a symbolic link.
///
/// # Errors
/// Those of openat2(2); [`io::ErrorKind::Unsupported`] before Linux 5.6.
pub fn open_name_beneath(dir: impl AsFd, path: &Path) -> io::Result<OwnedFd> {
    open_resolved(dir, path, OFlags::PATH, ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS)
}

fn open_resolved(dir: impl AsFd, path: &Path, flags: OFlags, how: ResolveFlags) -> io::Result<OwnedFd> {
    // The kernel gives up with EAGAIN when a rename anywhere on the machine races with "..".
    const TRIES: u32 = 16;
    let mut tried = 0;
    loop {
        match rustix::fs::openat2(dir.as_fd(), path, flags | OFlags::CLOEXEC, Mode::empty(), how) {
            Err(rustix::io::Errno::AGAIN) if tried < TRIES => tried += 1,
            done => return Ok(done?),
        }
    }
}

/// Opens a named (`O_PATH`) file for reading. The caller has checked that it is a regular file.
///
/// # Errors
/// Those of open(2).
pub fn reopen(name: impl AsFd) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(fd_path(name), flags, Mode::empty())?.into())
}

/// The path that the kernel shows for a descriptor: seen from this process's root where the file can be
/// reached from there, else from the root of the file's own mount namespace.
///
/// # Errors
/// Those of readlink(2).
pub fn shown_path(fd: impl AsFd) -> io::Result<PathBuf> {
    std::fs::read_link(fd_path(fd))
}

/// The mount that a descriptor was opened through: the first number of its line in a mountinfo file.
/// Unique on the machine while the mount exists.
///
/// # Errors
/// When /proc/self/fdinfo can't be read or has no such line.
pub fn mount_id(fd: impl AsFd) -> io::Result<u64> {
    let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_fd().as_raw_fd()))?;
    let number = text.lines().find_map(|line| line.strip_prefix("mnt_id:"));
    number.and_then(|n| n.trim().parse().ok()).ok_or_else(|| io::Error::other("fdinfo without mnt_id"))
}

/// Whether the file behind `fd` (`O_PATH` suffices) is a namespace, of whatever kind.
///
/// # Errors
/// Those of fstatfs(2).
pub fn is_namespace(fd: impl AsFd) -> io::Result<bool> {
    // The type of f_type differs by architecture; the magic number fits all of them.
    Ok(u64::try_from(rustix::fs::fstatfs(fd)?.f_type).is_ok_and(|magic| magic == NSFS_MAGIC))
}

/// Whether an open namespace is a mount namespace.
///
/// # Errors
/// Those of ioctl(2), such as ENOTTY when it is no namespace at all.
pub fn is_mount_namespace(namespace: impl AsFd) -> io::Result<bool> {
    // SAFETY: the request takes no argument and writes nothing into this process.
    let kind = unsafe { rustix::ioctl::ioctl(namespace, ReturnedInt::<NS_GET_NSTYPE>) }?;
    Ok(kind == CLONE_NEWNS)
}

/// The user namespace that owns an open namespace.
///
/// # Errors
/// Those of ioctl(2): EPERM when the owner is outside of this process's own user namespace.
pub fn namespace_owner(namespace: impl AsFd) -> io::Result<OwnedFd> {
    // SAFETY: the request takes no argument and writes nothing into this process.
    let fd = unsafe { rustix::ioctl::ioctl(namespace, ReturnedInt::<NS_GET_USERNS>) }?;
    // SAFETY: the kernel has just made this descriptor for us; nobody else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The id of an open mount namespace that no other will ever have: `mnt_namespace::seq`, since Linux 6.18
/// `ns_common::ns_id`.
///
/// # Errors
/// Those of ioctl(2): ENOTTY before Linux 6.11, EINVAL when it is another kind of namespace.
pub fn mount_namespace_id(namespace: impl AsFd) -> io::Result<u64> {
    // SAFETY: the kernel writes one u64 for this request, the size of which is part of the request.
    let get = unsafe { Getter::<NS_GET_MNTNS_ID, u64>::new() };
    // SAFETY: as above; `Getter` owns the memory that is written.
    Ok(unsafe { rustix::ioctl::ioctl(namespace, get) }?)
}

/// Moves the calling thread, and no other, into an open mount namespace. Its root and working directory
/// become those of the namespace. Meant for a thread that ends soon: there is no way back.
///
/// # Errors
/// Those of unshare(2) and setns(2): needs CAP_SYS_ADMIN and CAP_SYS_CHROOT.
pub fn enter_mount_namespace(namespace: impl AsFd) -> io::Result<()> {
    // SAFETY: CLONE_FS only gives this thread its own root, working directory and umask; it takes no memory
    // or descriptor from anyone. Without it setns would refuse, as other threads would move too.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::FS) }?;
    let kind = Some(LinkNameSpaceType::Mount);
    Ok(rustix::thread::move_into_link_name_space(namespace.as_fd(), kind)?)
}

/// Both clocks as nearly at one moment as can be had: the wall clock between two readings of the monotonic
/// one, the closest pair of some.
#[must_use]
pub fn clock() -> Clock {
    let mut best = (u64::MAX, Clock { mono: 0, wall: 0 });
    for _ in 0..CLOCK_READINGS {
        let before = nanoseconds(rustix::time::clock_gettime(ClockId::Monotonic));
        let wall = nanoseconds(rustix::time::clock_gettime(ClockId::Realtime));
        let after = nanoseconds(rustix::time::clock_gettime(ClockId::Monotonic));
        let width = after.saturating_sub(before);
        if width < best.0 {
            best = (width, Clock { mono: before + width / 2, wall });
        }
    }
    best.1
}

/// A time before 1970 counts as 0; one after 2554 as the greatest.
fn nanoseconds(time: Timespec) -> u64 {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let rest = u64::try_from(time.tv_nsec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(rest)
}

/// The running kernel: `Linux 6.1.0-18-amd64 x86_64`.
#[must_use]
pub fn kernel() -> String {
    let names = rustix::system::uname();
    let text = |name: &std::ffi::CStr| name.to_string_lossy().into_owned();
    format!("{} {} {}", text(names.sysname()), text(names.release()), text(names.machine()))
}

/// Version and machine of the running kernel: `("6.1.0-18-amd64", "x86_64")`.
#[must_use]
pub fn kernel_release() -> (String, String) {
    let names = rustix::system::uname();
    (names.release().to_string_lossy().into_owned(), names.machine().to_string_lossy().into_owned())
}

/// A right that capturing may need.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Capability {
    /// `CAP_SYS_ADMIN`.
    SysAdmin,
    /// `CAP_BPF` (Linux 5.8 and later; part of `CAP_SYS_ADMIN` before).
    Bpf,
    /// `CAP_PERFMON` (Linux 5.8 and later; part of `CAP_SYS_ADMIN` before).
    Perfmon,
    /// `CAP_SYS_PTRACE`.
    SysPtrace,
}

/// Whether this thread has a capability in its effective set. False too when the kernel doesn't say.
#[must_use]
pub fn has_capability(capability: Capability) -> bool {
    let wanted = match capability {
        Capability::SysAdmin => CapabilitySet::SYS_ADMIN,
        Capability::Bpf => CapabilitySet::BPF,
        Capability::Perfmon => CapabilitySet::PERFMON,
        Capability::SysPtrace => CapabilitySet::SYS_PTRACE,
    };
    rustix::thread::capabilities(None).is_ok_and(|sets| sets.effective.contains(wanted))
}

/// From now on the kernel kills this process, of which this must be the only thread, when it makes a system
/// call with one of these numbers. There is no way back.
///
/// # Errors
/// Those of prctl(2): EINVAL where the kernel has no seccomp filters.
pub fn forbid_calls(numbers: RangeInclusive<u32>) -> io::Result<()> {
    use libc::{BPF_ABS, BPF_JGE, BPF_JGT, BPF_JMP, BPF_K, BPF_LD, BPF_RET, BPF_W, sock_filter};
    rustix::thread::set_no_new_privs(true)?;
    let step = |code: u32, k, jt, jf| sock_filter { code: code as u16, jt, jf, k };
    // The number is what `struct seccomp_data` begins with.
    let mut steps = [
        step(BPF_LD | BPF_W | BPF_ABS, 0, 0, 0),
        step(BPF_JMP | BPF_JGE | BPF_K, *numbers.start(), 0, 2),
        step(BPF_JMP | BPF_JGT | BPF_K, *numbers.end(), 1, 0),
        step(BPF_RET | BPF_K, libc::SECCOMP_RET_KILL_PROCESS, 0, 0),
        step(BPF_RET | BPF_K, libc::SECCOMP_RET_ALLOW, 0, 0),
    ];
    let program = libc::sock_fprog { len: steps.len() as u16, filter: steps.as_mut_ptr() };
    // SAFETY: the kernel copies the program, which `steps` outlives, and writes nothing to this process.
    let result = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// An ioctl without argument, the answer of which is its return value.
struct ReturnedInt<const OPCODE: Opcode>;

// SAFETY: no pointer is handed to the kernel, so there is nothing that it could write to.
unsafe impl<const OPCODE: Opcode> Ioctl for ReturnedInt<OPCODE> {
    type Output = i32;
    const IS_MUTATING: bool = false;

    fn opcode(&self) -> Opcode {
        OPCODE
    }

    fn as_ptr(&mut self) -> *mut rustix::ffi::c_void {
        std::ptr::null_mut()
    }

    unsafe fn output_from_ptr(
        returned: IoctlOutput,
        _argument: *mut rustix::ffi::c_void,
    ) -> rustix::io::Result<i32> {
        Ok(returned)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absolute_links_and_dots_stay_within_the_root() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("etc")).unwrap();
        std::fs::write(dir.path().join("etc/hostname"), "inside").unwrap();
        std::os::unix::fs::symlink("/etc/hostname", dir.path().join("absolute")).unwrap();
        std::os::unix::fs::symlink("../../../../etc/hostname", dir.path().join("up")).unwrap();
        std::os::unix::fs::symlink("/proc/self/exe", dir.path().join("proc")).unwrap();
        let root = open_root(dir.path()).unwrap();
        for name in ["absolute", "/absolute", "up", "../etc/hostname"] {
            let fd = open_in_root(&root, Path::new(name), OFlags::PATH).unwrap();
            assert_eq!(shown_path(&fd).unwrap(), dir.path().canonicalize().unwrap().join("etc/hostname"));
            assert_eq!(io::read_to_string(reopen(&fd).unwrap()).unwrap(), "inside");
        }
        assert!(open_in_root(&root, Path::new("proc"), OFlags::PATH).is_err());
    }

    #[test]
    fn links_of_proc_are_refused() {
        let root = open_root(Path::new("/")).unwrap();
        let refused = open_in_root(&root, Path::new("/proc/self/exe"), OFlags::PATH).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(rustix::io::Errno::LOOP.raw_os_error()));
    }

    #[test]
    fn nothing_beneath_is_reached_through_a_link() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("real")).unwrap();
        std::fs::write(dir.path().join("real/file"), "x").unwrap();
        std::os::unix::fs::symlink("real", dir.path().join("link")).unwrap();
        let root = open_root(dir.path()).unwrap();
        assert!(open_name_beneath(&root, Path::new("real/file")).is_ok());
        assert!(open_name_beneath(&root, Path::new("link/file")).is_err());
        assert!(open_name_beneath(&root, Path::new("../x")).is_err());
    }

    #[test]
    fn the_mount_of_a_file_is_in_mountinfo() {
        let id = mount_id(open_name(Path::new("/proc/self/status")).unwrap()).unwrap();
        let text = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let line = text.lines().find(|l| l.split(' ').next() == Some(&id.to_string())).unwrap();
        assert_eq!(line.split(' ').nth(4), Some("/proc"));
    }

    #[test]
    fn namespaces_are_told_apart_from_files_and_from_each_other() {
        let mount = File::open("/proc/self/ns/mnt").unwrap();
        assert!(is_namespace(&mount).unwrap());
        assert!(is_mount_namespace(&mount).unwrap());
        let net = File::open("/proc/self/ns/net").unwrap();
        assert!(is_namespace(&net).unwrap());
        assert!(!is_mount_namespace(&net).unwrap());
        let file = File::open("/proc/self/status").unwrap();
        assert!(!is_namespace(&file).unwrap());
        assert!(is_mount_namespace(&file).is_err());
    }

    #[test]
    fn the_clocks_agree_with_their_own_readings() {
        let first = clock();
        let wall = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos();
        let second = clock();
        assert!(first.mono < second.mono);
        assert!(u128::from(first.wall) <= wall && wall <= u128::from(second.wall));
        let drift = (second.wall - first.wall).abs_diff(second.mono - first.mono);
        assert!(drift < 1_000_000_000, "{drift} ns");
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn a_forbidden_call_kills_and_no_other() {
        use std::os::unix::process::{CommandExt, ExitStatusExt};
        // Numbers without a meaning.
        let killed = Some(libc::SIGSYS);
        for (number, signal) in [(399, None), (400, killed), (423, killed), (5000, None)] {
            let mut command = std::process::Command::new("true");
            let call = move || {
                forbid_calls(400..=423)?;
                // SAFETY: there is no such call, so it does nothing.
                unsafe { libc::syscall(number) };
                Ok(())
            };
            // SAFETY: between fork and exec it only makes system calls, and takes no lock or memory.
            unsafe { command.pre_exec(call) };
            assert_eq!(command.status().unwrap().signal(), signal, "{number}");
        }
    }

    #[test]
    fn the_kernel_is_named() {
        let name = kernel();
        assert!(name.starts_with("Linux ") && name.ends_with(std::env::consts::ARCH), "{name}");
    }

    #[test]
    fn capabilities_are_those_of_proc() {
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        let line = status.lines().find_map(|l| l.strip_prefix("CapEff:")).unwrap();
        let effective = u64::from_str_radix(line.trim(), 16).unwrap();
        // The numbers of linux/capability.h.
        for (capability, bit) in [
            (Capability::SysPtrace, 19),
            (Capability::SysAdmin, 21),
            (Capability::Perfmon, 38),
            (Capability::Bpf, 39),
        ] {
            assert_eq!(has_capability(capability), effective >> bit & 1 == 1, "{capability:?}");
        }
    }
}

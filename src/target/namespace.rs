//! Mount namespaces: how the user says which, and what the kernel tells of one.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use super::TargetError;
use crate::event::MountNs;
use crate::sys;

/// A mount namespace as the user may write it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MntNsSpec {
    /// `4026532573` or `mnt:[4026532573]`, as `lsns` and `readlink` show it.
    Number(u32),
    /// A file that is the namespace: `/proc/123/ns/mnt`, or one that it was mounted on.
    File(PathBuf),
}

/// Reads what the user wrote after `--mntns`.
///
/// # Errors
/// When it is none of the forms of [`MntNsSpec`].
pub fn parse_mntns(text: &str) -> Result<MntNsSpec, TargetError> {
    if text.contains('/') {
        return Ok(MntNsSpec::File(PathBuf::from(text)));
    }
    let bad = || TargetError::BadNamespace(text.to_owned());
    number_in(text).filter(|&n| n != 0).map(MntNsSpec::Number).ok_or_else(bad)
}

impl MntNsSpec {
    /// The number of the namespace.
    ///
    /// # Errors
    /// When the file can't be opened or is no mount namespace.
    pub fn number(&self) -> Result<u32, TargetError> {
        match self {
            Self::Number(number) => Ok(*number),
            Self::File(path) => {
                let known = open_namespace(path).and_then(|file| Ok((sys::is_mount_namespace(&file)?, file)));
                match known {
                    Ok((true, file)) => number_of(&file).map_err(|e| TargetError::Namespace(path.clone(), e)),
                    Ok((false, _)) => Err(TargetError::OtherNamespace(path.clone())),
                    Err(error) => Err(TargetError::Namespace(path.clone(), error)),
                }
            }
        }
    }
}

/// The mount namespace of a process, number and id. The id is 0 where the kernel doesn't tell it (before
/// Linux 6.11); then [`learn_in_namespace`] lets the kernel side see it.
///
/// # Errors
/// Those of opening /proc/PID/ns/mnt.
pub fn namespace_of(proc: &Path, pid: u32) -> io::Result<MountNs> {
    let file = File::open(mnt_file(proc, pid))?;
    Ok(MountNs { number: number_of(&file)?, id: sys::mount_namespace_id(&file).unwrap_or(0) })
}

/// The number of the mount namespace of a process, by the link's text only.
pub(super) fn number_by_link(proc: &Path, pid: u32) -> Option<u32> {
    let text = std::fs::read_link(mnt_file(proc, pid)).ok()?;
    number_in(text.to_str()?)
}

/// Lets a short-lived thread of this process enter the mount namespace of `pid` and end there, so that a
/// kernel probe on its way sees the namespace's id. No other thread is affected. Returns the thread's id.
///
/// # Errors
/// When the namespace can't be opened or entered: needs CAP_SYS_ADMIN and CAP_SYS_CHROOT.
pub fn learn_in_namespace(proc: &Path, pid: u32) -> io::Result<u32> {
    let file = File::open(mnt_file(proc, pid))?;
    let thread = std::thread::Builder::new().name("tlsdump-learn".to_owned()).spawn(move || {
        sys::enter_mount_namespace(&file)?;
        Ok(rustix::thread::gettid().as_raw_nonzero().get().unsigned_abs())
    })?;
    thread.join().unwrap_or_else(|_| Err(io::Error::other("the thread failed")))
}

fn mnt_file(proc: &Path, pid: u32) -> PathBuf {
    proc.join(pid.to_string()).join("ns/mnt")
}

/// `mnt:[4026532573]` or the bare number. No sign: `str::parse` would take one.
fn number_in(text: &str) -> Option<u32> {
    let bare = text.strip_prefix("mnt:[").and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    if bare.bytes().all(|byte| byte.is_ascii_digit()) { bare.parse().ok() } else { None }
}

/// The inode number of a namespace's file is the number by which it is called, and has 32 bits.
fn number_of(file: &File) -> io::Result<u32> {
    let inode = std::os::unix::fs::MetadataExt::ino(&file.metadata()?);
    u32::try_from(inode).map_err(|_| io::Error::other("not a namespace"))
}

/// Opens a file only when it is a namespace: another may be a device or a FIFO.
fn open_namespace(path: &Path) -> io::Result<File> {
    let name = sys::open_name(path)?;
    if !sys::is_namespace(&name)? {
        return Err(io::Error::other("not a namespace"));
    }
    sys::reopen(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own() -> u32 {
        number_by_link(Path::new("/proc"), std::process::id()).unwrap()
    }

    #[test]
    fn namespaces_as_they_may_be_written() {
        assert_eq!(parse_mntns("4026532573").unwrap(), MntNsSpec::Number(4_026_532_573));
        assert_eq!(parse_mntns("mnt:[4026532573]").unwrap(), MntNsSpec::Number(4_026_532_573));
        assert_eq!(parse_mntns("/proc/1/ns/mnt").unwrap(), MntNsSpec::File("/proc/1/ns/mnt".into()));
        for bad in ["", "0", "mnt:[0]", "-1", "4294967296", "mnt:[1", "net:[4026532573]", "mnt", " 1"] {
            let message = parse_mntns(bad).unwrap_err().to_string();
            assert!(message.starts_with(&format!("{bad:?} is not a mount namespace")), "{message}");
        }
    }

    #[test]
    fn a_file_must_be_a_mount_namespace() {
        let number = |path: &str| MntNsSpec::File(path.into()).number();
        assert_eq!(number("/proc/self/ns/mnt").unwrap(), own());
        for (path, why) in [
            ("/proc/self/ns/net", "/proc/self/ns/net is a namespace of another kind than mnt"),
            ("/proc/self/status", "/proc/self/status: not a namespace"),
            ("/dev/zero", "/dev/zero: not a namespace"),
            ("/no/such/file", "/no/such/file: No such file or directory (os error 2)"),
        ] {
            assert_eq!(number(path).unwrap_err().to_string(), why);
        }
    }

    #[test]
    fn our_own_namespace_is_known() {
        let known = namespace_of(Path::new("/proc"), std::process::id()).unwrap();
        assert_eq!(known.number, own());
    }
}

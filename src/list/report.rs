//! What `tlsdump list --json` prints. The names of the fields are documented in the manual and stay as they
//! are; a field may be added.

use serde::Serialize;

/// Number of the form below; another would be one that old readers can't read.
pub(super) const SCHEMA: u32 = 1;

/// The whole answer.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) schema: u32,
    /// Libraries that a capture would probe; those that most processes use come first.
    pub(super) found: Vec<Library>,
    /// Files that have to do with TLS and would not be probed.
    pub(super) not_probed: Vec<NotProbed>,
    /// Places that could not be looked at.
    pub(super) unseen: Vec<Unseen>,
    /// How many more files and places there are than in the two lists before.
    pub(super) more: u64,
    /// Processes of the machine that this user may not look at.
    pub(super) unseen_processes: usize,
    /// Processes of the target that were looked at, and that the options choose.
    pub(super) processes: usize,
    /// Whether this process has the right to look at all processes.
    #[serde(skip)]
    pub(super) may_see_all: bool,
}

/// One file, however many containers share it.
#[derive(Debug, Serialize)]
pub(super) struct Library {
    /// In its container.
    pub(super) path: String,
    /// `OpenSSL`
    pub(super) library: &'static str,
    /// `OpenSSL 3.0.19`, or as much as can be told.
    pub(super) version: String,
    /// Whether the library is part of a program.
    pub(super) program: bool,
    /// GNU build id in hexadecimal digits, or empty.
    pub(super) build_id: String,
    pub(super) inode: u64,
    /// Where it was found first; null for a file of `--lib`.
    pub(super) container: Option<Container>,
    /// Functions that are hooked, as far as they have names.
    pub(super) functions: Vec<&'static str>,
    /// Why further functions are not hooked in a file without names.
    pub(super) doubts: Vec<String>,
    /// Places in the file that are hooked.
    pub(super) places: usize,
    /// Who has it mapped now.
    pub(super) processes: Vec<User>,
}

/// A file that is not probed.
#[derive(Debug, Serialize)]
pub(super) struct NotProbed {
    pub(super) path: String,
    pub(super) why: String,
    pub(super) container: Option<Container>,
    pub(super) processes: Vec<User>,
}

/// A place that could not be looked at.
#[derive(Debug, Serialize)]
pub(super) struct Unseen {
    pub(super) path: String,
    pub(super) why: String,
}

/// A mount namespace.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Container {
    pub(super) mntns: u32,
    /// The container's short id, or `mnt:[NUMBER]`.
    pub(super) name: String,
    /// `runtime=docker id=…`, or empty.
    pub(super) description: String,
}

/// A process.
#[derive(Debug, Serialize)]
pub(super) struct User {
    pub(super) pid: u32,
    pub(super) comm: String,
    pub(super) mntns: u32,
}

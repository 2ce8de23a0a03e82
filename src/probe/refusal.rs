//! Why a file is not probed.

use std::path::PathBuf;
use std::{fmt, io};

use super::recognise::Unfit;

/// Most files in a plan: each is held open.
pub(super) const FOUND_MAX: usize = 4096;
/// Largest file that is looked into.
pub(super) const FILE_BYTES_MAX: u64 = 4 << 30;
/// Most bytes that are read in one pass of the files of one mount namespace.
pub(super) const NAMESPACE_BYTES_MAX: u64 = 8 << 30;

/// Why a file that the user named can't be probed.
#[derive(Debug)]
pub struct LibraryError {
    pub(super) path: PathBuf,
    pub(super) why: Refusal,
}

impl fmt::Display for LibraryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.why)
    }
}

impl std::error::Error for LibraryError {}

/// Why a file is not probed.
#[derive(Debug)]
pub(super) enum Refusal {
    Io(io::Error),
    NotRegular,
    TooLarge,
    PlanFull,
    BudgetSpent,
    Ahead,
    Twice,
    Unfit(Unfit),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => error.fmt(f),
            Self::NotRegular => f.write_str("not a regular file"),
            Self::TooLarge => write!(f, "larger than {} GiB", FILE_BYTES_MAX >> 30),
            Self::PlanFull => write!(f, "more than {FOUND_MAX} libraries"),
            Self::BudgetSpent => {
                write!(f, "more than {} GiB of files of its namespace were read", NAMESPACE_BYTES_MAX >> 30)
            }
            Self::Ahead => f.write_str(
                "nobody runs it, and more such programs would take long to probe (name it by --lib)",
            ),
            Self::Twice => f.write_str("named twice: give all of its functions at once"),
            Self::Unfit(unfit) => unfit.fmt(f),
        }
    }
}

impl Refusal {
    /// Whether a file that is no library at all is refused so.
    pub(super) fn is_ordinary(&self) -> bool {
        matches!(self, Self::NotRegular | Self::Unfit(Unfit::Unknown | Unfit::Elf(_)))
    }
}

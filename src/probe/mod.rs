//! What to probe: the libraries of a target and where in them.
//!
//! [`Scanner`] finds files (by name in the target's library directories, by use in its processes, by path
//! when the user says so), [`recognise`](recognise::recognise) tells which row of [`table`] a file is and
//! where its functions are, and [`FileId`] sees to it that one inode is probed once however many paths lead
//! to it.

mod debug;
pub mod elf;
pub mod given;
pub mod go;
mod inner;
mod layers;
mod maps;
mod nss;
mod plan;
pub mod random;
pub mod recognise;
mod refusal;
pub mod rustls;
pub mod scan;
mod signature;
mod signs;
pub mod table;
mod walk;

pub use layers::FileId;
pub use maps::file_offset;
pub use plan::{Found, Plan, RecordWriter, Skipped};
pub use scan::Scanner;
pub use signature::Doubt;
pub use table::{Hook, Library, Purpose};

//! All `unsafe` code of the crate, and the system calls that need care.

//! The readable dump (`--text`).

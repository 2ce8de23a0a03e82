//! tlsdump: tcpdump for what is inside TLS, made for containers.
//!
//! The way of the data, and of this crate's modules:
//!
//! ```text
//! bpf → source (record) → wire (Event) → flow (Segment) → frame (Frame) → file (block) → sink
//! ```

pub mod arm;
pub mod cli;
pub mod config;
pub mod doctor;
pub mod event;
pub mod file;
pub mod flow;
pub mod frame;
pub mod list;
pub mod names;
pub mod open;
pub mod packet;
pub mod pipeline;
pub mod privileges;
pub mod probe;
pub mod real;
pub mod run;
pub mod safe;
pub mod secrets;
pub mod source;
pub mod stats;
pub mod sys;
pub mod target;
pub mod text;
pub mod wire;

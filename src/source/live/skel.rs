//! The skeleton that `build.rs` generates from `bpf/`.
#![allow(unsafe_code, missing_docs, missing_debug_implementations, unreachable_pub, clippy::all)]
#![allow(unused_qualifications, trivial_numeric_casts, non_camel_case_types, dead_code)]

include!(concat!(env!("OUT_DIR"), "/tlsdump.skel.rs"));

//! The skeleton that `build.rs` generates from `bpf/`.
#![allow(unsafe_code, missing_docs, missing_debug_implementations, unreachable_pub, clippy::all)]
#![allow(unused_qualifications, trivial_numeric_casts, non_camel_case_types, dead_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::use_self, clippy::uninlined_format_args)]
#![allow(clippy::redundant_closure_for_method_calls, clippy::large_enum_variant, clippy::wildcard_imports)]

include!(concat!(env!("OUT_DIR"), "/tlsdump.skel.rs"));

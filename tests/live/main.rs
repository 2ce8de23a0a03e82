//! The program on the real thing: real programs and servers, in containers, under the running kernel.
//!
//! They need root and the programs that `./dev setup` installs, and fail where one is missing; none is
//! skipped. Each test has a directory, containers and ports of its own, so that several run at the same time:
//! by default as many as there are processors, which leaves each of their processes enough.

#![allow(clippy::unwrap_used)]

#[path = "../support/live_capture.rs"]
mod capture;
#[path = "../support/container.rs"]
mod container;
#[path = "../support/live_go.rs"]
mod go_program;
#[path = "../support/live_lab.rs"]
mod lab;
#[path = "../support/live_mover.rs"]
mod mover;
#[path = "../support/live_network.rs"]
mod network;
#[path = "../support/live_parts.rs"]
mod part_files;
#[path = "../support/pcapng.rs"]
mod pcapng;
#[path = "../support/live_process.rs"]
mod process;
#[path = "../support/live_relay.rs"]
mod relay;
#[path = "../support/live_rustls.rs"]
mod rustls_program;
#[path = "../support/live_servers.rs"]
mod servers;
#[path = "../support/live_services.rs"]
mod services;
#[path = "../support/live_stage.rs"]
mod stage;
#[path = "../support/streams.rs"]
mod streams;

mod addresses;
mod bindings;
mod bytes;
mod coverage;
mod doctor;
mod ends;
mod filters;
mod go;
mod harness;
mod isolation;
mod libraries;
mod list;
mod loss;
mod parts;
mod programs;
mod protocols;
mod rustls;
mod secrets;
mod shapes;
mod stripped;
mod ways;
mod wire;

//! Compiles the kernel side (`bpf/`) and generates its Rust skeleton into `OUT_DIR`.

use std::env;
use std::path::{Path, PathBuf};

use libbpf_cargo::SkeletonBuilder;

const SOURCE: &str = "bpf/tlsdump.bpf.c";

fn main() {
    println!("cargo:rerun-if-changed=bpf");
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default()).join("tlsdump.skel.rs");
    if let Err(error) = build(&out) {
        println!("cargo:warning=cannot build {SOURCE}: needs clang (11 or later), libelf-dev, zlib1g-dev");
        eprintln!("{error:#}");
        std::process::exit(1);
    }
}

fn build(out: &Path) -> anyhow::Result<()> {
    SkeletonBuilder::new()
        .source(SOURCE)
        .clang_args(["-Wall", "-Wextra", "-Werror", "-Wno-unused-parameter", "-mcpu=v2", "-std=gnu11"])
        .build_and_generate(out)?;
    Ok(())
}

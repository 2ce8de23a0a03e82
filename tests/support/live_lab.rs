//! What every live test needs: root, the programs, a directory, a certificate.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio, id};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU16, Ordering};

use tempfile::TempDir;

use crate::process::run;

/// The programs that the tests run, besides the shell and coreutils.
const PROGRAMS: [&str; 33] = [
    "capinfos",
    "certutil",
    "curl",
    "gcc",
    "git",
    "gnutls-cli",
    "gnutls-serv",
    "ip",
    "mkfifo",
    "mosquitto",
    "mosquitto_pub",
    "mosquitto_sub",
    "mount",
    "nginx",
    "nm",
    "node",
    "nsenter",
    "objcopy",
    "openssl",
    "pk12util",
    "psql",
    "python3",
    "readelf",
    "redis-check-rdb",
    "redis-cli",
    "selfserv",
    "setpriv",
    "strace",
    "tstclnt",
    "unbound",
    "unshare",
    "wget",
    "xz",
];

/// Libraries by which clients are built, and how.
const CLIENTS: [(&str, &str); 6] = [
    ("bio", "-lssl"),
    ("gnutls", "-lgnutls"),
    ("mbedtls", "-lmbedtls -lmbedcrypto"),
    ("nss", "-I/usr/include/nss -I/usr/include/nspr -lssl3 -lnss3 -lnspr4"),
    // Has the functions itself.
    ("shapes", "-lc"),
    ("wolfssl", "-lwolfssl"),
];

/// The directory of a test; gone with it.
pub(crate) struct Lab {
    directory: TempDir,
    /// Where `include` and `lib` of the OpenSSL are that programs are built with, if it isn't the system's.
    openssl: Option<PathBuf>,
}

impl Lab {
    /// Fails where something is missing: a live test that can't run has not passed.
    pub(crate) fn new() -> Self {
        static MISSING: LazyLock<Option<String>> = LazyLock::new(missing);
        if let Some(missing) = &*MISSING {
            panic!("{missing}");
        }
        let directory = tempfile::Builder::new().prefix("tlsdump-live-").tempdir().unwrap();
        let lab = Self { directory, openssl: None };
        let mut request = Command::new("openssl");
        request.args(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=live".split(' '),
        );
        // Both go into one file, the key first.
        run(request.arg("-keyout").arg(lab.path("key")).arg("-out").arg(lab.path("certificate"))).succeeds();
        let both = ["key", "certificate"].map(|name| std::fs::read(lab.path(name)).unwrap()).concat();
        std::fs::write(lab.certificate(), both).unwrap();
        lab
    }

    /// With programs that use OpenSSL 1.1.1.
    pub(crate) fn with_openssl_1_1() -> Self {
        let openssl = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/openssl-1.1");
        let library = openssl.join("lib/libssl.so.1.1");
        assert!(library.exists(), "there is no {}: tests/support/openssl-1.1 gets it", library.display());
        Self { openssl: Some(openssl), ..Self::new() }
    }

    /// The library that the built programs use, where it isn't the system's.
    pub(crate) fn libssl(&self) -> Option<PathBuf> {
        self.openssl.as_ref().map(|openssl| openssl.join("lib/libssl.so.1.1"))
    }

    /// A file in the directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// A certificate and its key.
    pub(crate) fn certificate(&self) -> PathBuf {
        self.path("server.pem")
    }

    /// The built client of `tests/programs` by that library, which is not OpenSSL.
    pub(crate) fn client(&self, library: &str) -> PathBuf {
        let (_, options) = CLIENTS.iter().find(|(name, _)| *name == library).unwrap();
        let program = self.path(&format!("{library}_client"));
        if !program.exists() {
            let mut compile = gcc(&program);
            compile.args([source("client.c"), source(&format!("{library}_client.c"))]);
            run(compile.args(options.split(' ')).arg("-lcrypto")).succeeds();
        }
        program
    }

    /// The built `tests/programs/tlsmove.c`.
    pub(crate) fn tlsmove(&self) -> PathBuf {
        self.by_openssl("tlsmove")
    }

    /// The built program of `tests/programs` that uses OpenSSL.
    pub(crate) fn by_openssl(&self, name: &str) -> PathBuf {
        let program = self.path(name);
        if !program.exists() {
            let mut compile = gcc(&program);
            if let Some(openssl) = &self.openssl {
                let library = openssl.join("lib");
                compile.arg("-I").arg(openssl.join("include")).arg("-L").arg(&library);
                compile.arg(format!("-Wl,-rpath,{}", library.display()));
            }
            run(compile.arg(source(&format!("{name}.c"))).args(["-lssl", "-lcrypto", "-lpthread"]))
                .succeeds();
        }
        program
    }
}

/// What makes a program.
fn gcc(program: &Path) -> Command {
    let mut compile = Command::new("gcc");
    compile.args(["-O1", "-Wall", "-Wextra", "-Wno-unused-parameter", "-Werror", "-o"]).arg(program);
    compile
}

fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs").join(name)
}

/// The first thing that is missing, and what to do.
fn missing() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some(
            "the live tests need root: sudo ./dev test, or run this very program as root".to_owned(),
        );
    }
    for program in PROGRAMS {
        if find(program).is_none() {
            return Some(format!("the live tests need the program {program}: ./dev setup installs it"));
        }
    }
    // These aren't found by their names alone: a wrapper may stand there for what was never installed.
    for (program, arguments) in [
        ("tshark", &["--version"][..]),
        ("/usr/bin/python3", &["-c", "import grpc, requests, websocket, websockets"]),
        ("sh", &["-c", "ls /usr/lib/postgresql/*/bin/postgres"]),
    ] {
        let mut command = Command::new(program);
        command.args(arguments).stdout(Stdio::null()).stderr(Stdio::null());
        if !command.status().is_ok_and(|status| status.success()) {
            let call = arguments.join(" ");
            return Some(format!("the live tests need `{program} {call}` to work: ./dev setup installs it"));
        }
    }
    None
}

/// Where a program is; Debian's nginx is not on every root's search path.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default();
    let places = path.split(':').chain(["/usr/sbin", "/sbin"]);
    places.map(|place| Path::new(place).join(program)).find(|file| file.is_file())
}

/// A port on which nobody listens, below those that the kernel gives to clients: as a server's port would be.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    loop {
        // Test programs that run at the same time begin at different places.
        let step = NEXT.fetch_add(1, Ordering::Relaxed).wrapping_add((id() % 300) as u16 * 64);
        let port = 10_000 + step % 20_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() && TcpListener::bind(("::1", port)).is_ok() {
            return port;
        }
    }
}

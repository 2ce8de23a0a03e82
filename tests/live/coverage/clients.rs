//! Clients for the command line.

use super::{CLIENT, HTTP1_GET, HTTP2, Installed, Row};

const GNUTLS: Row = Row { file: "libgnutls.so", ..CLIENT };
/// They take what they send from their standard input, which stays open until they end: some would end with
/// it, before the answer. The script is the program with its arguments.
const BY_HAND: Row = Row { talk: HTTP1_GET, command: ASK, ..CLIENT };
const ASK: &[&str] = &[
    "sh",
    "-euc",
    "program=$1
    shift
    for page in 1 2 3; do
        {
            printf 'GET /%s/%s HTTP/1.0\\r\\n\\r\\n' \"$3\" $page
            until [ -e done$page ]; do sleep 0.1; done
        } | {
            status=0
            eval \"$program\" || status=$?
            touch done$page
            exit $status
        }
    done",
    "sh",
];

pub(crate) const ROWS: &[Row] = &[
    Row {
        program: "curl",
        installed: Installed::Apt("curl"),
        script: "curl -sSk \"$1/1\" \"$1/2\"; curl -sSk -d \"body from $3\" \"$1/3\"",
        ..CLIENT
    },
    Row {
        program: "curl, HTTP/2",
        installed: Installed::Apt("curl"),
        talk: HTTP2,
        script: "curl -sSk --http2 \"$1/1\" \"$1/2\" --next -sSk -d \"body from $3\" \"$1/3\"",
        ..CLIENT
    },
    Row {
        program: "wget",
        installed: Installed::Apt("wget"),
        script: "wget -qO- --no-check-certificate \"$1/1\" \"$1/2\"
            wget -qO- --no-check-certificate --post-data=\"body from $3\" \"$1/3\"",
        ..GNUTLS
    },
    Row {
        program: "git",
        installed: Installed::Apt("git"),
        talk: super::Talk::Other {
            protocol: "HTTP/1.1",
            style: "direct",
            peer: &[
                "sh",
                "-euc",
                "mkdir \"$2/repository\"; cd \"$2/repository\"
                git init -q .; git config user.email live@example; git config user.name live
                seq 20000 >file; git add file; git commit -qm 'first of all'; git update-server-info
                exec /usr/bin/python3 -m http.server -d \"$2\" -b 127.0.0.1 \"$1\"",
                "sh",
            ],
            asks: &[
                "GET /repository/.git/info/refs?service=git-upload-pack HTTP/1.1\r\n",
                "GET /repository/.git/HEAD HTTP/1.1\r\n",
                "GET /repository/.git/objects/",
            ],
            answers: &["\trefs/heads/", "ref: refs/heads/", "application/octet-stream"],
        },
        script: "git -c http.sslVerify=false clone -q \"https://127.0.0.1:$2/repository/.git\" copy
            [ \"$(sha256sum <copy/file)\" = \"$(seq 20000 | sha256sum)\" ]",
        ..GNUTLS
    },
    Row {
        program: "gnutls-cli",
        installed: Installed::Apt("gnutls-bin"),
        file: "libgnutls.so",
        script: "gnutls-cli --logfile=/dev/null --insecure -p \"$2\" 127.0.0.1",
        ..BY_HAND
    },
    Row {
        program: "aria2",
        installed: Installed::Apt("aria2"),
        talk: HTTP1_GET,
        script: "aria2c -q --check-certificate=false --no-conf -j1 -Z \"$1/1\" \"$1/2\" \"$1/3\"",
        ..GNUTLS
    },
    Row {
        program: "tstclnt",
        installed: Installed::Apt("libnss3-tools"),
        file: "libssl3.so",
        talk: HTTP1_GET,
        script: "certutil -N -d sql:. --empty-password
            for page in 1 2 3; do
                printf 'GET /%s/%s HTTP/1.0\\r\\n\\r\\n' \"$3\" $page >request
                tstclnt -h 127.0.0.1 -p \"$2\" -d sql:. -o <request
            done",
        ..CLIENT
    },
    Row {
        program: "openssl s_client",
        installed: Installed::Apt("openssl"),
        script: "openssl s_client -quiet -connect \"127.0.0.1:$2\" 2>/dev/null",
        ..BY_HAND
    },
    Row {
        program: "socat",
        installed: Installed::Apt("socat"),
        talk: HTTP1_GET,
        script: "for page in 1 2 3; do
                printf 'GET /%s/%s HTTP/1.0\\r\\n\\r\\n' \"$3\" $page |
                    socat -t 60 - \"OPENSSL:127.0.0.1:$2,verify=0\"
            done",
        ..CLIENT
    },
    Row {
        program: "ncat",
        installed: Installed::Apt("ncat"),
        talk: HTTP1_GET,
        script: "for page in 1 2 3; do
                printf 'GET /%s/%s HTTP/1.0\\r\\n\\r\\n' \"$3\" $page |
                    ncat --ssl 127.0.0.1 \"$2\"
            done",
        ..CLIENT
    },
    Row {
        program: "Chromium",
        installed: Installed::Apt("chromium"),
        talk: super::Talk::Http { version: 2, posts: false },
        file: "chromium",
        script: "for page in 1 2 3; do
                chromium --headless --no-sandbox --disable-gpu --ignore-certificate-errors \\
                    --user-data-dir=\"$5/user\" --disable-background-networking --dump-dom \"$1/$page\"
            done",
        ..CLIENT
    },
];

//! Real servers on the ports that belong to their protocols.

use std::path::PathBuf;
use std::process::Command;

use crate::container::Place;
use crate::lab::find;
use crate::process::{Process, run};
use crate::servers::nginx_command;
use crate::stage::Stage;

/// The Python whose modules `./dev setup` installs.
pub(crate) const PYTHON: &str = "/usr/bin/python3";

/// Makes a database as a user without rights, which PostgreSQL insists on, and serves it. `$1` is a directory
/// that is made, `$2` a certificate with its key.
const POSTGRESQL: &str = "
    mkdir \"$1\"
    cp \"$2\" \"$1/pem\"
    chmod 600 \"$1/pem\"
    chown -R 65534:65534 \"$1\"
    cd \"$1\"
    bin=$(ls -d /usr/lib/postgresql/*/bin | tail -n 1)
    as_nobody='setpriv --reuid=65534 --regid=65534 --clear-groups --'
    $as_nobody \"$bin/initdb\" -D data -U live -A trust --no-sync >/dev/null
    exec $as_nobody \"$bin/postgres\" -D data -k '' -F -c listen_addresses=127.0.0.1 \\
        -c ssl=on -c ssl_cert_file=\"$1/pem\" -c ssl_key_file=\"$1/pem\"";

/// A Python script with its arguments.
pub(crate) fn python(place: &impl Place, script: &str, arguments: &[&str]) -> Command {
    let mut command = place.command(PYTHON);
    command.args(["-c", script]).args(arguments);
    command
}

/// A server in Python, which gets the certificate, the port and these arguments.
#[track_caller]
pub(crate) fn python_server(stage: &Stage, port: u16, script: &str, arguments: &[&str]) -> Process {
    let (certificate, port_text) = (stage.certificate(), port.to_string());
    let arguments = [&[certificate.as_str(), &port_text], arguments].concat();
    stage.serve(port, &python(&stage.server(), script, &arguments))
}

/// nginx on port 443, with HTTP/1.1 and HTTP/2.
#[track_caller]
pub(crate) fn nginx(stage: &Stage) -> Process {
    stage.serve(443, &nginx_command(&stage.lab, &stage.server(), 443, "ssl http2"))
}

#[track_caller]
pub(crate) fn postgresql(stage: &Stage) -> Process {
    run(Command::new("chmod").arg("755").arg(stage.lab.directory())).succeeds();
    let directory = stage.lab.path("postgresql").display().to_string();
    stage.serve(5432, &stage.server().shell(POSTGRESQL, &[&directory, &stage.certificate()]))
}

/// Debian's tools for Redis have the server too: it goes by the name that it is called by.
#[track_caller]
pub(crate) fn redis(stage: &Stage, port: u16) -> Process {
    let program = stage.lab.path("redis-server");
    std::os::unix::fs::symlink(find("redis-check-rdb").unwrap(), &program).unwrap();
    let mut command = stage.server().command(&program);
    command.args(["--bind", "127.0.0.1", "--port", "0", "--tls-port", &port.to_string(), "--save", ""]);
    command.args(["--tls-auth-clients", "no", "--tls-cert-file", &stage.certificate()]);
    stage.serve(port, command.args(["--tls-key-file", &stage.certificate()]))
}

#[track_caller]
pub(crate) fn mosquitto(stage: &Stage) -> Process {
    let certificate = stage.certificate();
    let settings = format!(
        "listener 8883 127.0.0.1
        allow_anonymous true
        user root
        certfile {certificate}
        keyfile {certificate}\n"
    );
    let file = settings_file(stage, "mosquitto.conf", &settings);
    let mut command = stage.server().command(&find("mosquitto").unwrap());
    stage.serve(8883, command.arg("-c").arg(file))
}

/// A DNS server that knows one name, live.example.
#[track_caller]
pub(crate) fn unbound(stage: &Stage) -> Process {
    let certificate = stage.certificate();
    let settings = format!(
        "server:
            interface: 127.0.0.1@853
            tls-service-key: {certificate}
            tls-service-pem: {certificate}
            local-data: 'live.example. A 192.0.2.7'
            module-config: iterator
            do-daemonize: no
            use-syslog: no
            username: ''
            chroot: ''
            pidfile: ''\n"
    );
    let file = settings_file(stage, "unbound.conf", &settings);
    let mut command = stage.server().command(&find("unbound").unwrap());
    stage.serve(853, command.arg("-dc").arg(file))
}

fn settings_file(stage: &Stage, name: &str, settings: &str) -> PathBuf {
    let file = stage.lab.path(name);
    std::fs::write(&file, settings).unwrap();
    file
}

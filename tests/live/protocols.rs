//! Real servers and clients talk on the port that their protocol has over TLS, and Wireshark with nothing
//! configured shows the protocol, from either end. docs/PROTOCOLS.md has the results.

use std::process::Command;

use crate::container::Place;
use crate::process::{Process, run};
use crate::services::{mosquitto, nginx, postgresql, python, python_server, redis, unbound};
use crate::stage::{Ends, Stage};

const GRPC_SERVER: &str = include_str!("../programs/grpc_server.py");
const GRPC_CLIENT: &str = include_str!("../programs/grpc_client.py");
const WEBSOCKET_SERVER: &str = include_str!("../programs/websocket_server.py");
const WEBSOCKET_CLIENT: &str = include_str!("../programs/websocket_client.py");
const MAIL_SERVER: &str = include_str!("../programs/mail_server.py");
const DNS_CLIENT: &str = include_str!("../programs/dns_client.py");

/// Two pages of nginx.
const PAGES: [&str; 2] = ["https://127.0.0.1/first", "https://127.0.0.1/second"];

fn curl(stage: &Stage, arguments: &[&str]) -> Command {
    let mut command = stage.client().command("curl");
    command.args(["-sSk"]).args(arguments);
    command
}

// --- HTTP --------------------------------------------------------------------------------------------------

#[test]
fn http1() {
    let stage = Stage::new();
    let _nginx = nginx(&stage);
    let (ends, _) = stage.captures(&curl(&stage, &["--http1.1", PAGES[0], PAGES[1]]));
    ends.are_on_port(443);
    ends.show(&[
        ("HTTP", "GET /first HTTP/1.1"),
        ("HTTP", "HTTP/1.1 200 OK  (text/plain)"),
        ("HTTP", "GET /second HTTP/1.1"),
        ("HTTP", "HTTP/1.1 200 OK  (text/plain)"),
    ]);
    for shown in ends.both() {
        let fields = ["-T", "fields", "-e", "http.request.full_uri", "-e", "http.server"];
        let fields = shown.tshark(&[&["-Y", "http"], &fields[..]].concat());
        assert!(fields.contains("https://127.0.0.1/second\t") && fields.contains("\tnginx/"), "{fields}");
        let followed = shown.tshark(&["-q", "-z", "follow,tls,ascii,0"]);
        assert!(
            followed.contains("GET /first HTTP/1.1") && followed.contains("answer to /second"),
            "{followed}"
        );
        let objects = stage.lab.path("objects");
        shown.tshark(&["-q", "--export-objects", &format!("http,{}", objects.display())]);
        let object = std::fs::read_to_string(objects.join("second")).unwrap();
        assert!(object.starts_with("answer to /second "), "{object}");
        std::fs::remove_dir_all(objects).unwrap();
    }
}

#[test]
fn http2() {
    let stage = Stage::new();
    let _nginx = nginx(&stage);
    let (ends, _) = stage.captures(&curl(&stage, &["--http2", PAGES[0], PAGES[1]]));
    ends.are_on_port(443);
    ends.show(&[
        ("HTTP2", "Magic, SETTINGS[0]"),
        ("HTTP2", "HEADERS[1]: GET /first"),
        ("HTTP2", "HEADERS[1]: 200 OK"),
        ("HTTP2", "DATA[1] (text/plain)"),
        ("HTTP2", "HEADERS[3]: GET /second"),
        ("HTTP2", "HEADERS[3]: 200 OK"),
        ("HTTP2", "DATA[3] (text/plain)"),
    ]);
    for shown in ends.both() {
        let fields =
            ["-Y", "http2.headers", "-T", "fields", "-e", "http2.header.name", "-e", "http2.header.value"];
        let fields = shown.tshark(&fields);
        assert!(
            fields.contains("user-agent") && fields.contains("curl/") && fields.contains("nginx/"),
            "{fields}"
        );
        let followed = shown.tshark(&["-q", "-z", "follow,http2,ascii,0,3"]);
        assert!(followed.contains("/second") && followed.contains("answer to /second"), "{followed}");
    }
}

/// The capture begins between two requests over one connection: curl can't go on before somebody reads the
/// first answer from the pipe.
#[test]
fn http2_in_the_middle() {
    let stage = Stage::new();
    let _nginx = nginx(&stage);
    let pipe = stage.lab.path("pipe").display().to_string();
    run(Command::new("mkfifo").arg(&pipe)).succeeds();
    let client = curl(&stage, &["-v", "--http2", "-o", &pipe, PAGES[0], "-o", "-", PAGES[1]]);
    let client = Process::start(&client);
    client.stderr_line("the first answer", |line| line.starts_with("< HTTP/2 200"));
    let capturing = stage.capture();
    let first = std::fs::read_to_string(pipe).unwrap();
    let second = client.end().succeeds().stdout;
    let ends = capturing.stop();
    assert!(first.starts_with("answer to /first ") && second.starts_with("answer to /second "));
    assert_eq!(first.replace("first", "second").trim_end(), second, "it must be the same connection");
    ends.are_on_port(443);
    ends.show(&[
        ("HTTP2", "HEADERS[3]: GET /second"),
        ("HTTP2", "HEADERS[3]: 200 OK"),
        ("HTTP2", "DATA[3] (text/plain)"),
    ]);
}

// --- over HTTP ---------------------------------------------------------------------------------------------

/// Starts a client of gRPC that calls once for each line it gets.
fn grpc_client(stage: &Stage) -> Process {
    Process::start(&python(&stage.client(), GRPC_CLIENT, &[&stage.certificate(), "443"]))
}

#[track_caller]
fn call(client: &mut Process, word: &str) {
    client.type_line(word);
    client.stdout_line("an answer", |line| line == format!("answer to {word}"));
}

/// gRPC's TLS goes through memory on its way to the socket, so the addresses are made up; port 443 is, too.
#[test]
fn grpc() {
    let stage = Stage::new();
    let _server = python_server(&stage, 443, GRPC_SERVER, &[]);
    let capturing = stage.capture();
    let mut client = grpc_client(&stage);
    call(&mut client, "first");
    call(&mut client, "second");
    client.end().succeeds();
    let ends = capturing.stop();
    ends.show(&[
        ("HTTP2", "Magic, SETTINGS[0]"),
        ("HTTP2", "HEADERS[1]: POST /shop.Cart/Add"),
        ("GRPC", "DATA[1] (GRPC) (PROTOBUF)"),
        ("HTTP2", "HEADERS[1]: 200 OK"),
        ("GRPC", "DATA[1] (GRPC) (PROTOBUF)"),
        ("HTTP2", "HEADERS[3]: POST /shop.Cart/Add"),
        ("GRPC", "DATA[3] (GRPC) (PROTOBUF)"),
        ("HTTP2", "HEADERS[3]: 200 OK"),
        ("GRPC", "DATA[3] (GRPC) (PROTOBUF)"),
    ]);
}

/// What the headers are called was said before the capture began (RFC 7541, section 2.3.2), so that nothing
/// tells that it is gRPC; what is sent shows as HTTP/2's.
#[test]
fn grpc_in_the_middle() {
    let stage = Stage::new();
    let _server = python_server(&stage, 443, GRPC_SERVER, &[]);
    let mut client = grpc_client(&stage);
    call(&mut client, "first");
    let capturing = stage.capture();
    call(&mut client, "second");
    client.end().succeeds();
    let ends = capturing.stop();
    ends.show(&[
        ("HTTP2", "HEADERS[3]"),
        ("HTTP2", "DATA[3]"),
        ("HTTP2", "HEADERS[3]: 200 OK"),
        ("HTTP2", "DATA[3]"),
    ]);
    for shown in ends.both() {
        let fields =
            ["-Y", "http2.data.data contains \"answer to second\"", "-T", "fields", "-e", "http2.streamid"];
        let streams = shown.tshark(&fields);
        assert!(streams.split(',').any(|stream| stream == "3"), "{streams:?}\n{shown}");
    }
}

/// The client's TLS is on the socket. The server's, in asyncio, goes through memory: its addresses are made
/// up.
#[test]
fn websocket() {
    let stage = Stage::new();
    let _server = python_server(&stage, 443, WEBSOCKET_SERVER, &[]);
    let (ends, said) = stage.captures(&python(&stage.client(), WEBSOCKET_CLIENT, &["443"]));
    assert_eq!(said, "answer to hello");
    ends.are_on_port(443);
    ends.show(&[
        ("HTTP", "GET /chat HTTP/1.1"),
        ("HTTP", "HTTP/1.1 101 Switching Protocols"),
        ("WebSocket", "WebSocket Text [FIN] [MASKED]"),
        ("WebSocket", "WebSocket Text [FIN]"),
        ("WebSocket", "WebSocket Connection Close [FIN] [MASKED]"),
        ("WebSocket", "WebSocket Connection Close [FIN]"),
    ]);
    for shown in ends.both() {
        let texts =
            shown.tshark(&["-Y", "websocket.payload.text", "-T", "fields", "-e", "websocket.payload.text"]);
        assert!(texts.starts_with("hello\nanswer to hello"), "{texts}");
    }
}

// --- databases ---------------------------------------------------------------------------------------------

#[test]
fn postgresql_with_sslmode_require() {
    let stage = Stage::new();
    let _server = postgresql(&stage);
    let mut client = stage.client().command("psql");
    client.args(["-X", "-A", "-t", "-c", "SELECT 'answer ' || 6 * 7"]);
    client.arg("host=127.0.0.1 user=live dbname=postgres sslmode=require");
    let (ends, said) = stage.captures(&client);
    assert_eq!(said, "answer 42");
    ends.are_on_port(5432);
    ends.show(&[
        ("PGSQL", ">"), // in clear: the client asks for TLS
        ("PGSQL", "<"), // and may have it
        ("TLS", "Client Hello"),
        ("PGSQL", ">"), // who logs in
        ("PGSQL", "<R/S/"),
        ("PGSQL", ">Q"),
        ("PGSQL", "<T/D/C/Z"),
        ("PGSQL", ">X"),
    ]);
    for shown in ends.both() {
        let query = shown.tshark(&["-Y", "pgsql.query", "-T", "fields", "-e", "pgsql.query"]);
        assert_eq!(query.trim(), "SELECT 'answer ' || 6 * 7");
    }
}

#[track_caller]
fn set_in_redis(stage: &Stage, port: u16) -> Ends {
    let _server = redis(stage, port);
    let mut client = stage.client().command("redis-cli");
    client.args(["--tls", "--insecure", "-h", "127.0.0.1", "-p", &port.to_string(), "SET", "color", "green"]);
    let (ends, said) = stage.captures(&client);
    assert_eq!(said, "OK");
    ends.are_on_port(port);
    ends
}

#[test]
fn redis_on_its_port() {
    set_in_redis(&Stage::new(), 6379).show(&[("RESP", "Request: SET color green"), ("RESP", "Response: OK")]);
}

/// Nothing tells Wireshark what it is there; but what it is not is not said either, and the bytes are found.
#[test]
fn redis_on_a_port_of_nobody() {
    let stage = Stage::new();
    let ends = set_in_redis(&stage, 6380);
    ends.show(&[("TLS", "Application Data"), ("TLS", "Application Data")]);
    for shown in ends.both() {
        let found = shown.tshark(&["-Y", "frame contains \"green\"", "-T", "fields", "-e", "tcp.dstport"]);
        assert_eq!(found.trim(), "6380");
    }
}

// --- others ------------------------------------------------------------------------------------------------

#[test]
fn mqtt() {
    let stage = Stage::new();
    let _server = mosquitto(&stage);
    let client = stage.client().shell(
        "options=\"-h 127.0.0.1 -p 8883 --cafile $1 --insecure -t shop/cart\"
        mosquitto_pub $options -m apples -q 1 -r
        mosquitto_sub $options -C 1",
        &[&stage.certificate()],
    );
    let (ends, said) = stage.captures(&client);
    assert_eq!(said, "apples");
    ends.are_on_port(8883);
    ends.show(&[
        ("MQTT", "Connect Command"),
        ("MQTT", "Connect Ack"),
        ("MQTT", "Publish Message (id=1) [shop/cart]"),
        ("MQTT", "Publish Ack (id=1)"),
        ("MQTT", "Subscribe Request (id=1) [shop/cart]"),
        ("MQTT", "Publish Message [shop/cart]"),
        ("MQTT", "Disconnect Req"),
    ]);
}

#[test]
fn dns_over_tls() {
    let stage = Stage::new();
    let _server = unbound(&stage);
    let (ends, said) = stage.captures(&python(&stage.client(), DNS_CLIENT, &[]));
    assert_eq!(said, "192.0.2.7");
    ends.are_on_port(853);
    ends.show(&[
        ("DNS", "Standard query 0x1234 A live.example"),
        ("DNS", "Standard query response 0x1234 A live.example A 192.0.2.7"),
    ]);
}

/// curl does `arguments` with a mail server on `port`; both ends show `rows`.
#[track_caller]
fn mail(port: u16, server: &[&str], arguments: &[&str], rows: &[(&str, &str)]) {
    let stage = Stage::new();
    let _server = python_server(&stage, port, MAIL_SERVER, server);
    let mail = stage.lab.path("mail");
    std::fs::write(&mail, "Subject: live\r\n\r\napples\r\n").unwrap();
    let sends = ["--mail-from", "a@live.example", "--mail-rcpt", "b@live.example", "-T"];
    let mut client = curl(&stage, arguments);
    if server[0] == "smtp" {
        client.args(sends).arg(mail);
    }
    let (ends, _) = stage.captures(&client);
    ends.are_on_port(port);
    ends.show(rows);
}

#[test]
fn smtps() {
    mail(
        465,
        &["smtp", "tls"],
        &["smtps://127.0.0.1/live"],
        &[
            ("SMTP", "S: 220 live ready"),
            ("SMTP", "C: EHLO live"),
            ("SMTP", "C: MAIL FROM:<a@live.example>"),
            ("SMTP", "C: DATA"),
            ("SMTP/IMF", "subject: live"),
            ("SMTP", "S: 221 bye"),
        ],
    );
}

/// What is said in clear before is not captured.
#[test]
fn smtp_after_starttls() {
    mail(
        587,
        &["smtp", "starttls"],
        &["--ssl-reqd", "smtp://127.0.0.1:587/live"],
        &[
            ("SMTP", "C: EHLO live"),
            ("SMTP", "S: 250-live | STARTTLS"),
            ("SMTP", "C: MAIL FROM:<a@live.example>"),
            ("SMTP", "C: DATA"),
            ("SMTP/IMF", "subject: live"),
            ("SMTP", "S: 221 bye"),
        ],
    );
}

#[test]
fn imaps() {
    mail(
        993,
        &["imap", "tls"],
        &["-u", "who:secret", "imaps://127.0.0.1/", "-X", "EXAMINE INBOX"],
        &[
            ("IMAP", "Response: * OK ready"),
            ("IMAP", "Request: A001 CAPABILITY"),
            ("IMAP", "Request: A002 LOGIN who secret"),
            ("IMAP", "Request: A003 EXAMINE INBOX"),
            ("IMAP", "Response: A003 OK done"),
        ],
    );
}

#[test]
fn pop3s() {
    mail(
        995,
        &["pop3", "tls"],
        &["-u", "who:secret", "pop3s://127.0.0.1/"],
        &[
            ("POP", "S: +OK ready"),
            ("POP", "C: USER who"),
            ("POP", "C: PASS secret"),
            ("POP", "C: LIST"),
            ("POP", "C: QUIT"),
        ],
    );
}

//! What protocols say, written by hand from their specifications: the beginning of a conversation, and a
//! request with its answer that can be understood wherever they come.

// Each test uses its own part of it.
#![allow(dead_code, unreachable_pub)]

/// One message: whether it is the client's, and its bytes.
pub type Message = (bool, Vec<u8>);

/// A conversation.
#[derive(Clone, Debug)]
pub struct Talk {
    pub name: &'static str,
    /// Said once, at the beginning.
    pub beginning: Vec<Message>,
    /// Said then, once or more.
    pub exchange: Vec<Message>,
}

fn ask(bytes: impl Into<Vec<u8>>) -> Message {
    (true, bytes.into())
}

fn answer(bytes: impl Into<Vec<u8>>) -> Message {
    (false, bytes.into())
}

/// RFC 9112.
pub fn http1() -> Talk {
    let request = ask("GET /hello HTTP/1.1\r\nHost: example.com\r\n\r\n");
    let response =
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 13\r\n\r\n{\"hello\":\"1\"}";
    Talk { name: "HTTP/1", beginning: vec![], exchange: vec![request, answer(response)] }
}

/// An HTTP/2 frame (RFC 9113, section 4.1).
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A header field, literal without indexing (RFC 7541, section 6.2.2); no text of 127 bytes or more.
fn field(name: &str, value: &str) -> Vec<u8> {
    [&[0, name.len() as u8], name.as_bytes(), &[value.len() as u8], value.as_bytes()].concat()
}

fn headers(flags: u8, fields: &[(&str, &str)]) -> Vec<u8> {
    frame(1, flags, 1, &fields.iter().flat_map(|(name, value)| field(name, value)).collect::<Vec<_>>())
}

fn http2_beginning() -> Vec<Message> {
    let settings = frame(4, 0, 0, &[0, 3, 0, 0, 0, 100]);
    vec![
        ask([&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &settings].concat()),
        answer(settings),
        ask(frame(4, 1, 0, &[])),
        answer(frame(4, 1, 0, &[])),
    ]
}

/// RFC 9113.
pub fn http2() -> Talk {
    let request =
        [(":method", "GET"), (":scheme", "https"), (":authority", "example.com"), (":path", "/hello")];
    let response = headers(4, &[(":status", "200"), ("content-type", "application/json")]);
    let body = frame(0, 1, 1, b"{\"hello\":\"1\"}");
    let exchange = vec![ask(headers(5, &request)), answer([response, body].concat())];
    Talk { name: "HTTP/2", beginning: http2_beginning(), exchange }
}

/// gRPC over HTTP/2: a message is a flag, a length and Protocol Buffers.
pub fn grpc() -> Talk {
    let path = ("path", "/greeter.Greeter/SayHello");
    let request = [(":method", "POST"), (":scheme", "https"), (":path", path.1)];
    let request = [&request[..], &[("content-type", "application/grpc"), ("te", "trailers")]].concat();
    let message = b"\0\0\0\0\x07\x0a\x05hello";
    let response = headers(4, &[(":status", "200"), ("content-type", "application/grpc")]);
    let trailers = headers(5, &[("grpc-status", "0")]);
    let question = [headers(4, &request), frame(0, 1, 1, message)].concat();
    let exchange = vec![ask(question), answer([response, frame(0, 0, 1, message), trailers].concat())];
    Talk { name: "gRPC", beginning: http2_beginning(), exchange }
}

/// RFC 6455: the upgrade, then a text frame each way.
pub fn websocket() -> Talk {
    let request = "GET /chat HTTP/1.1\r\nHost: example.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
    let response = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
    let masked = *b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58";
    let exchange = vec![ask(masked), answer(*b"\x81\x05Hello")];
    Talk { name: "WebSocket", beginning: vec![ask(request), answer(response)], exchange }
}

/// RFC 7858: DNS messages after their length.
pub fn dns() -> Talk {
    let question = b"\x07example\x03com\0\0\x01\0\x01";
    let message = |flags: &[u8], answers: u8, rest: &[u8]| {
        let body = [b"\x12\x34", flags, &[0, 1, 0, answers, 0, 0, 0, 0], question, rest].concat();
        [&(body.len() as u16).to_be_bytes()[..], &body].concat()
    };
    let record = b"\xc0\x0c\0\x01\0\x01\0\0\x0e\x10\0\x04\x0a\x01\x02\x03";
    let exchange = vec![ask(message(&[1, 0], 0, &[])), answer(message(&[0x81, 0x80], 1, record))];
    Talk { name: "DNS", beginning: vec![], exchange }
}

/// MQTT 3.1.1.
pub fn mqtt() -> Talk {
    let connect = ask(*b"\x10\x10\0\x04MQTT\x04\x02\0\x3c\0\x04test");
    let publish = *b"\x30\x0a\0\x03a/bhello";
    let exchange = vec![ask(publish), answer(publish)];
    Talk { name: "MQTT", beginning: vec![connect, answer(*b"\x20\x02\0\0")], exchange }
}

/// RFC 5321.
pub fn smtp() -> Talk {
    let beginning =
        vec![answer("220 mail.example ESMTP\r\n"), ask("EHLO me.example\r\n"), answer("250 mail\r\n")];
    let exchange = vec![ask("MAIL FROM:<a@example.com>\r\n"), answer("250 OK\r\n")];
    Talk { name: "SMTP", beginning, exchange }
}

/// RFC 9051.
pub fn imap() -> Talk {
    let exchange = vec![ask("a1 SELECT INBOX\r\n"), answer("* 2 EXISTS\r\na1 OK done\r\n")];
    Talk { name: "IMAP", beginning: vec![answer("* OK IMAP4rev2 ready\r\n")], exchange }
}

/// RFC 4511: a bind, and one again.
pub fn ldap() -> Talk {
    let request = *b"\x30\x0c\x02\x01\x01\x60\x07\x02\x01\x03\x04\0\x80\0";
    let response = *b"\x30\x0c\x02\x01\x01\x61\x07\x0a\x01\0\x04\0\x04\0";
    Talk { name: "LDAP", beginning: vec![], exchange: vec![ask(request), answer(response)] }
}

/// AMQP 0-9-1: the limits of the connection, and a heartbeat.
pub fn amqp() -> Talk {
    let tune = |method: u8| {
        [&b"\x01\0\0\0\0\0\x0c\0\x0a\0"[..], &[method], b"\x07\xff\0\x02\0\0\0\x3c\xce"].concat()
    };
    let beginning = vec![ask(*b"AMQP\0\0\x09\x01"), answer(tune(30)), ask(tune(31))];
    let heartbeat = *b"\x08\0\0\0\0\0\0\xce";
    let queue_purge = *b"\x01\0\x01\0\0\0\x0a\0\x32\0\x1e\0\0\x02ab\0\xce";
    Talk { name: "AMQP", beginning, exchange: vec![ask(queue_purge), answer(heartbeat)] }
}

/// MongoDB's OP_MSG.
pub fn mongo() -> Talk {
    let message = |id: u32, to: u32, body: &[u8]| {
        let length = (16 + 5 + body.len()) as u32;
        let header: Vec<u8> = [length, id, to, 2013, 0].into_iter().flat_map(u32::to_le_bytes).collect();
        [&header[..], &[0], body].concat()
    };
    let hello = b"\x1f\0\0\0\x10hello\0\x01\0\0\0\x02$db\0\x06\0\0\0admin\0\0";
    let ok = b"\x11\0\0\0\x01ok\0\0\0\0\0\0\0\xf0\x3f\0";
    Talk {
        name: "Mongo",
        beginning: vec![],
        exchange: vec![ask(message(1, 0, hello)), answer(message(2, 1, ok))],
    }
}

/// PostgreSQL's protocol 3.0.
pub fn postgresql() -> Talk {
    let startup = ask(*b"\0\0\0\x17\0\x03\0\0user\0postgres\0\0");
    let ready = answer(*b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I");
    let exchange = vec![ask(*b"Q\0\0\0\x0dSELECT 1\0"), answer(*b"C\0\0\0\x0dSELECT 1\0Z\0\0\0\x05I")];
    Talk { name: "PostgreSQL", beginning: vec![startup, ready], exchange }
}

/// Redis's RESP.
pub fn redis() -> Talk {
    let exchange = vec![ask("*2\r\n$3\r\nGET\r\n$5\r\nhello\r\n"), answer("$5\r\nworld\r\n")];
    Talk { name: "Redis", beginning: vec![], exchange }
}

/// Kafka: ApiVersions, version 0.
pub fn kafka() -> Talk {
    let request = *b"\0\0\0\x0b\0\x12\0\0\0\0\0\x01\0\x01c";
    let response = *b"\0\0\0\x10\0\0\0\x01\0\0\0\0\0\x01\0\x12\0\0\0\x03";
    Talk { name: "Kafka", beginning: vec![], exchange: vec![ask(request), answer(response)] }
}

/// Cassandra's protocol 4: OPTIONS.
pub fn cql() -> Talk {
    let exchange = vec![ask(*b"\x04\0\0\0\x05\0\0\0\0"), answer(*b"\x84\0\0\0\x06\0\0\0\x02\0\0")];
    Talk { name: "CQL", beginning: vec![], exchange }
}

/// MySQL after its switch to TLS: the client's answer to the greeting, then queries.
pub fn mysql() -> Talk {
    let packet = |number: u8, body: &[u8]| [&[body.len() as u8, 0, 0, number], body].concat();
    let login = [b"\x85\xae\xff\0\0\0\0\x01\x21", &[0; 23][..], b"root\0\0"].concat();
    let ok = packet(1, b"\0\0\0\x02\0\0\0");
    let exchange = vec![ask(packet(0, b"\x03SELECT 1")), answer(ok)];
    let beginning = vec![ask(packet(2, &login)), answer(packet(3, b"\0\0\0\x02\0\0\0"))];
    Talk { name: "MySQL", beginning, exchange }
}

/// memcached's text protocol.
pub fn memcached() -> Talk {
    let exchange = vec![ask("get hello\r\n"), answer("VALUE hello 0 5\r\nworld\r\nEND\r\n")];
    Talk { name: "memcached", beginning: vec![], exchange }
}

/// NATS.
pub fn nats() -> Talk {
    let beginning = vec![answer("INFO {\"server_id\":\"a\"}\r\n"), ask("CONNECT {}\r\n")];
    Talk { name: "NATS", beginning, exchange: vec![ask("PUB hello 5\r\nworld\r\n"), answer("+OK\r\n")] }
}

/// Something that nobody knows.
pub fn unknown() -> Talk {
    let exchange = vec![ask(*b"\xf1\x02hello question\xff"), answer(*b"\xf2\x02hello answer\xff")];
    Talk { name: "unknown", beginning: vec![], exchange }
}

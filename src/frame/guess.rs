//! Which protocol bytes belong to, where the program never said.

/// A protocol that Wireshark must be told of, or that it is told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Http1,
    Http2,
}

/// What every client begins an HTTP/2 connection with (RFC 9113, section 3.4).
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Bytes of the header of an HTTP/2 frame.
const FRAME_HEADER_BYTES: usize = 9;
/// Longest HTTP/2 frame that a receiver takes without having said more (RFC 9113, section 6.5.2).
const FRAME_MAX: usize = 1 << 14;
/// So many bytes of one frame are enough to know it by its header alone.
const FRAME_PIECE_MIN: usize = 1024;
/// Longest HTTP method that is looked for; the longest registered is UPDATEREDIRECTREF.
const METHOD_MAX: usize = 17;

impl Protocol {
    /// Its identifier in ALPN (RFC 7301, section 6; RFC 9113, section 3.1).
    pub(super) fn alpn(self) -> &'static [u8] {
        match self {
            Self::Http1 => b"http/1.1",
            Self::Http2 => b"h2",
        }
    }

    /// Goes by the first bytes that are known of a connection, from either side, be it from its beginning or
    /// from its middle.
    pub(super) fn of(bytes: &[u8]) -> Option<Self> {
        if begins_with_preface(bytes) || is_http2_frames(bytes) {
            Some(Self::Http2)
        } else if is_request(bytes) || bytes.starts_with(b"HTTP/1.") {
            Some(Self::Http1)
        } else {
            None
        }
    }
}

/// Whether the bytes are the client's preface, or the beginning of it, and no other request.
pub(super) fn begins_with_preface(bytes: &[u8]) -> bool {
    let common = bytes.len().min(PREFACE.len());
    common >= b"PRI ".len() && bytes[..common] == PREFACE[..common]
}

/// Whether the bytes begin with a request line (RFC 9112, section 3), or one too long to see its end.
fn is_request(bytes: &[u8]) -> bool {
    let mut words = bytes.splitn(3, |&b| b == b' ');
    let (Some(method), Some(target), rest) = (words.next(), words.next(), words.next()) else { return false };
    let is_method = (3..=METHOD_MAX).contains(&method.len())
        && method.iter().all(|b| b.is_ascii_uppercase() || *b == b'-');
    let is_target = !target.is_empty() && target.iter().all(u8::is_ascii_graphic);
    is_method && is_target && rest.is_none_or(|rest| rest.starts_with(b"HTTP/1."))
}

/// Whether the bytes are HTTP/2 frames one after another, of which the last may be cut short (RFC 9113,
/// section 4.1): one whole frame, the header of one, or a large piece of one.
fn is_http2_frames(bytes: &[u8]) -> bool {
    let mut rest = bytes;
    while let Some((header, after)) = rest.split_first_chunk() {
        let Some(length) = http2_frame_length(*header) else { return false };
        match after.get(length..) {
            Some(after) => rest = after,
            None => return rest.len() < bytes.len() || after.is_empty() || after.len() >= FRAME_PIECE_MIN,
        }
    }
    rest.len() < bytes.len()
}

/// The length of the payload after this frame header, if the header is one that can be (RFC 9113, section 6).
fn http2_frame_length(header: [u8; FRAME_HEADER_BYTES]) -> Option<usize> {
    let [a, b, c, kind, flags, stream @ ..] = header;
    let length = u32::from_be_bytes([0, a, b, c]) as usize;
    let stream = u32::from_be_bytes(stream);
    let on_stream = stream != 0;
    // By type: which flags are defined, whether the stream can be that one, whether the length can be.
    let (flags_known, stream_fits, length_fits) = match kind {
        0x0 => (0x09, on_stream, true),                       // DATA
        0x1 => (0x2d, on_stream, length > 0),                 // HEADERS
        0x2 => (0x00, on_stream, length == 5),                // PRIORITY
        0x3 => (0x00, on_stream, length == 4),                // RST_STREAM
        0x4 if flags == 1 => (0x01, !on_stream, length == 0), // SETTINGS, acknowledged
        0x4 => (0x00, !on_stream, length.is_multiple_of(6)),  // SETTINGS
        0x5 => (0x0c, on_stream, length > 4),                 // PUSH_PROMISE
        0x6 => (0x01, !on_stream, length == 8),               // PING
        0x7 => (0x00, !on_stream, length >= 8),               // GOAWAY
        0x8 => (0x00, true, length == 4),                     // WINDOW_UPDATE
        0x9 => (0x04, on_stream, length > 0),                 // CONTINUATION
        _ => return None,
    };
    let is_reserved_bit_clear = stream >> 31 == 0;
    let fits = stream_fits && length_fits && flags & !flags_known == 0 && is_reserved_bit_clear;
    (fits && length <= FRAME_MAX).then_some(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(length: u32, kind: u8, flags: u8, stream: u32) -> Vec<u8> {
        let payload = vec![b'x'; length as usize];
        [&length.to_be_bytes()[1..], &[kind, flags], &stream.to_be_bytes(), &payload].concat()
    }

    #[test]
    fn http2_is_known_from_the_start_and_in_the_middle() {
        let settings = frame(18, 4, 0, 0);
        let data = frame(8192, 0, 1, 5);
        let whole = [
            PREFACE.to_vec(),
            PREFACE[..14].to_vec(),
            [PREFACE, &settings].concat(),
            settings.clone(),
            frame(0, 4, 1, 0),
            frame(4, 8, 0, 0),
            frame(8, 6, 0, 0),
            frame(40, 1, 4, 7),
            frame(10, 1, 5, 7)[..9].to_vec(),
            data[..3000].to_vec(),
            [settings, data[..12].to_vec()].concat(),
        ];
        for bytes in whole {
            assert_eq!(Protocol::of(&bytes), Some(Protocol::Http2), "{bytes:02x?}");
        }
    }

    #[test]
    fn http1_is_known_by_its_first_line() {
        let long = [b"GET /".to_vec(), vec![b'a'; 9000]].concat();
        for bytes in [&b"GET / HTTP/1.1\r\n"[..], b"HTTP/1.0 200 ok\r\n", b"M-SEARCH * HTTP/1.1\r\n", &long] {
            assert_eq!(Protocol::of(bytes), Some(Protocol::Http1), "{}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn nothing_else_is_taken_for_either() {
        let other: [&[u8]; 16] = [
            b"",
            b"G",
            b"GET",
            b"GET key\r\n",
            b"EHLO mail.example\r\n",
            b"* OK IMAP4 ready\r\n",
            b"RTSP/1.0 200 OK\r\n",
            b"OPTIONS rtsp://a/ RTSP/1.0\r\n",
            b"*1\r\n$4\r\nPING\r\n",
            // DNS over TCP, PostgreSQL's first message and its SSLRequest, Kafka, AMQP, MySQL, MongoDB.
            b"\x00\x1d\x12\x00\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x07example\x03com\x00\x00\x01\x00\x01",
            b"\x00\x00\x00\x25\x00\x03\x00\x00user\x00postgres\x00database\x00postgres\x00\x00",
            b"\x00\x00\x00\x08\x04\xd2\x16\x2f",
            b"\x00\x00\x00\x1b\x00\x12\x00\x03\x00\x00\x00\x01\x00\x09client-id",
            b"\x01\x00\x00\x00\x00\x00\x05\x00\x0a\x00\x0a\xce",
            b"\x4a\x00\x00\x00\x0a8.0.36\x00",
            b"\x3a\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\xd4\x07\x00\x00",
        ];
        for bytes in other {
            assert_eq!(Protocol::of(bytes), None, "{bytes:02x?}");
        }
        // A frame's header with a reserved bit, an unknown flag, a wrong stream, a wrong or too large length.
        for (length, kind, flags, stream) in
            [(4, 8, 0, 1 << 31), (8, 6, 2, 0), (18, 4, 0, 1), (5, 4, 0, 0), (16385, 0, 0, 1), (4, 10, 0, 0)]
        {
            assert_eq!(Protocol::of(&frame(length, kind, flags, stream)), None);
        }
    }

    #[test]
    fn noise_is_never_taken_for_http2() {
        let mut word = 1u64;
        for _ in 0..100_000 {
            let bytes: [u8; 64] = std::array::from_fn(|_| {
                // Knuth's linear congruential generator; its upper bits are the good ones.
                word = word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (word >> 56) as u8
            });
            assert_eq!(Protocol::of(&bytes), None, "{bytes:02x?}");
        }
    }
}

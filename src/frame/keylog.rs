//! Lines of a key log (draft-ietf-tls-keylogfile, section 2): what a secret is of, the client's random
//! number, the secret.

use std::fmt::Write as _;

use crate::event::{RANDOM_BYTES, SecretKind};

use super::hello;

/// Longest line: the longest label, the random number, the longest secret, two spaces and the end of line.
pub const LINE_BYTES_MAX: usize = 31 + 2 * RANDOM_BYTES + 2 * crate::event::SECRET_BYTES_MAX + 3;

/// Appends a line, with its end.
pub fn push_line(lines: &mut String, what: SecretKind, client_random: &[u8; RANDOM_BYTES], secret: &[u8]) {
    lines.push_str(label(what));
    for bytes in [client_random, secret] {
        lines.push(' ');
        for byte in bytes {
            // Writing to a string never fails.
            let _ = write!(lines, "{byte:02x}");
        }
    }
    lines.push('\n');
}

fn label(what: SecretKind) -> &'static str {
    match what {
        SecretKind::Master => "CLIENT_RANDOM",
        SecretKind::ClientEarly => "CLIENT_EARLY_TRAFFIC_SECRET",
        SecretKind::EarlyExporter => "EARLY_EXPORTER_SECRET",
        SecretKind::ClientHandshake => "CLIENT_HANDSHAKE_TRAFFIC_SECRET",
        SecretKind::ServerHandshake => "SERVER_HANDSHAKE_TRAFFIC_SECRET",
        SecretKind::ClientTraffic => "CLIENT_TRAFFIC_SECRET_0",
        SecretKind::ServerTraffic => "SERVER_TRAFFIC_SECRET_0",
        SecretKind::Exporter => "EXPORTER_SECRET",
    }
}

/// Whether packets are drawn with this random number, for which there must never be a secret: a reader would
/// try to decrypt them.
#[must_use]
pub fn is_made_up(client_random: &[u8; RANDOM_BYTES]) -> bool {
    *client_random == hello::CLIENT_RANDOM
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::SECRET_BYTES_MAX;

    #[test]
    fn lines_are_as_the_format_has_them() {
        let mut lines = String::new();
        push_line(&mut lines, SecretKind::Master, &[0xab; RANDOM_BYTES], &[1, 0x2c]);
        push_line(&mut lines, SecretKind::ClientTraffic, &[0; RANDOM_BYTES], &[0xff]);
        let random = "ab".repeat(RANDOM_BYTES);
        let zeros = "00".repeat(RANDOM_BYTES);
        assert_eq!(lines, format!("CLIENT_RANDOM {random} 012c\nCLIENT_TRAFFIC_SECRET_0 {zeros} ff\n"));
    }

    #[test]
    fn no_line_is_longer_than_the_longest() {
        let length = |what| {
            let mut line = String::new();
            push_line(&mut line, what, &[0; RANDOM_BYTES], &[0; SECRET_BYTES_MAX]);
            line.len()
        };
        assert_eq!(SecretKind::ALL.map(length).into_iter().max(), Some(LINE_BYTES_MAX));
    }
}

//! Foreign text made fit to show: names and command lines come from containers, and go to terminals.

/// Whether a terminal or a viewer may do something else with `c` than show it: control characters, line and
/// paragraph separators, and the characters that reorder or hide the text around them.
#[must_use]
pub fn acts(c: char) -> bool {
    let unseen = matches!(c, '\u{200b}'..='\u{200f}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
    c.is_control() || unseen || matches!(c, '\u{2028}'..='\u{202e}')
}

/// `text` with U+FFFD for each character that [`acts`], cut to `bytes_max` bytes; a cut text ends in `…`.
#[must_use]
pub fn text(text: &str, bytes_max: usize) -> String {
    let shown = |c| if acts(c) { char::REPLACEMENT_CHARACTER } else { c };
    // Each character is at least a byte, so that no more of them are needed to see that the text is too long.
    let mut safe: String = text.chars().take(bytes_max + 1).map(shown).collect();
    if safe.len() > bytes_max {
        safe.truncate(safe.floor_char_boundary(bytes_max.saturating_sub('…'.len_utf8())));
        safe.push('…');
    }
    safe
}

/// Appends `value` to `line` so that a reader can tell where it ends: as it is where it is one plain word,
/// else in double quotes, with a backslash before each quote and backslash in it. `value` is made safe first.
pub fn push_value(line: &mut String, value: &str, bytes_max: usize) {
    let value = text(value, bytes_max);
    let plain = |c: char| !c.is_whitespace() && !matches!(c, '"' | '\\' | '=' | ',' | '\'');
    if !value.is_empty() && value.chars().all(plain) {
        line.push_str(&value);
        return;
    }
    line.push('"');
    for c in value.chars() {
        if matches!(c, '"' | '\\') {
            line.push('\\');
        }
        line.push(c);
    }
    line.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> String {
        let mut line = String::new();
        push_value(&mut line, text, 64);
        line
    }

    #[test]
    fn what_acts_is_replaced() {
        assert_eq!(text("a\x1b[2Jb\u{202e}c\u{9b}d\ne", 64), "a\u{fffd}[2Jb\u{fffd}c\u{fffd}d\u{fffd}e");
        assert_eq!(text("ünï 日本", 64), "ünï 日本");
    }

    #[test]
    fn long_text_is_cut_between_characters() {
        for length in 0..200 {
            for unit in ["a", "é", "日", "🦀", "\n"] {
                let cut = text(&unit.repeat(length), 30);
                assert!(cut.len() <= 30, "{} bytes", cut.len());
                assert_eq!(cut.ends_with('…'), length * text(unit, 30).len() > 30, "{length} of {unit:?}");
            }
        }
    }

    #[test]
    fn values_are_quoted_where_they_must_be() {
        assert_eq!(value("/usr/lib/libssl.so.3"), "/usr/lib/libssl.so.3");
        assert_eq!(value("two words"), "\"two words\"");
        assert_eq!(value("a\"b\\c"), "\"a\\\"b\\\\c\"");
        assert_eq!(value("x pid=1"), "\"x pid=1\"");
        assert_eq!(value(""), "\"\"");
    }
}

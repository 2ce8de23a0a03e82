//! How the parts of a capture are called.

use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};

use chrono::format::{Item, StrftimeItems};
use chrono::{DateTime, Local, Utc};

use super::sink::Part;

/// How many taken names are passed over one by one.
const NEXT_TO_EACH_OTHER: u32 = 100;

/// Gives each part a name of its own.
#[derive(Clone, Debug)]
pub struct Naming {
    pattern: Pattern,
    /// What the pattern gave for the part before, and how many parts have been given it one after another.
    last: (OsString, u32),
    /// How many other names have been asked for that part.
    others: u32,
}

#[derive(Clone, Debug)]
enum Pattern {
    /// There is one part.
    Fixed(OsString),
    /// `out_00001_20261124083000.pcapng`, as dumpcap has it: before and after the number.
    Numbered(OsString, OsString),
    /// strftime(3), of the time of the part's first packet in the local zone (`TZ`).
    Time(String),
}

impl Naming {
    /// From the file name that was asked for; `cut` is whether there is more than one part.
    ///
    /// # Errors
    /// What is wrong with the name, in words that follow it.
    pub fn new(name: &OsStr, cut: bool) -> Result<Self, &'static str> {
        let pattern = if !cut {
            Pattern::Fixed(name.to_owned())
        } else if name.as_bytes().contains(&b'%') {
            Pattern::Time(checked(name)?)
        } else {
            let (stem, extension) = split(name);
            Pattern::Numbered(stem.to_owned(), extension.to_owned())
        };
        Ok(Self { pattern, last: (OsString::new(), 0), others: 0 })
    }

    /// The name of the next part.
    pub(super) fn next(&mut self, part: Part) -> OsString {
        let name = match &self.pattern {
            Pattern::Fixed(name) => return name.clone(),
            Pattern::Numbered(stem, extension) => {
                let mut name = stem.clone();
                name.push(format!("_{:05}_{}", part.number, local(part.at).format("%Y%m%d%H%M%S")));
                name.push(extension);
                name
            }
            Pattern::Time(format) => {
                let mut name = String::new();
                // The format was checked.
                let _ = write!(name, "{}", local(part.at).format(format));
                name.into()
            }
        };
        let times = if self.last.0 == name { self.last.1.saturating_add(1) } else { 1 };
        self.last = (name, times);
        self.others = 0;
        numbered(&self.last.0, times)
    }

    /// Another name for the part that was named last, because that is taken. After many that are taken the
    /// numbers grow faster, so that a free one is found whatever an earlier capture has left.
    pub(super) fn another(&mut self) -> OsString {
        self.others = self.others.saturating_add(1);
        let step = if self.others > NEXT_TO_EACH_OTHER { self.last.1 } else { 1 };
        self.last.1 = self.last.1.saturating_add(step);
        numbered(&self.last.0, self.last.1)
    }
}

/// `c-1030.pcapng`, `c-1030_00002.pcapng`, …
fn numbered(name: &OsStr, number: u32) -> OsString {
    if number <= 1 {
        return name.to_owned();
    }
    let (stem, extension) = split(name);
    let mut name = stem.to_owned();
    name.push(format!("_{number:05}"));
    name.push(extension);
    name
}

/// Cuts a name before its extension; `.zst` and what stands before it are one.
fn split(name: &OsStr) -> (&OsStr, &OsStr) {
    let bytes = name.as_bytes();
    let inner = bytes.strip_suffix(b".zst").unwrap_or(bytes);
    let dot = inner.iter().rposition(|&byte| byte == b'.').filter(|&at| at > 0).unwrap_or(inner.len());
    let (stem, extension) = bytes.split_at(dot);
    (OsStr::from_bytes(stem), OsStr::from_bytes(extension))
}

/// The name as a format that gives a file name for every time.
fn checked(name: &OsStr) -> Result<String, &'static str> {
    let format = String::from_utf8(name.to_owned().into_vec()).map_err(|_| "is not UTF-8")?;
    if StrftimeItems::new(&format).any(|item| item == Item::Error) {
        return Err("has a % that strftime does not know (write %% for a percent sign)");
    }
    let mut example = String::new();
    if write!(example, "{}", DateTime::<Utc>::UNIX_EPOCH.with_timezone(&Local).format(&format)).is_err() {
        return Err("is no format for a time");
    }
    if example.is_empty() || example.contains(['/', '\0']) {
        return Err("gives names with a slash (use %F or %Y%m%d for a date)");
    }
    Ok(format)
}

/// 2⁶⁴ ns are 584 years: any number is a time that chrono knows.
fn local(at: u64) -> DateTime<Local> {
    (DateTime::from_timestamp_nanos(0) + std::time::Duration::from_nanos(at)).with_timezone(&Local)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn naming(name: &str, cut: bool) -> Naming {
        Naming::new(name.as_ref(), cut).unwrap()
    }

    fn part(number: u32, at: u64) -> Part {
        Part { number, at }
    }

    #[test]
    fn a_capture_that_is_one_part_has_the_name_that_was_asked_for() {
        let mut naming = naming("100%.pcapng", false);
        assert_eq!(naming.next(part(1, 0)), "100%.pcapng");
    }

    #[test]
    fn parts_are_numbered_as_dumpcap_does() {
        let time = local(0).format("%Y%m%d%H%M%S");
        for (name, expected) in [
            ("out.pcapng", format!("out_00007_{time}.pcapng")),
            ("out.pcapng.zst", format!("out_00007_{time}.pcapng.zst")),
            ("out", format!("out_00007_{time}")),
            (".out", format!(".out_00007_{time}")),
            ("a.b.c", format!("a.b_00007_{time}.c")),
            (".zst", format!("_00007_{time}.zst")),
        ] {
            assert_eq!(naming(name, true).next(part(7, 0)), expected.as_str(), "{name}");
        }
    }

    #[test]
    fn a_time_gives_the_name_and_a_number_where_it_is_the_same() {
        let mut naming = naming("c-%S%%.pcapng.zst", true);
        let second = 1_000_000_000;
        assert_eq!(naming.next(part(1, second)), "c-01%.pcapng.zst");
        assert_eq!(naming.next(part(2, second)), "c-01%_00002.pcapng.zst");
        assert_eq!(naming.next(part(3, second + 1)), "c-01%_00003.pcapng.zst");
        assert_eq!(naming.next(part(4, 2 * second)), "c-02%.pcapng.zst");
        assert_eq!(naming.another(), "c-02%_00002.pcapng.zst");
        for number in 3..=101 {
            assert_eq!(naming.another(), format!("c-02%_{number:05}.pcapng.zst").as_str());
        }
        assert_eq!(naming.another(), "c-02%_00202.pcapng.zst");
        assert_eq!(naming.next(part(5, 2 * second)), "c-02%_00203.pcapng.zst");
        // A minute later.
        assert_eq!(naming.next(part(5, 61 * second)), "c-01%.pcapng.zst");
        assert_eq!(naming.next(part(6, u64::MAX)).len(), "c-01%.pcapng.zst".len());
    }

    #[test]
    fn a_name_that_is_no_format_is_refused() {
        for (name, why) in
            [("a%", "strftime"), ("%Q.pcapng", "strftime"), ("%D", "slash"), ("%n/%F", "slash")]
        {
            let error = Naming::new(name.as_ref(), true).unwrap_err();
            assert!(error.contains(why), "{name}: {error}");
        }
        let bytes = OsStr::from_bytes(b"%S\xff");
        assert!(Naming::new(bytes, true).unwrap_err().contains("UTF-8"));
    }
}

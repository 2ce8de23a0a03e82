//! Functions by their Rust names, which are mangled in symbol tables.

use std::collections::HashMap;
use std::fmt::{self, Write as _};

use memchr::memmem;
use object::elf::{self, Sym64};

use super::{Elf, ElfError, Function, HITS_MAX, Result, nuls, range_of};
use object::LittleEndian as Le;

/// Longest mangled name that is looked at, and longest name that comes of it.
const NAME_BYTES_MAX: usize = 1024;

impl Elf<'_> {
    /// Whether it has a full symbol table: most programs that were installed are stripped of it.
    pub(in crate::probe) fn has_symbols(&self) -> bool {
        self.section(elf::SHT_SYMTAB).is_some()
    }

    /// The functions of the full symbol table to whose name `choose` gives a number, each place once; it is
    /// the function's `name`. Only names with `mark` in them are given to it, demangled and without hashes.
    ///
    /// # Errors
    /// When a table is damaged or too large.
    pub(in crate::probe) fn rust_functions(
        &mut self,
        mark: &str,
        choose: &dyn Fn(&str) -> Option<usize>,
    ) -> Result<Vec<Function>> {
        let mut found = Vec::new();
        let Some(table) = self.section(elf::SHT_SYMTAB).copied() else { return Ok(Vec::new()) };
        let sound = table.sh_entsize.get(Le) == size_of::<Sym64<Le>>() as u64;
        let Some(strings) = self.linked(&table).filter(|_| sound) else { return Ok(Vec::new()) };
        let mark = memmem::Finder::new(mark);
        let mut places = HashMap::new();
        self.file.stream(strings, NAME_BYTES_MAX, &mut |base, piece, old| {
            let mut start = 0;
            for end in nuls(piece, 0) {
                let mangled = piece.get(start..end).unwrap_or_default();
                let place = u32::try_from(base.saturating_add(start as u64));
                // One that ends before that was looked at in the piece before; one whose beginning is not in
                // this piece is longer than what is looked at.
                let is_whole = end >= old && (start > 0 || base == 0);
                start = end + 1;
                if let (Ok(place), true, Some(_)) = (place, is_whole, mark.find(mangled)) {
                    places.extend(demangled(mangled).and_then(|name| choose(&name)).map(|n| (place, n)));
                }
                if places.len() > HITS_MAX {
                    return Err(ElfError::TooMuch("one function name again and again"));
                }
            }
            Ok(false)
        })?;
        if !places.is_empty() {
            self.defined_at(&places, range_of(&table), &mut found)?;
        }
        Ok(self.in_code(&found))
    }
}

/// Text that takes no more than [`NAME_BYTES_MAX`]: of a few bytes of a mangled name very many can come.
struct Short(String);

impl fmt::Write for Short {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.0.len() + text.len() > NAME_BYTES_MAX {
            return Err(fmt::Error);
        }
        self.0.push_str(text);
        Ok(())
    }
}

/// A name as it is in the source, if it is a mangled one and not too long.
fn demangled(mangled: &[u8]) -> Option<String> {
    let mangled = std::str::from_utf8(mangled).ok()?;
    let name = rustc_demangle::try_demangle(mangled).ok()?;
    let mut short = Short(String::new());
    write!(short, "{name:#}").ok()?;
    Some(short.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_both_manglings() {
        for (mangled, name) in [
            (
                "_ZN6rustls12common_state11CommonState16buffer_plaintext17h5101020129f24232E",
                "rustls::common_state::CommonState::buffer_plaintext",
            ),
            (
                "_ZN4core3ptr54drop_in_place$LT$rustls..common_state..CommonState$GT$17h837bbe646c57e20fE\
                 .llvm.14734481090942597562",
                "core::ptr::drop_in_place<rustls::common_state::CommonState>",
            ),
            (
                "_RNvMs0_NtCsdZHu_6rustls12common_stateNtB5_11CommonState16buffer_plaintext",
                "<rustls::common_state::CommonState>::buffer_plaintext",
            ),
        ] {
            assert_eq!(demangled(mangled.as_bytes()).as_deref(), Some(name), "{mangled}");
        }
    }

    #[test]
    fn functions_of_this_program() {
        let program = std::fs::File::open("/proc/self/exe").unwrap();
        let mut elf = Elf::open(&program, super::super::BYTES_READ_MAX).unwrap();
        let choose = |name: &str| name.ends_with("::NameThatNobodyHas::of").then_some(7);
        let found = elf.rust_functions("NameThatNobodyHas", &choose).unwrap();
        assert_eq!(found.iter().map(|function| function.name).collect::<Vec<_>>(), [7], "{found:?}");
        assert!(NameThatNobodyHas::of(found[0].bytes) > 0);
        assert_eq!(elf.rust_functions("NameThatNobodyElse", &|_| Some(0)).unwrap(), []);
    }

    struct NameThatNobodyHas;

    impl NameThatNobodyHas {
        #[inline(never)]
        fn of(bytes: u64) -> u64 {
            std::hint::black_box(bytes)
        }
    }

    #[test]
    fn names_that_are_none_or_grow() {
        assert_eq!(demangled(b"SSL_read"), None);
        assert_eq!(demangled(b"_ZN\xff"), None);
        // Each part refers twice to the one before: a name of 2 to the 40th parts.
        let mut bomb = String::from("_RMC0");
        let mut before = "h".to_owned();
        for _ in 0..40 {
            let at = bomb.len() - 2;
            bomb.push_str(&format!("T{before}{before}E"));
            before = format!("B{at:x}_");
        }
        assert_eq!(demangled(bomb.as_bytes()), None);
    }
}

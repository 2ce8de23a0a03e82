//! OpenSSL, BoringSSL and their kin in programs from which all names have been stripped.
//!
//! Bytes of code are not what is looked for: compilers and their options change them with every build, so
//! that a list of them is never complete, and a mask that forgives much fits elsewhere too. What stays is
//! what the source says. These libraries tell each error with the path of the source file, and with numbers
//! that are part of their interface or, since OpenSSL 3, with the name of the function. So a function is told
//! by the constants that it passes on when it fails: the texts that its code refers to, the numbers beside
//! them, and which of the others found so it calls. [`table`] has that as data.
//!
//! A function is taken only if no other fits, or if the row says why another that fits does no harm; each
//! that is not found for certain is told. What is probed is always the beginning of a function: it is known
//! from what unwinds frames, or called from elsewhere and preceded by the end of another.
//!
//! This is for x86-64 only; on other machines nothing is found.

mod bounds;
mod code;
mod table;
mod texts;

use std::collections::BTreeMap;
use std::fmt;

use self::code::Facts;
use self::table::{FAMILIES, Family, Several, Signature};
use super::elf::{Elf, ElfError};
use super::table::{Hook, Library, TABLE};

/// Functions found in a file without names.
#[derive(Debug)]
pub(super) struct Signed {
    /// The row of the table.
    pub(super) library: &'static Library,
    /// Names, hooks and addresses.
    pub(super) functions: Vec<(&'static str, Hook, u64)>,
    /// What was not found for certain.
    pub(super) doubts: Vec<Doubt>,
}

/// A function that was not found for certain: how many look like it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Doubt {
    /// Its name.
    pub name: &'static str,
    /// How many functions fit.
    pub fitting: usize,
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.fitting {
            0 => write!(f, "no function looks like {}", self.name),
            fitting => write!(f, "{fitting} functions look like {}", self.name),
        }
    }
}

/// What the search for a library came to.
#[derive(Debug)]
pub(super) enum Search {
    /// There is no sign of such a library.
    Nothing,
    /// It is there, but what is needed is not to be found for certain.
    Doubtful(&'static str, Doubt),
    Found(Signed),
}

/// A function of the program, and the texts that it refers to.
struct Candidate {
    begin: u64,
    facts: Facts,
    texts: Vec<&'static str>,
}

/// Looks for one of the libraries of which there are signatures.
///
/// # Errors
/// When the file is damaged or can't be read.
pub(super) fn search(elf: &mut Elf<'_>) -> Result<Search, ElfError> {
    if !cfg!(target_arch = "x86_64") {
        return Ok(Search::Nothing);
    }
    let (files, names) = (table::files(), table::names());
    let Some(found) = texts::find(elf, &files, &names)? else { return Ok(Search::Nothing) };
    let fixed = !elf.is_moved();
    let references = texts::references(elf, &found, fixed)?;
    let functions = bounds::functions(elf, references.keys().copied())?;
    let sought: Vec<_> = files.into_iter().chain(names).collect();
    let candidate = |(begin, (facts, places)): (u64, (Facts, Vec<u64>))| {
        let texts = places.iter().filter_map(|place| sought.get(*references.get(place)?).copied());
        Candidate { begin, facts, texts: texts.collect() }
    };
    let candidates: Vec<_> = functions.into_iter().map(candidate).collect();
    let mut doubtful = Search::Nothing;
    for family in FAMILIES {
        match family.find(&candidates) {
            Search::Found(signed) => return Ok(Search::Found(signed)),
            Search::Doubtful(library, doubt) if doubt.fitting > 0 || matches!(doubtful, Search::Nothing) => {
                doubtful = Search::Doubtful(library, doubt);
            }
            _ => {}
        }
    }
    Ok(doubtful)
}

impl Family {
    fn find(&self, candidates: &[Candidate]) -> Search {
        let Some(library) = TABLE.iter().find(|library| library.name == self.library) else {
            return Search::Nothing;
        };
        let file = |candidate: &Candidate| {
            self.signatures.first().is_some_and(|signature| candidate.texts.contains(&signature.file))
        };
        if !candidates.iter().any(file) {
            return Search::Nothing;
        }
        let mut known: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
        let mut functions = Vec::new();
        let mut doubts: Vec<Doubt> = Vec::new();
        for signature in self.signatures {
            let name = signature.name;
            if known.contains_key(name) {
                continue;
            }
            doubts.retain(|doubt| doubt.name != name);
            match signature.choose(candidates, &known) {
                Ok(places) => {
                    functions.extend(
                        signature.hook.iter().flat_map(|hook| places.iter().map(|p| (name, *hook, *p))),
                    );
                    known.insert(name, places);
                }
                // What only helps to find others is not missed for itself.
                Err(fitting) if signature.hook.is_some() => doubts.push(Doubt { name, fitting }),
                Err(_) => {}
            }
        }
        let lacking = self.needed.iter().find_map(|name| doubts.iter().find(|doubt| doubt.name == *name));
        match lacking {
            Some(doubt) => Search::Doubtful(self.library, *doubt),
            None => Search::Found(Signed { library, functions, doubts }),
        }
    }
}

impl Signature {
    /// The beginnings of the functions that are taken for this one; or how many fit, if none is.
    fn choose(&self, candidates: &[Candidate], known: &BTreeMap<&str, Vec<u64>>) -> Result<Vec<u64>, usize> {
        let mut fitting: Vec<_> = candidates.iter().filter(|candidate| self.fits(candidate, known)).collect();
        let all = fitting.len();
        match self.several {
            Several::Refuse => {}
            Several::Smallest => {
                let least = fitting.iter().map(|candidate| candidate.facts.bytes).min();
                fitting.retain(|candidate| Some(candidate.facts.bytes) == least);
            }
            Several::All if all > 0 => return Ok(fitting.iter().map(|candidate| candidate.begin).collect()),
            Several::All => {}
            Several::LastCounter => {
                let counter = |candidate: &&Candidate| candidate.facts.counters.last().copied();
                let (first, last) = (fitting.iter().map(counter).min(), fitting.iter().map(counter).max());
                fitting.retain(|candidate| Some(counter(candidate)) == last);
                return if first < last { Ok(fitting.iter().map(|c| c.begin).collect()) } else { Err(all) };
            }
        }
        if let [only] = fitting[..] { Ok(vec![only.begin]) } else { Err(all) }
    }

    fn fits(&self, candidate: &Candidate, known: &BTreeMap<&str, Vec<u64>>) -> bool {
        let Candidate { facts, texts, .. } = candidate;
        let passes = |number: &u32| facts.passes(self.argument, *number);
        let calls =
            |name| known.get(name).is_some_and(|places| places.iter().any(|p| facts.calls.contains(p)));
        texts.contains(&self.file)
            && self.text.is_none_or(|text| texts.contains(&text))
            && self.no_text.is_none_or(|text| !texts.contains(&text))
            && self.numbers.iter().all(passes)
            && !self.no_numbers.iter().any(passes)
            && self.calls.is_none_or(calls)
            && (facts.stores || !self.stores)
            && self.fifth.is_none_or(|fifth| facts.fifth == fifth)
            && facts.bytes <= self.bytes_max
    }
}

#[cfg(test)]
mod tests {
    use super::table::Argument;
    use super::*;

    const FILE: &str = "ssl_lib.cc";

    fn candidate(begin: u64, numbers: &[u32], bytes: u64) -> Candidate {
        let numbers = numbers.iter().map(|number| (Argument::Third, *number)).collect();
        let facts = Facts { numbers, bytes, whole: true, ..Facts::default() };
        Candidate { begin, facts, texts: vec![FILE] }
    }

    /// The functions of BoringSSL that are needed.
    fn needed() -> Vec<Candidate> {
        let mut reads = candidate(0x200, &[66], 200);
        reads.facts.calls.insert(0x100);
        let peeks = Candidate { begin: 0x300, texts: vec![FILE], facts: Facts { ..reads.facts.clone() } };
        reads.facts.stores = true;
        vec![candidate(0x100, &[215, 226], 700), reads, peeks, candidate(0x400, &[66, 111, 215, 226], 300)]
    }

    fn find(candidates: &[Candidate]) -> Search {
        FAMILIES[0].find(candidates)
    }

    #[test]
    fn functions_are_told_by_numbers_and_relations() {
        let Search::Found(signed) = find(&needed()) else { panic!("not found") };
        assert_eq!(signed.library.name, "BoringSSL");
        let expected = [("SSL_read", Hook::ReadInt, 0x200), ("SSL_write", Hook::WriteInt, 0x400)];
        assert_eq!(signed.functions, expected);
        assert!(signed.doubts.contains(&Doubt { name: "SSL_new", fitting: 0 }), "{:?}", signed.doubts);
        // One that isn't hooked is not missed.
        assert!(!signed.doubts.iter().any(|doubt| doubt.name == "ssl_read_impl"));
    }

    #[test]
    fn what_two_functions_fit_is_refused() {
        let mut candidates = needed();
        candidates.push(candidate(0x500, &[66, 111, 215, 226, 9], 300));
        let Search::Doubtful("BoringSSL", doubt) = find(&candidates) else { panic!("found") };
        assert_eq!(doubt, Doubt { name: "SSL_write", fitting: 2 });
        assert!(matches!(find(&candidates[..3]), Search::Doubtful("BoringSSL", Doubt { fitting: 0, .. })));
        // Nor is one function without the other that it must call.
        assert!(matches!(find(&candidates[1..4]), Search::Doubtful(_, Doubt { name: "SSL_read", .. })));
        assert!(matches!(find(&[]), Search::Nothing));
    }

    #[test]
    fn of_functions_that_have_another_inlined_the_smallest_is_the_other() {
        let place = |sizes: &[u64]| {
            let handshakes = sizes.iter().zip(0x600..).map(|(bytes, at)| candidate(at, &[134], *bytes));
            let Search::Found(signed) = find(&needed().into_iter().chain(handshakes).collect::<Vec<_>>())
            else {
                panic!("not found")
            };
            let found = signed.functions.iter().find(|(name, ..)| *name == "SSL_do_handshake");
            found.map(|(_, _, place)| *place)
        };
        assert_eq!(place(&[528, 480, 530]), Some(0x601));
        assert_eq!(place(&[480, 480, 530]), None, "two of one size");
        assert_eq!(place(&[4000]), None, "too large");
    }

    #[test]
    fn of_reading_and_writing_the_latter_counts_in_the_later_field() {
        let records = |fields: &[u64]| {
            let functions = fields.iter().zip(0x700..).map(|(field, at)| {
                let mut function = candidate(at, &[114, 115], 200);
                (function.texts, function.facts.counters) = (vec!["bio.cc"], [*field].into());
                function
            });
            let Search::Found(signed) = find(&needed().into_iter().chain(functions).collect::<Vec<_>>())
            else {
                panic!("not found")
            };
            let places = signed.functions.iter().filter(|(_, hook, _)| *hook == Hook::Record);
            places.map(|(_, _, place)| *place).collect::<Vec<_>>()
        };
        assert_eq!(records(&[0x40, 0x48, 0x40, 0x48]), [0x701, 0x703]);
        assert_eq!(records(&[0x48, 0x48]), [0_u64; 0], "both may be either");
    }
}

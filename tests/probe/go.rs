//! Go programs: made by hand, in all formats of the runtime's table of functions, sound and damaged.

use std::fs::{self, File};
use std::io::{Seek, Write};

use proptest::prelude::{any, prop, proptest};
use tlsdump::probe::Hook;
use tlsdump::probe::elf::BYTES_READ_MAX;
use tlsdump::probe::go::{Abi, Site};
use tlsdump::probe::recognise::{Recognised, Unfit, recognise};

/// Where the file is in memory.
const BASE: u64 = 0x40_0000;
/// Where code is in the file, and how much room each function has.
const TEXT: u64 = 0x400;
const ROOM: u64 = 64;

/// A function of Go on x86-64: `cmp rsp, [r14+0x10]; jbe; push rbp; pop rbp; ret`.
const CODE: &[u8] = b"\x49\x3b\x66\x10\x76\xfa\x55\x5d\xc3";
const ENTRY: u64 = 6;
const RETURN: u64 = 8;

const NAMES: [&str; 4] = [
    "runtime.text",
    "crypto/tls.(*Conn).Write",
    "vendor/crypto/tls.(*Conn).Write",
    "crypto/tls.(*Conn).Read",
];

/// A format of the table, and where the address of the code is told.
#[derive(Clone, Copy, Debug)]
enum Format {
    Go12,
    Go116,
    Go118,
    /// Since the header doesn't tell it.
    Go127,
}

fn words(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn halves(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| (*word as u32).to_le_bytes()).collect()
}

/// `runtime.pclntab`: a header, then names, the list of functions, and what it refers to.
fn table(format: Format) -> Vec<u8> {
    let (magic, header) = match format {
        Format::Go12 => (0xfffb_u16, 16),
        Format::Go116 => (0xfffa, 64),
        Format::Go118 => (0xfff0, 72),
        Format::Go127 => (0xfff1, 72),
    };
    let texts: Vec<u8> = NAMES.iter().flat_map(|name| [name.as_bytes(), b"\0"].concat()).collect();
    let old = matches!(format, Format::Go12 | Format::Go116);
    let (field, place_bytes) = if old { (8, 12) } else { (4, 8) };
    let count = NAMES.len() as u64;
    let list_bytes = (2 * count + 1) * field;
    // In the oldest format the list comes first, and all counts from the beginning of the table.
    let (list, texts_at, base) = match format {
        Format::Go12 => (header, header + list_bytes + count * place_bytes, 0),
        _ => (header + texts.len() as u64, header, header + texts.len() as u64),
    };
    let names_base = if base == 0 { 0 } else { texts_at };
    let (mut fields, mut places) = (Vec::new(), Vec::new());
    let mut name = texts_at - names_base;
    for (index, text) in (0..).zip(NAMES) {
        let begin = index * ROOM + if old { BASE + TEXT } else { 0 };
        fields.extend([begin, list + list_bytes - base + index * place_bytes]);
        places.extend(if old { words(&[begin]) } else { halves(&[begin]) });
        places.extend(halves(&[name]));
        name += text.len() as u64 + 1;
    }
    fields.push(fields[fields.len() - 2] + ROOM);
    let head = [0xff00 | magic & 0xff, 0xffff].map(u16::to_le_bytes).concat();
    let head = [&head[..], &[0, 0, 1, 8]].concat();
    let fields = if old { words(&fields) } else { halves(&fields) };
    let end = texts_at + texts.len() as u64;
    let told = if matches!(format, Format::Go118) { BASE + TEXT } else { 0 };
    match format {
        Format::Go12 => [head, words(&[count]), fields, places, texts].concat(),
        Format::Go116 => {
            [head, words(&[count, 0, texts_at, end, 0, 0, list]), texts, fields, places].concat()
        }
        _ => [head, words(&[count, 0, told, texts_at, end, 0, 0, list]), texts, fields, places].concat(),
    }
}

/// A program with these sections, besides its code.
fn program(format: Format, version: &str) -> Vec<u8> {
    let mut module = vec![0; 176];
    module.extend(words(&[BASE + TEXT]));
    let inline = [&[version.len() as u8], version.as_bytes()].concat();
    let info = [b"\xff Go buildinf:\x08\x02", &[0; 16][..], &inline].concat();
    let names = b"\0.text\0.gopclntab\0.go.buildinfo\0.go.module\0.shstrtab\0";
    let mut code = Vec::new();
    for _ in NAMES {
        code.extend(CODE);
        code.resize(code.len().next_multiple_of(ROOM as usize), 0xcc);
    }
    let mut sections = vec![(1, code), (7, table(format)), (18, info)];
    if matches!(format, Format::Go127) {
        sections.push((32, module));
    }
    sections.push((43, names.to_vec()));
    let mut bytes = vec![0; TEXT as usize];
    let mut headers = vec![0; 64];
    for (name, contents) in sections {
        let offset = bytes.len() as u64;
        headers.extend(halves(&[name, 1]));
        headers.extend(words(&[0, BASE + offset, offset, contents.len() as u64, 0, 8, 0]));
        bytes.extend(contents);
        bytes.resize(bytes.len().next_multiple_of(8), 0);
    }
    let (count, at) = (headers.len() as u64 / 64, bytes.len() as u64);
    bytes.extend(headers);
    let ident = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0";
    // ET_EXEC, EM_X86_64; then entry, program headers and section headers; then their sizes and counts.
    let mut head = [&ident[..], &halves(&[2 | 62 << 16, 1]), &words(&[BASE + TEXT, 64, at])].concat();
    head.extend(halves(&[0, 64 | 56 << 16, 1 | 64 << 16, count | (count - 1) << 16]));
    // PT_LOAD, readable and executable.
    head.extend(halves(&[1, 5]));
    head.extend(words(&[0, BASE, BASE, at, at, 4096]));
    bytes[..head.len()].copy_from_slice(&head);
    bytes
}

fn answer(bytes: &[u8]) -> Result<Recognised, Unfit> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file.rewind().unwrap();
    recognise(&file, &[], &mut BYTES_READ_MAX.clone())
}

#[cfg(target_arch = "x86_64")]
#[test]
fn each_format_of_the_table_is_read() {
    for format in [Format::Go12, Format::Go116, Format::Go118, Format::Go127] {
        let found = answer(&program(format, "go1.99")).unwrap_or_else(|why| panic!("{format:?}: {why}"));
        let hook = |site| Hook::Go(site, Abi::Registers);
        let (write, read) = (TEXT + ROOM, TEXT + 3 * ROOM);
        let expected = [
            (hook(Site::WriteReturn), write + RETURN),
            (hook(Site::ReadReturn), read + RETURN),
            (hook(Site::Write), write + ENTRY),
            (hook(Site::Read), read + ENTRY),
        ];
        assert_eq!(found.hooks, expected, "{format:?}");
        assert_eq!((found.library.name, found.version.as_str()), ("Go crypto/tls", "Go 1.99"));
        assert!(found.program);
    }
}

#[cfg(target_arch = "x86_64")]
#[test]
fn what_can_not_be_probed_is_told() {
    let mut strange = program(Format::Go118, "go1.99");
    let write = (TEXT + ROOM) as usize;
    strange[write] = 0x90;
    let why = answer(&strange).unwrap_err().to_string();
    assert_eq!(why, "a Go program, but its table of functions does not tell where the code is");
    let mut future = program(Format::Go127, "go1.99");
    let table = future.windows(8).position(|w| w == b"\xf1\xff\xff\xff\0\0\x01\x08").unwrap();
    future[table] = 0xf2;
    let why = answer(&future).unwrap_err().to_string();
    assert_eq!(why, "a Go program, but its table of functions has an unknown format");
    let mut other = program(Format::Go127, "go1.99");
    for name in [".Read\0", ".Write\0"] {
        while let Some(at) = other.windows(name.len()).position(|w| w == name.as_bytes()) {
            other[at + 1] = b'X';
        }
    }
    assert!(matches!(answer(&other), Err(Unfit::Unknown)), "it has no crypto/tls");
}

proptest! {
    #[test]
    fn damaged_tables_end_in_an_answer(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        format in prop::sample::select(vec![Format::Go12, Format::Go116, Format::Go118, Format::Go127]),
    ) {
        let mut bytes = program(format, "go1.99");
        for (at, byte) in damage {
            let at = TEXT as usize + at.index(bytes.len() - TEXT as usize);
            bytes[at] = byte;
        }
        let _ = answer(&bytes);
    }
}

/// A list that says it has millions of functions, in a file that has room for them.
#[test]
fn a_long_list_is_refused() {
    let mut bytes = program(Format::Go118, "go1.99");
    let table = bytes.windows(8).position(|w| w == b"\xf0\xff\xff\xff\0\0\x01\x08").unwrap();
    bytes[table + 8..table + 16].copy_from_slice(&u64::from(u32::MAX).to_le_bytes());
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("long"), &bytes).unwrap();
    let file = File::open(dir.path().join("long")).unwrap();
    let why = recognise(&file, &[], &mut BYTES_READ_MAX.clone()).unwrap_err().to_string();
    assert_eq!(why, "a Go program, but its table of functions is too long");
}

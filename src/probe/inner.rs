//! Where in the code of OpenSSL a probe sees more, and costs less, than at the beginning of a function.
//!
//! `SSL_read` and `SSL_read_ex` are both little more than a call of `ssl_read_internal`, which has no name in
//! a library, and so is the read of a BIO that encrypts (`BIO_f_ssl`, `BIO_new_ssl_connect`), which calls
//! neither of the two. It is found as the function that both call, and that one of them calls with what it
//! was given. It also begins with a `push`, which the kernel emulates, where the others begin with a `sub`
//! that it has to single-step at several times the price. Where a compiler has put the inner function into
//! the others, they are what is probed.
//!
//! The code is only known to be read on x86-64.

use iced_x86::{
    Code, Decoder, DecoderOptions, FlowControl, Instruction, InstructionInfoFactory, OpAccess, Register,
};

use super::elf::{Elf, Function, Range};
use super::table::Hook;

/// Most bytes of a function that are looked at: all of those that only call another are shorter.
const CODE_BYTES_MAX: u64 = 512;

/// Two functions that meet in a third.
struct Meeting {
    /// `int f(session, buffer, int)`.
    plain: &'static str,
    /// The one that hands on what it is given.
    exact: &'static str,
    /// How that calls the third.
    hook: Hook,
    /// Its name in the source of OpenSSL, `ssl/ssl_lib.c`.
    inner: &'static str,
    /// Further functions that come to it by way of these.
    outer: &'static [&'static str],
    /// Registers that carry the arguments.
    arguments: &'static [Register],
}

/// Of two rows with the same inner function the first that is there counts: since OpenSSL 3.3 it has one more
/// argument, and that version also brought `SSL_write_ex2`.
const MEETINGS: [Meeting; 3] = [
    Meeting {
        plain: "SSL_read",
        exact: "SSL_read_ex",
        hook: Hook::ReadEx,
        inner: "ssl_read_internal",
        outer: &[],
        arguments: &[Register::RDI, Register::RSI, Register::RDX, Register::RCX],
    },
    Meeting {
        plain: "SSL_write",
        exact: "SSL_write_ex2",
        hook: Hook::WriteExFlags,
        inner: "ssl_write_internal",
        outer: &["SSL_write_ex"],
        arguments: &[Register::RDI, Register::RSI, Register::RDX, Register::RCX, Register::R8],
    },
    Meeting {
        plain: "SSL_write",
        exact: "SSL_write_ex",
        hook: Hook::WriteEx,
        inner: "ssl_write_internal",
        outer: &[],
        arguments: &[Register::RDI, Register::RSI, Register::RDX, Register::RCX],
    },
];

/// The arguments of `BIO_write(bio, data, int length)`.
const RECORD_ARGUMENTS: [Register; 3] = [Register::RDI, Register::RSI, Register::RDX];

/// A file's functions that have a name.
pub(super) struct Named<'a> {
    pub(super) names: &'a [&'static str],
    pub(super) functions: &'a [Function],
}

/// Puts the hooks of functions of OpenSSL to better places, where the file has such for certain. Gives the
/// names of functions that are probed besides.
pub(super) fn improve(
    elf: &mut Elf<'_>,
    named: &Named<'_>,
    hooks: &mut Vec<(Hook, u64)>,
) -> Vec<&'static str> {
    if cfg!(not(target_arch = "x86_64")) {
        return Vec::new();
    }
    let mut found: Vec<&'static str> = Vec::new();
    for meeting in &MEETINGS {
        if found.contains(&meeting.inner) || named.only(meeting.exact).is_none() {
            continue;
        }
        if let Some(place) = meeting.place(elf, named) {
            let replaced = [meeting.plain, meeting.exact].into_iter().chain(meeting.outer.iter().copied());
            let replaced: Vec<_> =
                replaced.filter_map(|name| named.only(name)).map(|function| function.offset).collect();
            hooks.retain(|(_, offset)| !replaced.contains(offset));
            hooks.push((meeting.hook, place));
            found.push(meeting.inner);
        }
    }
    for function in named.functions {
        for (_, at) in hooks.iter_mut().filter(|hook| **hook == (Hook::Record, function.offset)) {
            *at += code_of(elf, function).map_or(0, |code| cheap_place(&code));
        }
    }
    found
}

impl Named<'_> {
    /// The function with that name, if there is exactly one: a file may have several copies of a library.
    fn only(&self, name: &str) -> Option<Function> {
        let index = self.names.iter().position(|known| *known == name)?;
        let mut fitting = self.functions.iter().filter(|function| function.name == index);
        fitting.next().filter(|_| fitting.next().is_none()).copied()
    }
}

impl Meeting {
    /// The file offset of the inner function.
    fn place(&self, elf: &mut Elf<'_>, named: &Named<'_>) -> Option<u64> {
        let (plain, exact) = (named.only(self.plain)?, named.only(self.exact)?);
        let place = handed_to(&code_of(elf, &exact)?, exact.offset, self.arguments)?;
        let called = called(&code_of(elf, &plain)?, plain.offset);
        let with_name = named.functions.iter().any(|function| function.offset == place);
        (called.contains(&place) && !with_name && elf.is_code(place)).then_some(place)
    }
}

/// None where it can't be read: then nothing is improved.
fn code_of(elf: &mut Elf<'_>, function: &Function) -> Option<Vec<u8>> {
    let bytes = match function.bytes {
        0 => CODE_BYTES_MAX,
        bytes => bytes.min(CODE_BYTES_MAX),
    };
    elf.read(Range { offset: function.offset, bytes }).ok()
}

fn decoder(code: &[u8], offset: u64) -> Decoder<'_> {
    Decoder::with_ip(64, code, offset, DecoderOptions::NONE)
}

/// Where the instruction goes to by a call or a jump that says so in itself.
fn target(instruction: &Instruction) -> Option<u64> {
    match instruction.flow_control() {
        FlowControl::Call | FlowControl::UnconditionalBranch => Some(instruction.near_branch_target()),
        _ => None,
    }
}

/// All that a function calls.
fn called(code: &[u8], offset: u64) -> Vec<u64> {
    let known = decoder(code, offset).into_iter().take_while(|instruction| !instruction.is_invalid());
    known.filter_map(|instruction| target(&instruction)).collect()
}

/// The function that is called first and in any case, with the arguments as they were given.
fn handed_to(code: &[u8], offset: u64, arguments: &[Register]) -> Option<u64> {
    let mut info = InstructionInfoFactory::new();
    for instruction in decoder(code, offset) {
        match instruction.flow_control() {
            FlowControl::Next if !changes(&mut info, &instruction, arguments) => {}
            FlowControl::Next => return None,
            _ => return target(&instruction).filter(|&place| place != 0),
        }
    }
    None
}

/// How far into `BIO_write` the first instruction is that the kernel emulates and where the arguments still
/// are what they were; 0 where there is none. It is passed unless the length is not positive.
fn cheap_place(code: &[u8]) -> u64 {
    let mut info = InstructionInfoFactory::new();
    for instruction in decoder(code, 0) {
        if matches!(instruction.code(), Code::Push_r64 | Code::Call_rel32_64) {
            return instruction.ip();
        }
        let goes_on =
            matches!(instruction.flow_control(), FlowControl::Next | FlowControl::ConditionalBranch);
        // The length is only made wider.
        let widens = instruction.code() == Code::Movsxd_r64_rm32
            && instruction.op0_register() == Register::RDX
            && instruction.op1_register() == Register::EDX;
        if !goes_on || (!widens && changes(&mut info, &instruction, &RECORD_ARGUMENTS)) {
            break;
        }
    }
    0
}

/// Whether the instruction may write to one of the registers, or is none.
fn changes(info: &mut InstructionInfoFactory, instruction: &Instruction, registers: &[Register]) -> bool {
    let used = info.info(instruction).used_registers();
    let reads = |access| matches!(access, OpAccess::None | OpAccess::Read | OpAccess::CondRead);
    instruction.is_invalid()
        || used
            .iter()
            .any(|used| !reads(used.access()) && registers.contains(&used.register().full_register()))
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::any;

    use super::*;

    const ARGUMENTS: &[Register] = MEETINGS[0].arguments;

    /// `SSL_read_ex` of OpenSSL 3.0 as gcc 12 compiles it.
    const EXACT: &[&[u8]] = &[
        b"\x48\x83\xec\x08",     // sub rsp, 8
        b"\xe8\x00\x01\x00\x00", // call
        b"\x31\xd2",             // xor edx, edx
        b"\x85\xc0",             // test eax, eax
        b"\x0f\x48\xc2",         // cmovs eax, edx
        b"\x48\x83\xc4\x08",     // add rsp, 8
        b"\xc3",                 // ret
    ];

    /// `BIO_write` likewise.
    const WRITE: &[&[u8]] = &[
        b"\x48\x83\xec\x18",                     // sub rsp, 0x18
        b"\x64\x48\x8b\x04\x25\x28\x00\x00\x00", // mov rax, fs:[0x28]
        b"\x48\x89\x44\x24\x08",                 // mov [rsp+8], rax
        b"\x31\xc0",                             // xor eax, eax
        b"\x85\xd2",                             // test edx, edx
        b"\x7e\x12",                             // jle
        b"\x48\x89\xe1",                         // mov rcx, rsp
        b"\x48\x63\xd2",                         // movsxd rdx, edx
        b"\xe8\x00\x00\x00\x00",                 // call
    ];

    fn with(code: &[&[u8]], at: usize, instead: &'static [u8]) -> Vec<u8> {
        let mut code = code.to_vec();
        code[at] = instead;
        code.concat()
    }

    #[test]
    fn arguments_are_handed_on_or_not() {
        let to = |code: &[u8]| handed_to(code, 0x1000, ARGUMENTS);
        assert_eq!(to(&EXACT.concat()), Some(0x1109));
        assert_eq!(to(&with(EXACT, 0, b"\xf3\x0f\x1e\xfa")), Some(0x1109), "endbr64");
        assert_eq!(to(&with(EXACT, 1, b"\xe9\x00\x01\x00\x00")), Some(0x1109), "jmp");
        for (at, instead) in [
            (0, &b"\x48\x89\xf7"[..]),    // mov rdi, rsi
            (0, b"\x31\xc9"),             // xor ecx, ecx
            (0, b"\x48\x87\xd0"),         // xchg rax, rdx
            (0, b"\x74\x00"),             // je
            (1, b"\xff\xd0"),             // call rax
            (1, b"\xc3"),                 // ret
            (1, b"\x0f\x0b"),             // ud2
            (1, b"\x06"),                 // no instruction
            (0, b"\x48\x8b\x54\x24\x08"), // mov rdx, [rsp+8]
        ] {
            assert_eq!(to(&with(EXACT, at, instead)), None, "{}", instead.escape_ascii());
        }
        assert_eq!(to(&[]), None);
    }

    #[test]
    fn what_is_called_is_known_by_its_place() {
        assert_eq!(called(&EXACT.concat(), 0x1000), [0x1109]);
        assert_eq!(called(&WRITE.concat(), 0), [0x23]);
        assert!(called(b"\x06\xe8\x00\x00\x00\x00", 0).is_empty(), "what follows no instruction is unknown");
    }

    #[test]
    fn the_cheap_place_has_the_arguments() {
        assert_eq!(cheap_place(&WRITE.concat()), 30);
        assert_eq!(cheap_place(&with(WRITE, 5, b"\x55")), 22, "push rbp");
        for (at, instead) in [
            (4, &b"\x89\xd7"[..]), // mov edi, edx
            (7, b"\x48\x63\xf2"),  // movsxd rsi, edx
            (7, b"\x48\x63\xd1"),  // movsxd rdx, ecx
            (7, b"\x89\xd2"),      // mov edx, edx
            (7, b"\xeb\x00"),      // jmp
            (7, b"\xff\xd0"),      // call rax
            (7, b"\x06"),          // no instruction
        ] {
            assert_eq!(cheap_place(&with(WRITE, at, instead)), 0, "{}", instead.escape_ascii());
        }
        assert_eq!(cheap_place(&[]), 0);
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_end_in_an_answer(code in vec(any::<u8>(), 0..99)) {
            let place = cheap_place(&code);
            assert!(place == 0 || (place as usize) < code.len());
            let (called, handed) = (called(&code, 0), handed_to(&code, 0, ARGUMENTS));
            assert!(handed.is_none_or(|place| called.contains(&place)));
        }
    }
}

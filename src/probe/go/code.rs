//! Where the code of a Go function is entered and left.

use iced_x86::{Code, Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic, OpKind, Register};

use super::Abi;

/// The smallest instruction, as the runtime's table has it.
pub(super) const INSTRUCTION_BYTES: u8 = if cfg!(target_arch = "aarch64") { 4 } else { 1 };

/// Most instructions of the check whether the stack has room.
const PROLOGUE_MAX: usize = 8;
/// Where struct g has the end of that room (`stackguard0`).
const STACK_GUARD: u64 = 16;
/// `ret` on arm64.
const ARM64_RET: u32 = 0xd65f_03c0;

/// Places in a function, as distances from its beginning.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Sites {
    pub(super) entry: u64,
    pub(super) returns: Vec<u64>,
    pub(super) abi: Abi,
    /// Whether receiver, pointer and length of `func (c *T) f(b []byte) (int, error)` are on the stack at
    /// each return as they were passed: right above the return address.
    pub(super) keeps_arguments: bool,
}

/// Finds them; `abi` is believed only where the code does not show it.
///
/// # Errors
/// What is strange about the code.
pub(super) fn sites(code: &[u8], abi: Abi) -> Result<Sites, &'static str> {
    let sites = if cfg!(target_arch = "aarch64") { arm64(code, abi) } else { x86_64(code)? };
    if sites.returns.is_empty() { Err("never returns") } else { Ok(sites) }
}

/// Whether this looks like the beginning of a function of Go.
pub(super) fn begins_function(code: &[u8]) -> bool {
    cfg!(target_arch = "aarch64") || prologue(code).is_some()
}

fn arm64(code: &[u8], abi: Abi) -> Sites {
    let words = code.chunks_exact(4).zip((0..).step_by(4));
    let returns = words.filter(|(word, _)| *word == ARM64_RET.to_le_bytes()).map(|(_, at)| at);
    Sites { entry: 0, returns: returns.collect(), abi, keeps_arguments: false }
}

fn x86_64(code: &[u8]) -> Result<Sites, &'static str> {
    let (entry, abi) = prologue(code).ok_or("does not begin as Go's functions do")?;
    let mut returns = Vec::new();
    for instruction in decoder(code) {
        match instruction.flow_control() {
            _ if instruction.is_invalid() => return Err("has an unknown instruction"),
            FlowControl::Return => returns.push(instruction.ip()),
            FlowControl::UnconditionalBranch if instruction.near_branch_target() >= code.len() as u64 => {
                return Err("is left by a jump");
            }
            _ => {}
        }
    }
    Ok(Sites { entry, returns, abi, keeps_arguments: keeps_arguments(code, abi) })
}

fn decoder(code: &[u8]) -> Decoder<'_> {
    Decoder::with_ip(64, code, 0, DecoderOptions::NONE)
}

/// A function begins by asking whether the stack has room, and goes to the runtime if not, which moves the
/// stack and begins anew. The place after it, where arguments and stack pointer still are as they were, is
/// reached once in a call; and the kernel need not single-step what stands there (`push`) or before (a jump).
/// How the check finds the goroutine shows the ABI.
fn prologue(code: &[u8]) -> Option<(u64, Abi)> {
    let mut abi = None;
    let mut checked = false;
    let mut instructions = decoder(code).into_iter().take(PROLOGUE_MAX);
    while let Some(instruction) = instructions.next() {
        if instruction.memory_segment() == Register::FS {
            abi = Some(Abi::Stack);
        }
        if instruction.mnemonic() == Mnemonic::Cmp && instruction.memory_displacement64() == STACK_GUARD {
            checked = true;
            abi = abi.or((instruction.memory_base() == Register::R14).then_some(Abi::Registers));
        }
        if checked && instruction.flow_control() == FlowControl::ConditionalBranch {
            let push = instructions.next().filter(|next| next.code() == Code::Push_r64);
            return abi.map(|abi| (push.as_ref().map_or(instruction.ip(), Instruction::ip), abi));
        }
        if instruction.is_invalid() || instruction.stack_pointer_increment() != 0 {
            return None;
        }
    }
    None
}

/// The first three words of arguments, in the order in which they are passed.
const ARGUMENTS: [Register; 3] = [Register::RAX, Register::RBX, Register::RCX];

/// Whether the function puts what it got in registers to where its caller left room for it, before it calls
/// another or branches, and writes nothing else there. On the stack they are there to begin with.
fn keeps_arguments(code: &[u8], abi: Abi) -> bool {
    let mut stored = [abi == Abi::Stack; ARGUMENTS.len()];
    let mut changed = [false; ARGUMENTS.len()];
    // Bytes between the stack pointer and the return address.
    let mut frame = 0_u64;
    let mut straight = true;
    for instruction in decoder(code) {
        straight &= match instruction.flow_control() {
            FlowControl::Next => true,
            // The check of the stack's room.
            FlowControl::ConditionalBranch => frame == 0,
            _ => false,
        };
        if straight {
            let Some(growth) = growth(&instruction) else { return false };
            frame = frame.wrapping_add(growth);
        }
        let room = frame.saturating_add(8)..frame.saturating_add(8 + 8 * ARGUMENTS.len() as u64);
        if may_write(&instruction, room.clone()) {
            let argument =
                usize::try_from((instruction.memory_displacement64().wrapping_sub(room.start)) / 8);
            let argument = argument.ok().filter(|argument| {
                straight
                    && instruction.code() == Code::Mov_rm64_r64
                    && Some(&instruction.op1_register()) == ARGUMENTS.get(*argument)
                    && instruction.memory_displacement64() % 8 == 0
                    && changed.get(*argument) == Some(&false)
            });
            let Some(stored) = argument.and_then(|argument| stored.get_mut(argument)) else { return false };
            *stored = true;
        }
        for (register, changed) in ARGUMENTS.iter().zip(&mut changed) {
            *changed |= instruction.op0_kind() == OpKind::Register
                && instruction.op0_register().full_register() == *register
                && !READS_FIRST.contains(&instruction.mnemonic());
        }
    }
    stored.iter().all(|stored| *stored)
}

/// Instructions that don't write to their first operand.
const READS_FIRST: [Mnemonic; 5] =
    [Mnemonic::Cmp, Mnemonic::Test, Mnemonic::Push, Mnemonic::Call, Mnemonic::Jmp];

/// By how much the stack pointer goes down, if that can be told.
fn growth(instruction: &Instruction) -> Option<u64> {
    let of_stack_pointer =
        instruction.op0_kind() == OpKind::Register && instruction.op0_register() == Register::RSP;
    let by = matches!(instruction.op1_kind(), OpKind::Immediate8to64 | OpKind::Immediate32to64)
        .then(|| instruction.immediate(1));
    match instruction.mnemonic() {
        Mnemonic::Push => Some(8),
        Mnemonic::Sub if of_stack_pointer => by,
        // The shorter way to go down by 128.
        Mnemonic::Add if of_stack_pointer => by.map(u64::wrapping_neg),
        _ => Some(0),
    }
}

/// Whether it may write to these distances from the stack pointer, or takes an address there.
fn may_write(instruction: &Instruction, room: std::ops::Range<u64>) -> bool {
    let takes_address = instruction.mnemonic() == Mnemonic::Lea;
    let writes = instruction.op0_kind() == OpKind::Memory && !READS_FIRST.contains(&instruction.mnemonic());
    if !(takes_address || writes) || instruction.memory_base() != Register::RSP {
        return false;
    }
    let begin = instruction.memory_displacement64();
    let end = begin.saturating_add(instruction.memory_size().size().max(1) as u64);
    instruction.memory_index() != Register::None || (begin < room.end && end > room.start)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop, proptest};

    use super::*;

    /// As Go 1.21 and later compile `func (c *T) f(b []byte) (int, error)`.
    const REGISTERS: &[&[u8]] = &[
        b"\x49\x3b\x66\x10",     // cmp rsp, [r14+0x10]
        b"\x76\x22",             // jbe to the end
        b"\x55",                 // push rbp
        b"\x48\x89\xe5",         // mov rbp, rsp
        b"\x48\x83\xec\x18",     // sub rsp, 0x18
        b"\x48\x89\x44\x24\x28", // mov [rsp+0x28], rax
        b"\x48\x89\x4c\x24\x38", // mov [rsp+0x38], rcx
        b"\x48\x89\x5c\x24\x30", // mov [rsp+0x30], rbx
        b"\xe8\x00\x00\x00\x00", // call
        b"\x48\x83\xc4\x18",     // add rsp, 0x18
        b"\x5d",                 // pop rbp
        b"\xc3",                 // ret
        b"\xe8\x00\x00\x00\x00", // call, of what makes the stack larger
        b"\xeb\xd1",             // jmp to the beginning
    ];

    /// As Go 1.16 and earlier do.
    const STACK: &[&[u8]] = &[
        b"\x64\x48\x8b\x0c\x25\xf8\xff\xff\xff", // mov rcx, fs:[-8]
        b"\x48\x3b\x61\x10",                     // cmp rsp, [rcx+0x10]
        b"\x76\x09",                             // jbe to the end
        b"\x48\x83\xec\x18",                     // sub rsp, 0x18
        b"\x48\x83\xc4\x18",                     // add rsp, 0x18
        b"\xc3",                                 // ret
    ];

    fn kept(code: &[&[u8]], abi: Abi) -> bool {
        keeps_arguments(&code.concat(), abi)
    }

    #[test]
    fn places_are_found_and_the_abi_told() {
        let expected = Sites { entry: 6, returns: vec![39], abi: Abi::Registers, keeps_arguments: true };
        assert_eq!(x86_64(&REGISTERS.concat()), Ok(expected));
        let expected = Sites { entry: 13, returns: vec![23], abi: Abi::Stack, keeps_arguments: true };
        assert_eq!(x86_64(&STACK.concat()), Ok(expected));
        let ret = ARM64_RET.to_le_bytes();
        let code = [&[0; 4], &ret[..], &[0; 2], &ret[..2]].concat();
        let sites = arm64(&code, Abi::Registers);
        assert_eq!((sites.entry, sites.returns, sites.abi), (0, vec![4], Abi::Registers));
    }

    #[test]
    fn other_code_is_refused() {
        let no_check = &REGISTERS[2..12].concat();
        assert_eq!(x86_64(no_check), Err("does not begin as Go's functions do"));
        let unknown = [&REGISTERS.concat()[..], &[0x06]].concat();
        assert_eq!(x86_64(&unknown), Err("has an unknown instruction"));
        let jump = [&REGISTERS.concat()[..], &[0xeb, 0x10]].concat();
        assert_eq!(x86_64(&jump), Err("is left by a jump"));
        assert_eq!(sites(&[], Abi::Stack), x86_64(&[]));
    }

    #[test]
    fn arguments_that_may_be_changed_are_not_kept() {
        assert!(kept(REGISTERS, Abi::Registers) && kept(STACK, Abi::Stack));
        for (at, instead) in [
            (7, &b"\x90"[..]),             // nop: the pointer is not stored
            (7, b"\x48\x89\x4c\x24\x30"),  // mov [rsp+0x30], rcx: it is another
            (4, b"\x48\x83\xec\x20"),      // sub rsp, 0x20: that is another place
            (3, b"\x48\x89\xc3"),          // mov rbx, rax: before it is stored
            (8, b"\x48\x89\x44\x24\x28"),  // mov [rsp+0x28], rax: no call, so it is the same again
            (10, b"\x48\x89\x44\x24\x28"), // the same after the call
            (9, b"\x48\x8d\x44\x24\x30"),  // lea rax, [rsp+0x30]
            (9, b"\x0f\x11\x44\x24\x24"),  // movups [rsp+0x24], xmm0
            (9, b"\x48\x89\x44\xcc\x08"),  // mov [rsp+rcx*8+8], rax
            (8, b"\x74\x00"),              // je
            (3, b"\x48\x2b\x24\x24"),      // sub rsp, [rsp]
        ] {
            let mut code = REGISTERS.to_vec();
            code[at] = instead;
            let harmless = at == 8;
            assert_eq!(kept(&code, Abi::Registers), harmless, "{}", instead.escape_ascii());
        }
        let store: &[u8] = b"\x48\x89\x44\x24\x28"; // mov [rsp+0x28], rax
        assert!(!kept(&[&STACK[..4], &[store], &STACK[4..]].concat(), Abi::Stack));
    }

    proptest! {
        #[test]
        fn any_bytes_end_in_an_answer(
            bytes in prop::collection::vec(any::<u8>(), 0..300),
            cut in 0_usize..60,
        ) {
            let begun = [&REGISTERS.concat()[..cut.min(46)], &bytes[..]].concat();
            for code in [bytes, begun] {
                if let Ok(sites) = x86_64(&code) {
                    assert!(sites.entry < code.len() as u64);
                    assert!(sites.returns.iter().all(|&at| (at as usize) < code.len()));
                }
                let _ = (arm64(&code, Abi::Stack), keeps_arguments(&code, Abi::Registers));
            }
        }
    }
}

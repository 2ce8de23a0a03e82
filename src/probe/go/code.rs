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
    /// Whether receiver, pointer and length of `func (c *T) f(b []byte) (int, error)` are on the stack at each
    /// return as they were passed: right above the return address.
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
            frame = frame.wrapping_add(growth(&instruction));
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

/// By how much the stack pointer goes down.
fn growth(instruction: &Instruction) -> u64 {
    let of_stack_pointer =
        instruction.op0_kind() == OpKind::Register && instruction.op0_register() == Register::RSP;
    match instruction.mnemonic() {
        Mnemonic::Push => 8,
        Mnemonic::Sub if of_stack_pointer && instruction.op1_kind() != OpKind::Register => {
            instruction.immediate(1)
        }
        // The shorter way to go down by 128.
        Mnemonic::Add if of_stack_pointer && instruction.op1_kind() != OpKind::Register => {
            instruction.immediate(1).wrapping_neg()
        }
        _ => 0,
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

//! What a function of x86-64 does, as far as it tells which one it is.

use std::collections::BTreeSet;

use iced_x86::{
    Decoder, DecoderOptions, FlowControl, Instruction, InstructionInfoFactory, Mnemonic, OpAccess,
};
use iced_x86::{OpKind, Register};

use super::table::Argument;

/// Functions begin at multiples of this, if there is room before them.
const ALIGNMENT: u64 = 16;

/// What was seen in the code of a function.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Facts {
    /// Numbers that are put into registers for arguments.
    pub(super) numbers: BTreeSet<(Argument, u32)>,
    /// Addresses of what it calls, or goes to at its end.
    pub(super) calls: BTreeSet<u64>,
    /// Whether it writes to what is not its stack.
    pub(super) stores: bool,
    /// Fields of objects, by distance from their beginning, to which something is added.
    pub(super) counters: BTreeSet<u64>,
    /// Whether it takes a fifth argument: before it calls another function, it reads what was passed as such.
    pub(super) fifth: bool,
    /// Its length in bytes.
    pub(super) bytes: u64,
    /// Whether its code could be read from the beginning to the end.
    pub(super) whole: bool,
}

/// Reads the function that begins at `address` with `code`. Its end is that of `code` where `ends` is true;
/// else it is where nothing before leads farther.
pub(super) fn facts(code: &[u8], address: u64, ends: bool) -> Facts {
    let mut facts = Facts::default();
    let end = address.saturating_add(code.len() as u64);
    // As far as its own branches go.
    let mut reach = address;
    let mut stack = vec![];
    let mut registers = InstructionInfoFactory::new();
    let mut untouched = true;
    // Where a call ends, if at most room was filled since.
    let mut called = None;
    for instruction in Decoder::with_ip(64, code, address, DecoderOptions::NONE) {
        if instruction.is_invalid() {
            return facts;
        }
        // A call that may never return ends the function, if room is filled after it or another one begins.
        if let Some(from) = called.filter(|from| !ends && *from > reach) {
            let filled =
                instruction.mnemonic() == Mnemonic::Nop && instruction.next_ip().is_multiple_of(ALIGNMENT);
            let begins = instruction.ip().is_multiple_of(ALIGNMENT) && begins_function(&instruction);
            if filled || begins {
                facts.bytes = from - address;
                facts.whole = true;
                return facts;
            }
        }
        called = match instruction.mnemonic() {
            Mnemonic::Call => Some(instruction.next_ip()),
            Mnemonic::Nop => called,
            _ => None,
        };
        facts.take(&instruction, &mut stack);
        if untouched {
            let used = registers.info(&instruction).used_registers();
            let mut fifth = used.iter().filter(|used| used.register().full_register() == Register::R8);
            facts.fifth |= fifth.clone().any(|used| used.access() != OpAccess::Write);
            untouched = fifth.next().is_none() && instruction.mnemonic() != Mnemonic::Call;
        }
        facts.bytes = instruction.next_ip() - address;
        let target = branch_target(&instruction);
        if let Some(target) = target.filter(|target| (address..end).contains(target)) {
            reach = reach.max(target);
        } else if let Some(target) = target {
            facts.calls.insert(target);
        }
        let leaves = matches!(
            instruction.flow_control(),
            FlowControl::Return
                | FlowControl::UnconditionalBranch
                | FlowControl::IndirectBranch
                | FlowControl::Exception
                | FlowControl::Interrupt
        );
        if !ends && leaves && instruction.next_ip() > reach {
            facts.whole = true;
            return facts;
        }
    }
    facts.whole = ends;
    facts
}

impl Facts {
    /// Whether it passes the number on as that argument.
    pub(super) fn passes(&self, argument: Argument, number: u32) -> bool {
        let places = match argument {
            Argument::Either => &[Argument::Second, Argument::Third][..],
            _ => &[argument],
        };
        places.iter().any(|place| self.numbers.contains(&(*place, number)))
    }

    fn take(&mut self, instruction: &Instruction, pushed: &mut Vec<u32>) {
        let to_register = instruction.op0_kind() == OpKind::Register;
        match instruction.mnemonic() {
            Mnemonic::Mov if to_register && instruction.op1_kind() == OpKind::Immediate32 => {
                self.number(instruction.op0_register(), instruction.immediate32());
            }
            // The shortest way to put a small number into a register.
            Mnemonic::Push if instruction.op0_kind() == OpKind::Immediate8to64 => {
                pushed.push(u32::from(instruction.immediate8()));
            }
            Mnemonic::Pop if to_register => {
                if let Some(number) = pushed.pop() {
                    self.number(instruction.op0_register(), number);
                }
            }
            Mnemonic::Mov | Mnemonic::Add | Mnemonic::Sub | Mnemonic::Movups | Mnemonic::Movdqu
                if is_object(instruction) =>
            {
                self.stores = true;
                if instruction.mnemonic() == Mnemonic::Add {
                    self.counters.insert(instruction.memory_displacement64());
                }
            }
            Mnemonic::Call if instruction.op0_kind() == OpKind::NearBranch64 => {
                self.calls.insert(instruction.near_branch_target());
            }
            _ => {}
        }
        if instruction.mnemonic() != Mnemonic::Push && instruction.mnemonic() != Mnemonic::Pop {
            pushed.clear();
        }
    }

    fn number(&mut self, register: Register, number: u32) {
        match register {
            Register::ESI | Register::RSI => self.numbers.insert((Argument::Second, number)),
            Register::EDX | Register::RDX => self.numbers.insert((Argument::Third, number)),
            _ => false,
        };
    }
}

/// Whether the first operand is memory, of an object that a register points to.
fn is_object(instruction: &Instruction) -> bool {
    let stack = [Register::None, Register::RSP, Register::RBP, Register::RIP];
    instruction.op0_kind() == OpKind::Memory && !stack.contains(&instruction.memory_base())
}

/// Whether a function may begin so, which makes room on its stack or saves what is its caller's.
fn begins_function(instruction: &Instruction) -> bool {
    let kept = [Register::RBX, Register::RBP, Register::R12, Register::R13, Register::R14, Register::R15];
    match instruction.mnemonic() {
        Mnemonic::Push => kept.contains(&instruction.op0_register()),
        Mnemonic::Sub => instruction.op0_register() == Register::RSP,
        mnemonic => mnemonic == Mnemonic::Endbr64,
    }
}

/// Where a jump leads to.
fn branch_target(instruction: &Instruction) -> Option<u64> {
    let jumps = matches!(
        instruction.flow_control(),
        FlowControl::ConditionalBranch | FlowControl::UnconditionalBranch
    );
    jumps.then(|| instruction.near_branch_target())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop, proptest};

    use super::*;

    /// Of a function that tells an error, adds to a field and calls another.
    const CODE: &[u8] = b"\x48\x85\xff\
        \x74\x11\
        \xbe\x10\x01\x00\x00\
        \xba\x42\x00\x00\x00\
        \xe8\xe9\x0f\x00\x00\
        \xeb\x04\
        \x48\x01\x47\x48\
        \x90\xc3\
        \x90\xba\x07\x00\x00\x00";

    #[test]
    fn what_a_function_does_is_seen_up_to_its_end() {
        let seen = facts(CODE, 0x1000, false);
        let numbers = [(Argument::Second, 0x110), (Argument::Third, 0x42)];
        assert_eq!(seen.numbers, BTreeSet::from(numbers), "not 7: that is beyond the return");
        assert_eq!((seen.calls, seen.counters), (BTreeSet::from([0x1ffd]), BTreeSet::from([0x48])));
        assert!(seen.stores && seen.whole && !seen.fifth);
        assert_eq!(seen.bytes, 28);
        let all = facts(CODE, 0x1000, true);
        assert!(all.whole && all.passes(Argument::Either, 7) && all.bytes == CODE.len() as u64);
        assert!(!facts(&CODE[..20], 0x1000, false).whole, "it goes on");
    }

    #[test]
    fn a_call_that_never_returns_ends_a_function() {
        // call; a nop of ten bytes; a nop; mov edx, 7
        let code =
            b"\xe8\x00\x10\x00\x00\x66\x2e\x0f\x1f\x84\x00\x00\x00\x00\x00\x90\xba\x07\x00\x00\x00\xc3";
        let seen = facts(code, 0x1000, false);
        assert!(seen.whole && seen.bytes == 5 && seen.numbers.is_empty(), "{seen:?}");
        let elsewhere = facts(code, 0x1002, false);
        assert_eq!(elsewhere.bytes, code.len() as u64, "no room up to a multiple of 16");
    }

    #[test]
    fn numbers_go_into_registers_in_several_ways() {
        let pushed = facts(b"\x6a\x42\x5a\xc3", 0, true);
        assert!(pushed.passes(Argument::Third, 0x42));
        let apart = facts(b"\x6a\x42\x90\x5a\xc3", 0, true);
        assert!(!apart.passes(Argument::Either, 0x42));
    }

    #[test]
    fn a_fifth_argument_is_one_that_is_read_before_it_is_written() {
        for (code, fifth) in [
            (&b"\x4c\x89\xc3\xc3"[..], true),                 // mov rbx, r8
            (b"\x45\x31\xc0\x4c\x89\xc3\xc3", false),         // xor r8d, r8d; mov rbx, r8
            (b"\x41\xb8\x01\x00\x00\x00\x4c\x89\xc3", false), // mov r8d, 1; mov rbx, r8
            (b"\xe8\x00\x00\x00\x00\x4c\x89\xc3\xc3", false), // call; mov rbx, r8
        ] {
            assert_eq!(facts(code, 0, true).fifth, fifth, "{}", code.escape_ascii());
        }
    }

    proptest! {
        #[test]
        fn any_bytes_end_in_an_answer(code in prop::collection::vec(any::<u8>(), 0..300), address: u64) {
            for ends in [true, false] {
                assert!(facts(&code, address, ends).bytes <= code.len() as u64);
            }
        }
    }
}

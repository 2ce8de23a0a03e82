//! What a function of x86-64 does, as far as it tells which one it is.

use std::collections::BTreeSet;

use iced_x86::{
    Decoder, DecoderOptions, FlowControl, Instruction, InstructionInfoFactory, Mnemonic, OpAccess,
};
use iced_x86::{OpKind, Register};

use super::table::Argument;

/// What was seen in the code of a function.
#[derive(Debug, Default, PartialEq, Eq)]
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
    for instruction in Decoder::with_ip(64, code, address, DecoderOptions::NONE) {
        if instruction.is_invalid() {
            return facts;
        }
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

/// Where a jump leads to.
fn branch_target(instruction: &Instruction) -> Option<u64> {
    let jumps = matches!(
        instruction.flow_control(),
        FlowControl::ConditionalBranch | FlowControl::UnconditionalBranch
    );
    jumps.then(|| instruction.near_branch_target())
}

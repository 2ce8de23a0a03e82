//! Where a library's session has the client's random number: read in the code of the function that gives it.
//!
//! `SSL_get_client_random` and `gnutls_session_get_random` get the session and copy from it, or point into
//! it. So the first address that they compute from their first argument, by way of pointers or not, is that
//! of the random number. The code is followed from its beginning in the order in which it is written, which
//! is enough for functions as short as these; it is only known to be read on x86-64.

use iced_x86::{Decoder, DecoderOptions, Instruction, InstructionInfoFactory, Mnemonic, OpKind, Register};

/// Most pointers that are followed, the last offset included: `RANDOM_STEPS_MAX` of `bpf/secret.h`.
pub const STEPS_MAX: usize = 3;
/// Most bytes of code that are looked at.
pub(super) const CODE_BYTES_MAX: u64 = 512;
/// Largest distance within a session.
const OFFSET_MAX: u64 = 64 << 10;

/// The way from a session to the random number: each offset but the last is that of a pointer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RandomPlace(Vec<u32>);

impl RandomPlace {
    /// One to [`STEPS_MAX`] offsets.
    #[must_use]
    pub fn offsets(&self) -> &[u32] {
        &self.0
    }
}

/// Finds it in the code of the function.
pub(super) fn place(code: &[u8]) -> Option<RandomPlace> {
    if cfg!(not(target_arch = "x86_64")) {
        return None;
    }
    let mut known = Known(vec![(Register::RDI, vec![0])]);
    let mut info = InstructionInfoFactory::new();
    for instruction in Decoder::with_ip(64, code, 0, DecoderOptions::NONE) {
        if instruction.is_invalid() {
            return None;
        }
        match known.result(&instruction) {
            Some((register, chain, computed)) => {
                if computed && chain.last().is_some_and(|offset| *offset > 0) {
                    return finished(&chain);
                }
                known.forget(register);
                known.0.push((register, chain));
            }
            None => {
                let used = info.info(&instruction).used_registers();
                let written = used.iter().filter(|used| {
                    use iced_x86::OpAccess::{CondRead, None, Read};
                    !matches!(used.access(), None | Read | CondRead)
                });
                written.for_each(|used| known.forget(used.register().full_register()));
            }
        }
    }
    None
}

fn finished(chain: &[u64]) -> Option<RandomPlace> {
    let offsets: Vec<_> = chain.iter().filter_map(|offset| u32::try_from(*offset).ok()).collect();
    let sound = offsets.len() == chain.len() && offsets.len() <= STEPS_MAX;
    (sound && chain.iter().all(|offset| *offset < OFFSET_MAX)).then_some(RandomPlace(offsets))
}

/// Registers that hold the session, or what a way from it leads to.
struct Known(Vec<(Register, Vec<u64>)>);

impl Known {
    fn chain(&self, register: Register) -> Option<&Vec<u64>> {
        self.0.iter().find(|(known, _)| *known == register).map(|(_, chain)| chain)
    }

    fn forget(&mut self, register: Register) {
        self.0.retain(|(known, _)| *known != register);
    }

    /// The register that the instruction puts something known into, the way to that, and whether it is an
    /// address that was computed.
    fn result(&self, instruction: &Instruction) -> Option<(Register, Vec<u64>, bool)> {
        let register = instruction.op0_register();
        if instruction.op0_kind() != OpKind::Register || register.size() != 8 {
            return None;
        }
        let (mut chain, computed) = match (instruction.mnemonic(), instruction.op1_kind()) {
            (Mnemonic::Mov, OpKind::Register) => (self.chain(instruction.op1_register())?.clone(), false),
            (Mnemonic::Mov, OpKind::Memory) => {
                let mut chain = self.plain_memory(instruction)?;
                chain.push(0);
                return Some((register, chain, false));
            }
            (Mnemonic::Lea, OpKind::Memory) => {
                return Some((register, self.plain_memory(instruction)?, true));
            }
            (Mnemonic::Add, OpKind::Immediate8to64 | OpKind::Immediate32to64) => {
                (self.chain(register)?.clone(), true)
            }
            _ => return None,
        };
        if computed {
            let last = chain.last_mut()?;
            *last = last.checked_add(instruction.immediate(1))?;
        }
        Some((register, chain, computed))
    }

    /// The way to a place in memory that is told by a known register and a distance.
    fn plain_memory(&self, instruction: &Instruction) -> Option<Vec<u64>> {
        let plain =
            instruction.memory_index() == Register::None && instruction.segment_prefix() == Register::None;
        let mut chain = self.chain(instruction.memory_base()).filter(|_| plain)?.clone();
        let last = chain.last_mut()?;
        *last = last.checked_add(instruction.memory_displacement64())?;
        Some(chain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offsets(code: &[&[u8]]) -> Option<Vec<u32>> {
        place(&code.concat()).map(|place| place.offsets().to_vec())
    }

    #[test]
    fn in_the_session_itself() {
        // SSL_get_client_random of OpenSSL 3.0.
        let code: &[&[u8]] = &[
            b"\x48\x89\xf1",                 // mov rcx, rsi
            b"\xb8\x20\x00\x00\x00",         // mov eax, 0x20
            b"\x48\x85\xd2",                 // test rdx, rdx
            b"\x74\x55",                     // je
            b"\x48\x39\xc2",                 // cmp rdx, rax
            b"\x48\x8d\xb7\x60\x01\x00\x00", // lea rsi, [rdi+0x160]
        ];
        assert_eq!(offsets(code), Some(vec![0x160]));
        // gnutls_session_get_master_secret: add rdi, 0x20.
        assert_eq!(offsets(&[b"\x48\x83\xc7\x20"]), Some(vec![0x20]));
    }

    #[test]
    fn by_way_of_a_pointer() {
        // The same of OpenSSL 1.1.1.
        let code: &[&[u8]] = &[
            b"\x48\x8b\xbf\xa8\x00\x00\x00", // mov rdi, [rdi+0xa8]
            b"\x48\x8d\x8f\xb8\x00\x00\x00", // lea rcx, [rdi+0xb8]
        ];
        assert_eq!(offsets(code), Some(vec![0xa8, 0xb8]));
        // mov rbx, rdi; xor edi, edi; lea rax, [rbx+0x10]
        let kept: &[&[u8]] = &[b"\x48\x89\xfb", b"\x31\xff", b"\x48\x8d\x43\x10"];
        assert_eq!(offsets(kept), Some(vec![0x10]));
    }

    #[test]
    fn where_it_is_not_certain_there_is_none() {
        let lea: &[u8] = b"\x48\x8d\xb7\x60\x01\x00\x00";
        for before in [
            &b"\x31\xff"[..], // xor edi, edi
            b"\x48\x8b\x3e",  // mov rdi, [rsi]
            b"\xff\xd7\x06",  // no instruction after a call
            b"\x48\x03\x3e",  // add rdi, [rsi]
        ] {
            assert_eq!(offsets(&[before, lea]), None, "{}", before.escape_ascii());
        }
        assert_eq!(offsets(&[b"\x48\x8d\x34\x37"]), None, "lea rsi, [rdi+rsi]");
        assert_eq!(offsets(&[b"\x48\x8d\x77\xf8"]), None, "lea rsi, [rdi-8]");
        let far: &[u8] = b"\x48\x8b\x3f";
        assert_eq!(offsets(&[far, far, far, lea]), None, "by way of three pointers");
        assert_eq!(offsets(&[]), None);
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_end_in_an_answer(code in proptest::collection::vec(proptest::num::u8::ANY, 0..99)) {
            if let Some(place) = place(&code) {
                assert!((1..=STEPS_MAX).contains(&place.offsets().len()));
            }
        }
    }
}

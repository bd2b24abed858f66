//! AMX: eight registers of a square each, and an instruction that multiplies two of them.
//!
//! Rust has no stable intrinsics for it, so it is assembly. Compiled code never touches these registers: how they are set up
//! stays from one block of assembly to the next, and each block loads and stores what it computes itself.

use std::arch::asm;
use std::arch::x86_64::*;
use std::sync::OnceLock;

use super::{Scores, Unit, Values};

/// Proof that the machine multiplies squares of bf16 and that the system lets this process do it.
#[derive(Clone, Copy)]
pub(crate) struct Amx(());

impl Amx {
    /// Asks the machine, and the system for permission, once in a process.
    pub(crate) fn detect() -> Option<Self> {
        static IS_USABLE: OnceLock<bool> = OnceLock::new();
        IS_USABLE
            .get_or_init(|| has_instructions() && is_permitted())
            .then_some(Self(()))
    }

    /// Works with the calling thread's unit set up. Then ends that: the system has nothing to save when it takes the thread from
    /// its core.
    pub(crate) fn set_up(self, work: impl FnOnce()) {
        // SAFETY: the machine has the instruction, and the set-up is a valid one.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const SET_UP, options(nostack, readonly)) };
        work();
        // SAFETY: the machine has the instruction.
        unsafe { asm!("tilerelease", options(nostack, nomem)) };
    }
}

/// Whether there are instructions for squares of bf16 and the system saves their registers.
fn has_instructions() -> bool {
    const BF16: u32 = 1 << 22;
    const SQUARES: u32 = 1 << 24;
    /// The bits of XCR0 for the registers and their set-up.
    const SAVED: u64 = 3 << 17;
    if !is_x86_feature_detected!("avx512bw") || __cpuid(0).eax < 7 {
        return false;
    }
    let has_both = __cpuid_count(7, 0).edx & (BF16 | SQUARES) == BF16 | SQUARES;
    // SAFETY: AVX-512 needs `xgetbv` and a system that lets it be used.
    has_both && unsafe { extended_control() } & SAVED == SAVED
}

#[target_feature(enable = "xsave")]
unsafe fn extended_control() -> u64 {
    // SAFETY: register 0 exists wherever the instruction does.
    unsafe { _xgetbv(0) }
}

/// Asks Linux, which gives the registers only to processes that do.
fn is_permitted() -> bool {
    const ARCH_PRCTL: i64 = 158;
    const ARCH_REQ_XCOMP_PERM: u64 = 0x1023;
    const XFEATURE_XTILEDATA: u64 = 18;
    let mut result = ARCH_PRCTL;
    // SAFETY: this call reads no memory; a system that does not know it says so. `syscall` changes rcx and r11.
    unsafe {
        asm!("syscall", inlateout("rax") result, in("rdi") ARCH_REQ_XCOMP_PERM, in("rsi") XFEATURE_XTILEDATA,
            lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    result == 0
}

/// What `ldtilecfg` reads: of each register, the bytes of a line and the lines.
#[repr(C, align(64))]
struct SetUp {
    palette: u8,
    start_line: u8,
    reserved: [u8; 14],
    n_bytes: [u16; 16],
    n_lines: [u8; 16],
}

/// Registers 0 to 3 and 7 are whole squares, 4 has lines of eight pairs, of weights, and 5 and 6 have eight lines, of values.
static SET_UP: SetUp = SetUp {
    palette: 1,
    start_line: 0,
    reserved: [0; 14],
    n_bytes: [64, 64, 64, 64, 32, 64, 64, 64, 0, 0, 0, 0, 0, 0, 0, 0],
    n_lines: [16, 16, 16, 16, 16, 8, 8, 16, 0, 0, 0, 0, 0, 0, 0, 0],
};

impl Unit for Amx {
    #[inline(always)]
    unsafe fn add_scores(self, of: Scores<'_>) {
        let Scores {
            queries,
            keys,
            key_stride,
            scores,
            are_first,
        } = of;
        if keys.is_empty() {
            return;
        }
        // SAFETY: the machine has the instructions, the unit is set up, and the caller says that the memory is there. The
        // second square of keys is sixteen lines behind the first.
        unsafe {
            asm!(
                "tileloadd tmm1, [{queries} + {query_stride}]",
                "tileloadd tmm2, [{queries} + {query_stride} + 64]",
                "2:",
                "mov {key}, [{keys}]",
                "tilezero tmm0",
                "test {are_first:e}, {are_first:e}",
                "jnz 3f",
                "tileloadd tmm0, [{scores} + {score_stride}]",
                "3:",
                "tileloadd tmm7, [{key} + {key_stride}]",
                "tdpbf16ps tmm0, tmm1, tmm7",
                "add {key}, {square}",
                "tileloadd tmm3, [{key} + {key_stride}]",
                "tdpbf16ps tmm0, tmm2, tmm3",
                "tilestored [{scores} + {score_stride}], tmm0",
                "add {keys}, 8",
                "add {scores}, 64",
                "dec {n}",
                "jnz 2b",
                queries = in(reg) queries.start,
                query_stride = in(reg) queries.stride,
                keys = inout(reg) keys.as_ptr() => _,
                key = out(reg) _,
                key_stride = in(reg) key_stride,
                square = in(reg) 16 * key_stride,
                scores = inout(reg) scores.start => _,
                score_stride = in(reg) scores.stride,
                are_first = in(reg) u32::from(are_first),
                n = inout(reg) keys.len() => _,
                out("tmm0") _,
                out("tmm1") _,
                out("tmm2") _,
                out("tmm3") _,
                out("tmm7") _,
                options(nostack),
            );
        }
    }

    #[inline(always)]
    unsafe fn add_values(self, of: Values<'_>) {
        let Values {
            weights,
            values,
            value_stride,
            sums,
        } = of;
        if values.is_empty() {
            return;
        }
        // SAFETY: as in `add_scores`.
        unsafe {
            asm!(
                "tileloadd tmm0, [{sums} + {sum_stride}]",
                "tileloadd tmm1, [{sums} + {sum_stride} + 64]",
                "tileloadd tmm2, [{sums} + {sum_stride} + 128]",
                "tileloadd tmm3, [{sums} + {sum_stride} + 192]",
                "2:",
                "mov {value}, [{values}]",
                "tileloadd tmm4, [{weights} + {weight_stride}]",
                "tileloadd tmm5, [{value} + {value_stride}]",
                "tdpbf16ps tmm0, tmm4, tmm5",
                "tileloadd tmm6, [{value} + {value_stride} + 64]",
                "tdpbf16ps tmm1, tmm4, tmm6",
                "tileloadd tmm5, [{value} + {value_stride} + 128]",
                "tdpbf16ps tmm2, tmm4, tmm5",
                "tileloadd tmm6, [{value} + {value_stride} + 192]",
                "tdpbf16ps tmm3, tmm4, tmm6",
                "add {values}, 8",
                "add {weights}, 32",
                "dec {n}",
                "jnz 2b",
                "tilestored [{sums} + {sum_stride}], tmm0",
                "tilestored [{sums} + {sum_stride} + 64], tmm1",
                "tilestored [{sums} + {sum_stride} + 128], tmm2",
                "tilestored [{sums} + {sum_stride} + 192], tmm3",
                sums = in(reg) sums.start,
                sum_stride = in(reg) sums.stride,
                values = inout(reg) values.as_ptr() => _,
                value = out(reg) _,
                value_stride = in(reg) value_stride,
                weights = inout(reg) weights.start => _,
                weight_stride = in(reg) weights.stride,
                n = inout(reg) values.len() => _,
                out("tmm0") _,
                out("tmm1") _,
                out("tmm2") _,
                out("tmm3") _,
                out("tmm4") _,
                out("tmm5") _,
                out("tmm6") _,
                options(nostack),
            );
        }
    }
}

//! AMX: eight registers of a square each, and an instruction that multiplies two of them.
//!
//! Rust has no stable intrinsics for it, so it is assembly. Compiled code never touches these registers: how they are set up
//! stays from one block of assembly to the next, and so do sums of bytes from where they are begun to where they are stored.

use std::arch::asm;
use std::arch::x86_64::*;
use std::sync::OnceLock;

use super::{ByteStep, ByteSums, LANES, LINE, SQUARE, Scores, SetUp, Unit, Values, are_together};
use crate::cpu::SHIFT;
use crate::simd::Simd;
use crate::simd::avx512::Avx512;

/// Proof that the machine multiplies squares of bf16 and of bytes and that the system lets this process do it.
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
    pub(crate) fn set_up(self, set_up: SetUp, work: impl FnOnce()) {
        let registers = Registers::of(set_up);
        // SAFETY: the machine has the instruction, and the set-up is a valid one.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const registers, options(nostack, readonly)) };
        work();
        // SAFETY: the machine has the instruction.
        unsafe { asm!("tilerelease", options(nostack, nomem)) };
    }
}

/// Whether there are instructions for squares of bf16 and of bytes and the system saves their registers.
fn has_instructions() -> bool {
    const BF16: u32 = 1 << 22;
    const SQUARES: u32 = 1 << 24;
    const BYTES: u32 = 1 << 25;
    /// The bits of XCR0 for the registers and their set-up.
    const SAVED: u64 = 3 << 17;
    if !is_x86_feature_detected!("avx512bw") || __cpuid(0).eax < 7 {
        return false;
    }
    let all = BF16 | SQUARES | BYTES;
    let has_all = __cpuid_count(7, 0).edx & all == all;
    // SAFETY: AVX-512 needs `xgetbv` and a system that lets it be used.
    has_all && unsafe { extended_control() } & SAVED == SAVED
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
struct Registers {
    palette: u8,
    start_line: u8,
    reserved: [u8; 14],
    n_bytes: [u16; 16],
    n_lines: [u8; 16],
}

impl Registers {
    fn of(set_up: SetUp) -> Self {
        let (n_bytes, n_lines) = match set_up {
            // 0 to 3 and 7 are whole squares, 4 has lines of eight pairs, of weights, and 5 and 6 have eight lines, of values.
            SetUp::Attention => (
                [64, 64, 64, 64, 32, 64, 64, 64],
                [16, 16, 16, 16, 16, 8, 8, 16],
            ),
            // 0 to 3 are sums, 4 and 5 planes, 6 and 7 weights.
            SetUp::Bytes { n_columns } => {
                let n = if are_together(n_columns) {
                    2 * n_columns
                } else {
                    n_columns.min(LANES)
                };
                let n = n as u8;
                ([64; 8], [n, n, n, n, n, n, 16, 16])
            }
        };
        let mut registers = Self {
            palette: 1,
            start_line: 0,
            reserved: [0; 14],
            n_bytes: [0; 16],
            n_lines: [0; 16],
        };
        registers.n_bytes[..8].copy_from_slice(&n_bytes);
        registers.n_lines[..8].copy_from_slice(&n_lines);
        registers
    }
}

impl Unit for Amx {
    type Vectors = Avx512;

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
    #[inline(always)]
    fn factors(self, factors: &[u8; LANES]) -> <Avx512 as Simd>::I {
        // SAFETY: the machine has AVX-512 F and BW; the array has as many bytes as are loaded.
        unsafe {
            let factors = _mm_loadu_si128(factors.as_ptr().cast());
            // Rows 4 * i to 4 * i + 3 go to part i, each to both words of its lane.
            let spread = _mm512_broadcast_i32x4(factors);
            _mm512_shuffle_epi8(spread, _mm512_loadu_si512(SPREAD.as_ptr().cast()))
        }
    }

    /// A product of a factor and a nibble has twelve bits, of which the upper eight are wanted. A nibble at bit 0 or 4 has them in the
    /// upper byte of its product by a factor four or no bits up, one at bit 8 or 12 in the word above.
    #[inline(always)]
    fn whole(self, codes: &[u8; LINE], factors: <Avx512 as Simd>::I) -> [<Avx512 as Simd>::I; 2] {
        const UPPER: i16 = 0xff00u16.cast_signed();
        /// `a | b & c`, bit by bit.
        const JOIN: i32 = 0xf8;
        // SAFETY: as in `factors`.
        unsafe {
            let codes = _mm512_loadu_si512(codes.as_ptr().cast());
            let nibbles = |at: u32| _mm512_and_si512(codes, _mm512_set1_epi16(15i16 << at));
            let up = _mm512_slli_epi16::<SHIFT>(factors);
            let low = _mm512_ternarylogic_epi32::<JOIN>(
                _mm512_mulhi_epu16(nibbles(8), up),
                _mm512_mullo_epi16(nibbles(0), up),
                _mm512_set1_epi16(UPPER),
            );
            let high = _mm512_ternarylogic_epi32::<JOIN>(
                _mm512_mulhi_epu16(nibbles(12), factors),
                _mm512_mullo_epi16(nibbles(4), factors),
                _mm512_set1_epi16(UPPER),
            );
            [low, high]
        }
    }

    #[inline(always)]
    fn store(self, vector: <Avx512 as Simd>::I, out: &mut [u8; LINE]) {
        // SAFETY: as in `factors`.
        unsafe { _mm512_storeu_si512(out.as_mut_ptr().cast(), vector) };
    }

    #[inline(always)]
    unsafe fn begin_sums<const TOGETHER: bool>(self, _: &mut ByteSums) {
        // SAFETY: the machine has the instructions, and the unit is set up.
        unsafe {
            asm!(
                "tilezero tmm0",
                "tilezero tmm1",
                "tilezero tmm2",
                "tilezero tmm3",
                out("tmm0") _,
                out("tmm1") _,
                out("tmm2") _,
                out("tmm3") _,
                options(nostack),
            );
        }
    }

    #[inline(always)]
    unsafe fn begin_step(self, of: ByteStep<'_>, before: &mut ByteSums, _: &mut ByteSums) {
        let stride = of.stride * size_of::<i32>();
        // SAFETY: the caller says that the machine, its set-up and the memory are there; there is room for sixteen lines of each sum.
        unsafe {
            asm!(
                "tileloadd tmm4, [{planes} + {stride}]",
                "tileloadd tmm6, [{weights} + {line}]",
                "tileloadd tmm7, [{weights} + {line} + {square}]",
                "tileloadd tmm5, [{low} + {stride}]",
                "tilestored [{sums} + {line}], tmm0",
                "tilezero tmm0",
                "tdpbsud tmm0, tmm4, tmm6",
                "tilestored [{sums} + {line} + {square}], tmm1",
                "tilezero tmm1",
                "tdpbsud tmm1, tmm4, tmm7",
                "tilestored [{sums} + {line} + 2 * {square}], tmm2",
                "tilezero tmm2",
                "tdpbsud tmm2, tmm5, tmm6",
                "tilestored [{sums} + {line} + 3 * {square}], tmm3",
                "tilezero tmm3",
                "tdpbsud tmm3, tmm5, tmm7",
                planes = in(reg) of.planes.as_ptr(),
                low = in(reg) of.planes.as_ptr().wrapping_byte_add(stride),
                stride = in(reg) 2 * stride,
                weights = in(reg) of.weights.as_ptr(),
                sums = in(reg) &raw mut before.0,
                line = in(reg) LINE,
                square = const SQUARE,
                out("tmm0") _,
                out("tmm1") _,
                out("tmm2") _,
                out("tmm3") _,
                out("tmm4") _,
                out("tmm5") _,
                out("tmm6") _,
                out("tmm7") _,
                options(nostack),
            );
        }
    }

    #[inline(always)]
    unsafe fn add_step<const TOGETHER: bool>(self, of: ByteStep<'_>, _: &mut ByteSums) {
        // SAFETY: the caller says the same.
        unsafe {
            if TOGETHER {
                add_together(&of);
            } else {
                add_apart(&of);
            }
        }
    }

    #[inline(always)]
    unsafe fn end_sums<const TOGETHER: bool>(self, sums: &mut ByteSums) {
        // SAFETY: as in `add_step`; there is room for sixteen lines of each.
        unsafe {
            asm!(
                "tilestored [{sums} + {line}], tmm0",
                "tilestored [{sums} + {line} + {square}], tmm1",
                sums = in(reg) &raw mut sums.0,
                line = in(reg) LINE,
                square = const SQUARE,
                options(nostack),
            );
            if TOGETHER {
                return;
            }
            asm!(
                "tilestored [{sums} + {line}], tmm2",
                "tilestored [{sums} + {line} + {square}], tmm3",
                sums = in(reg) &raw mut sums.0[1],
                line = in(reg) LINE,
                square = const SQUARE,
                options(nostack),
            );
        }
    }
}

/// Adds the products of a step, of columns whose planes are lines of one square, to registers 0 and 1.
///
/// All squares are loaded before any is multiplied: while another thread computes on the same core, loads wait for the
/// products before them.
///
/// # Safety
/// The machine has the instructions, the unit is set up for as many columns, and each has such a step.
#[inline(always)]
unsafe fn add_together(of: &ByteStep<'_>) {
    let stride = of.stride * size_of::<i32>();
    // SAFETY: the caller says that the machine, its set-up and the memory are there.
    unsafe {
        asm!(
            "tileloadd tmm4, [{planes} + {stride}]",
            "tileloadd tmm6, [{weights} + {line}]",
            "tileloadd tmm7, [{weights} + {line} + {square}]",
            "tdpbsud tmm0, tmm4, tmm6",
            "tdpbsud tmm1, tmm4, tmm7",
            planes = in(reg) of.planes.as_ptr(),
            stride = in(reg) stride,
            weights = in(reg) of.weights.as_ptr(),
            line = in(reg) LINE,
            square = const SQUARE,
            out("tmm0") _,
            out("tmm1") _,
            out("tmm4") _,
            out("tmm6") _,
            out("tmm7") _,
            options(nostack, readonly),
        );
    }
}

/// Adds the products of a step, of columns whose planes are squares of their own, to registers 0 and 1, of high bytes, and 2
/// and 3, of low ones.
///
/// # Safety
/// As of [`add_together`].
#[inline(always)]
unsafe fn add_apart(of: &ByteStep<'_>) {
    let stride = of.stride * size_of::<i32>();
    // SAFETY: as in `add_together`.
    unsafe {
        asm!(
            "tileloadd tmm4, [{high} + {stride}]",
            "tileloadd tmm6, [{weights} + {line}]",
            "tileloadd tmm7, [{weights} + {line} + {square}]",
            "tileloadd tmm5, [{low} + {stride}]",
            "tdpbsud tmm0, tmm4, tmm6",
            "tdpbsud tmm1, tmm4, tmm7",
            "tdpbsud tmm2, tmm5, tmm6",
            "tdpbsud tmm3, tmm5, tmm7",
            high = in(reg) of.planes.as_ptr(),
            low = in(reg) of.planes.as_ptr().wrapping_byte_add(stride),
            stride = in(reg) 2 * stride,
            weights = in(reg) of.weights.as_ptr(),
            line = in(reg) LINE,
            square = const SQUARE,
            out("tmm0") _,
            out("tmm1") _,
            out("tmm2") _,
            out("tmm3") _,
            out("tmm4") _,
            out("tmm5") _,
            out("tmm6") _,
            out("tmm7") _,
            options(nostack, readonly),
        );
    }
}

/// Bytes of [`Amx::factors`]: a row's and a zero, twice.
static SPREAD: [i8; LINE] = {
    let mut spread = [-1; LINE];
    let mut row = 0;
    while row < LANES {
        spread[4 * row] = row as i8;
        spread[4 * row + 2] = row as i8;
        row += 1;
    }
    spread
};

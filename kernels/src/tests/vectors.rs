//! The vectors' own arithmetic: on every tier, bit for bit as the portable one computes it.

use half::f16;
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::simd::{Kernel, LANES, ROUND, Simd};

type Floats = [f32; LANES];
type Bytes = [u8; 4 * LANES];

/// Operands, within what [`Simd`] asks of them.
#[derive(Debug, Clone, Copy)]
struct Operands {
    floats: [Floats; 3],
    /// With some that are no numbers.
    any_floats: [Floats; 2],
    /// What [`Simd::times_power`] takes.
    exponents: Floats,
    halves: [u8; 2 * LANES],
    bytes: [Bytes; 3],
    /// Sixteen bits each, two a lane.
    pairs: [Bytes; 2],
    signed: [i8; 2 * LANES],
    shift: i32,
    mask: u8,
}

fn array<T: std::fmt::Debug, const N: usize>(
    item: impl Strategy<Value = T>,
) -> impl Strategy<Value = [T; N]> {
    vec(item, N).prop_map(|items| items.try_into().expect("as many as asked for"))
}

fn operands() -> impl Strategy<Value = Operands> {
    let float =
        || prop_oneof![8 => -1e9f32..1e9, 4 => -1.0f32..1.0, 1 => Just(0.0), 1 => Just(-0.0)];
    let any_float = prop_oneof![4 => float(), 1 => Just(f32::NAN), 1 => Just(f32::INFINITY)];
    let exponent = (-100..=0i32).prop_map(|n| ROUND + n as f32);
    let half = (any::<bool>(), 0..0x7c00u16).prop_map(|(is_negative, size)| {
        f16::from_bits(u16::from(is_negative) << 15 | size).to_le_bytes()
    });
    let pair = (-0x7fff..=0x7fffi16).prop_map(i16::to_le_bytes);
    let floats = (
        array(array(float())),
        array(array(any_float)),
        array(exponent),
    );
    let bytes = (array(array(any::<u8>())), array(any::<i8>()));
    let halves = (
        array::<_, LANES>(half),
        array(array::<_, { 2 * LANES }>(pair)),
    );
    (floats, bytes, halves, -7..=7i32, any::<u8>()).prop_map(
        |((floats, any_floats, exponents), (bytes, signed), (halves, pairs), shift, mask)| {
            Operands {
                floats,
                any_floats,
                exponents,
                halves: halves.as_flattened().try_into().expect("two bytes a half"),
                bytes,
                pairs: pairs
                    .map(|pairs| pairs.as_flattened().try_into().expect("four bytes a lane")),
                signed,
                shift,
                // Bits that no neighbour's shift brings.
                mask: mask
                    & if shift < 0 {
                        0xff >> -shift
                    } else {
                        0xff << shift
                    },
            }
        },
    )
}

/// A byte of each lane after another.
#[inline(always)]
fn bytes_of<S: Simd>(s: S, vector: S::I) -> [[u8; LANES]; 4] {
    let mut bytes = [[0; LANES]; 4];
    for (i, bytes) in bytes.iter_mut().enumerate() {
        *bytes = s.low_bytes(s.dot4(s.splat_int(0), vector, s.splat_int(1 << (8 * i))));
    }
    bytes
}

/// Sixteen vectors, each with the lanes of one in an order of its own.
#[inline(always)]
fn turned<S: Simd>(s: S, vector: S::F) -> [S::F; LANES] {
    let mut lanes = [0.0; LANES];
    s.store(vector, &mut lanes);
    let mut vectors = [vector; LANES];
    for (i, vector) in vectors.iter_mut().enumerate() {
        lanes.rotate_left(1);
        lanes.swap(0, i);
        lanes[5] += i as f32;
        *vector = s.load(&lanes);
    }
    vectors
}

#[inline(always)]
fn floats_of<S: Simd>(s: S, vector: S::F) -> [u32; LANES] {
    let mut floats = [0.0; LANES];
    s.store(vector, &mut floats);
    floats.map(f32::to_bits)
}

/// What every operation gives: whole numbers, the bits of floats, the halves of bf16.
#[derive(Debug, PartialEq)]
struct Results {
    whole: Vec<[[u8; LANES]; 4]>,
    floats: Vec<[u32; LANES]>,
    halves: [u16; LANES],
    reduced: [u32; 4],
}

impl Kernel for Operands {
    type Output = Results;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> Results {
        let [a, b, c] = [0, 1, 2].map(|i| s.load(&self.floats[i]));
        let [any_a, any_b] = [0, 1].map(|i| s.load(&self.any_floats[i]));
        let [x, y, z] = [0, 1, 2].map(|i| s.load_bytes(&self.bytes[i]));
        let [p, q] = [0, 1].map(|i| s.load_bytes(&self.pairs[i]));
        let whole = [
            x,
            s.splat_int(self.shift),
            s.low_nibbles(x),
            s.high_nibbles(x),
            s.or_shifted(x, y, self.shift, self.mask),
            s.dot4(x, y, z),
            s.load_signed_bytes(&self.signed),
            s.dot2_int(x, p, q),
            s.low_halves(x),
            s.bits(a),
        ];
        let floats = [
            a,
            s.splat(self.floats[0][0]),
            s.load_f32(&self.bytes[0]),
            s.load_f16(&self.halves),
            s.add(a, b),
            s.mul(a, b),
            s.mul_add(a, b, c),
            s.div(a, s.max(b, s.splat(1e-3))),
            s.max(any_a, any_b),
            s.where_at_least(any_a, any_b, a),
            s.times_power(s.max(a, s.splat(0.5)), s.load(&self.exponents)),
            s.to_f32(x),
            s.with_bits(y),
            s.max_of_each(turned(s, any_a)),
            s.add_of_each(turned(s, a)),
        ];
        Results {
            whole: whole
                .into_iter()
                .map(|vector| bytes_of(s, vector))
                .collect(),
            floats: floats
                .into_iter()
                .map(|vector| floats_of(s, vector))
                .collect(),
            halves: s.to_bf16(a),
            reduced: [
                s.reduce_add_int(x).cast_unsigned(),
                s.reduce_add(a).to_bits(),
                s.reduce_max(a).to_bits(),
                s.reduce_max(any_a).to_bits(),
            ],
        }
    }
}

proptest! {
    #[test]
    fn every_operation_gives_the_same_bits(operands in operands()) {
        let expected = crate::cpu::run_on(Tier::Portable, operands);
        for tier in TIERS {
            prop_assert_eq!(&expected, &crate::cpu::run_on(tier, operands), "{:?}", tier);
        }
    }

    /// The products of bf16 pairs, of numbers as small as they may be, too.
    #[test]
    fn pairs_of_bf16(
        numbers in proptest::collection::vec((any::<bool>(), 0..0x80u32, 71..140u32), 5 * LANES)
    ) {
        let number = |i: usize| {
            let (is_negative, mantissa, exponent) = numbers[i];
            u32::from(is_negative) << 15 | exponent << 7 | mantissa
        };
        let pairs = |first: usize| -> Vec<u8> {
            let pair = |i| number(first + i) | number(first + LANES + i) << 16;
            (0..LANES).flat_map(|i| pair(i).to_le_bytes()).collect()
        };
        let sums: Vec<f32> = (0..LANES)
            // As small as products, and still whole multiples of 2^-126.
            .map(|i| f32::from_bits((number(4 * LANES + i) << 16) - (60 << 23)))
            .collect();
        let dot = Dot2 {
            sums: sums.try_into().unwrap(),
            a: pairs(0).try_into().unwrap(),
            b: pairs(2 * LANES).try_into().unwrap(),
        };
        let given = TIERS.map(|tier| crate::cpu::run_on(tier, dot));
        let bits = given.map(|given| bits(given.as_flattened()));
        for other in &bits[1..] {
            prop_assert_eq!(&bits[0], other);
        }
    }

    /// As many products of codes as a narrow sum holds, the greatest among them.
    #[test]
    fn narrow_sums(
        n_bits in prop::sample::select(&[4usize, 5, 6, 8][..]),
        codes in array::<_, 8>(array::<_, { 4 * LANES }>(prop_oneof![any::<u8>(), Just(0), Just(255)])),
        inputs in array::<_, 8>(array::<_, 4>(prop_oneof![-127..=127i8, Just(-127), Just(127)])),
        start in array::<_, 4>(any::<u8>()).prop_map(i32::from_le_bytes),
    ) {
        let codes = codes.map(|line| line.map(|code| code >> (8 - n_bits)));
        for tier in TIERS {
            let sums = crate::cpu::run_on(tier, Sums { n_bits, codes, inputs, start });
            for lane in 0..LANES {
                let mut expected = i64::from(start);
                for (codes, inputs) in codes.iter().zip(inputs).take(sums.n_steps) {
                    for (code, input) in codes[4 * lane..].iter().zip(inputs) {
                        expected += (i64::from(*code) - i64::from(sums.excess)) * i64::from(input);
                    }
                }
                prop_assert_eq!(expected as i32, sums.lanes[lane], "{:?}, lane {}", tier, lane);
            }
        }
    }

    #[test]
    fn exponentials(x in proptest::collection::vec(prop_oneof![-130.0f32..=9.0, -56.001f32..=-55.999, Just(f32::NEG_INFINITY)], LANES)) {
        let x: [f32; LANES] = x.try_into().unwrap();
        let given = TIERS.map(|tier| crate::cpu::run_on(tier, Exp(x)));
        for lane in 0..LANES {
            let off = |given: f32, expected: f64| (f64::from(given) - expected).abs() / expected;
            if x[lane] <= 0.0 {
                let off = off(given[0][0][lane], f64::from(x[lane].max(-87.0)).exp());
                prop_assert!(off < 2.0 * f64::from(f32::EPSILON), "e^{} is off by {off}", x[lane]);
            }
            let of_two = given[0][1][lane];
            if x[lane] < -56.0 {
                prop_assert_eq!(of_two.to_bits(), 0, "2^{}", x[lane]);
            } else {
                let off = off(of_two, f64::from(x[lane]).exp2());
                prop_assert!(off < 8e-6, "2^{} is off by {off}", x[lane]);
                // A bf16 of it is none that counts for nothing.
                prop_assert!(of_two >= 2f32.powi(-56), "2^{}", x[lane]);
            }
        }
        let given = given.map(|given| bits(given.as_flattened()));
        for other in &given[1..] {
            prop_assert_eq!(&given[0], other);
        }
    }
}

#[derive(Clone, Copy)]
struct Dot2 {
    sums: [f32; LANES],
    a: [u8; 4 * LANES],
    b: [u8; 4 * LANES],
}

impl Kernel for Dot2 {
    type Output = [[f32; LANES]; 3];

    /// Added together, and apart.
    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> [[f32; LANES]; 3] {
        let (sums, a, b) = (
            s.load(&self.sums),
            s.load_bytes(&self.a),
            s.load_bytes(&self.b),
        );
        let [firsts, seconds] = s.dot2_apart([sums; 2], a, b);
        let mut out = [[0.0; LANES]; 3];
        s.store(s.dot2(sums, a, b), &mut out[0]);
        s.store(firsts, &mut out[1]);
        s.store(seconds, &mut out[2]);
        out
    }
}

/// A sum that is narrow for a while.
struct Sums {
    n_bits: usize,
    codes: [Bytes; 8],
    inputs: [[i8; 4]; 8],
    start: i32,
}

struct Summed {
    /// Products that were added, at most eight.
    n_steps: usize,
    /// What was taken from each code.
    excess: i32,
    lanes: [i32; LANES],
}

impl Kernel for Sums {
    type Output = Summed;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> Summed {
        let start = s.splat_int(self.start);
        let n_steps = S::n_narrow(self.n_bits).min(self.codes.len());
        let mut sum = None;
        for (codes, inputs) in self.codes.iter().zip(self.inputs).take(n_steps) {
            let inputs = s.splat_int(i32::from_le_bytes(inputs.map(i8::cast_unsigned)));
            let codes = s.load_bytes(codes);
            sum = Some(match sum {
                Some(sum) => s.add_products(self.n_bits, sum, codes, inputs),
                None => s.first_products(self.n_bits, start, codes, inputs),
            });
        }
        let sum = sum.expect("a step at least");
        let bytes = bytes_of(s, s.widen(start, sum));
        Summed {
            n_steps,
            excess: if self.n_bits == 8 { S::EXCESS } else { 0 },
            lanes: std::array::from_fn(|lane| {
                i32::from_le_bytes(std::array::from_fn(|byte| bytes[byte][lane]))
            }),
        }
    }
}

/// e^x and 2^x.
struct Exp([f32; LANES]);

impl Kernel for Exp {
    type Output = [[f32; LANES]; 2];

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> Self::Output {
        let mut out = [[0.0; LANES]; 2];
        s.store(s.exp(s.load(&self.0)), &mut out[0]);
        s.store(s.exp2(s.load(&self.0)), &mut out[1]);
        out
    }
}

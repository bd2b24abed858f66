//! Operations on rows.

use proptest::prelude::*;

use super::{bits, buffer, error};
use crate::{
    Cuda, Device, Element, Heads, KernelError, KvShape, Norm, Reference, RopeLayout, emulated,
};

/// Rows of some heads between other elements.
#[derive(Debug, Clone)]
struct Case {
    heads: Heads,
    width: usize,
    x: Vec<f32>,
    positions: Vec<u32>,
    /// Pairs of each head that turn.
    n_pairs: usize,
    seed: u64,
}

fn case() -> impl Strategy<Value = Case> {
    (0..3usize, 1..5usize, 1..5usize, 1..40usize, 0..4u64).prop_flat_map(
        |(before, n_heads, n_eights, n_rows, seed)| {
            let head_dim = 8 * n_eights;
            let heads = Heads {
                first: 8 * before,
                n_heads,
                head_dim,
            };
            let width = heads.end() + 5;
            let x = proptest::collection::vec(-2.0f32..2.0, n_rows * width);
            let positions = proptest::collection::vec(0..200_000u32, n_rows);
            let n_pairs = 1..=head_dim / 2;
            (x, positions, n_pairs).prop_map(move |(x, positions, n_pairs)| Case {
                heads,
                width,
                x,
                positions,
                n_pairs,
                seed,
            })
        },
    )
}

impl Case {
    fn rotated<D: Device>(&self, device: &mut D, layout: RopeLayout) -> Vec<f32> {
        let n_pairs = self.n_pairs;
        let frequencies: Vec<f32> = (0..n_pairs)
            .map(|i| 10_000f32.powf(-(i as f32) / n_pairs as f32))
            .collect();
        let frequencies = device.vector(&frequencies);
        let mut angles = device.buffer(2 * n_pairs);
        device.rope_angles(&frequencies, 1.25, &self.positions, &mut angles);
        let mut x = buffer(device, self.width, &self.x);
        device.rope(&mut x, self.heads, layout, &angles);
        device.read(&x)
    }

    fn normed<D: Device>(&self, device: &mut D) -> Vec<f32> {
        let weight: Vec<f32> = (0..self.heads.head_dim)
            .map(|i| 0.5 + i as f32 / 9.0)
            .collect();
        let weight = device.vector(&weight);
        let mut x = buffer(device, self.width, &self.x);
        device.head_norm(&mut x, self.heads, &weight, 1e-5);
        device.read(&x)
    }

    /// Every row normed and added to twice itself.
    fn norm_added<D: Device>(&self, device: &mut D) -> Vec<f32> {
        let weight: Vec<f32> = (0..self.width).map(|i| 0.5 + i as f32 / 9.0).collect();
        let weight = device.vector(&weight);
        let x = buffer(device, self.width, &self.x);
        let mut out = buffer(device, self.width, &self.x);
        device.scale(&mut out, 2.0);
        let norm = Norm {
            weight: &weight,
            eps: 1e-5,
        };
        device.norm_add(&x, norm, &mut out);
        device.read(&out)
    }

    fn capped<D: Device>(&self, device: &mut D, cap: f32) -> Vec<f32> {
        let mut x = buffer(device, self.width, &self.x);
        device.softcap(&mut x, cap);
        device.read(&x)
    }

    fn scaled<D: Device>(&self, device: &mut D, factor: f32) -> Vec<f32> {
        let mut x = buffer(device, self.width, &self.x);
        device.scale(&mut x, factor);
        device.read(&x)
    }

    fn selected<D: Device>(&self, device: &mut D) -> Vec<f32> {
        let n_rows = self.positions.len();
        let rows: Vec<usize> = self
            .positions
            .iter()
            .map(|p| *p as usize % n_rows)
            .collect();
        let x = buffer(device, self.width, &self.x);
        let mut out = device.buffer(self.width);
        device.select_rows(&x, &rows, &mut out);
        device.read(&out)
    }
}

fn open(seed: u64) -> Option<Cuda> {
    emulated(Element::Bf16, seed)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn rotations_agree_with_the_reference(case in case()) {
        let Some(mut device) = open(case.seed) else { return Ok(()) };
        for layout in [RopeLayout::Interleaved, RopeLayout::Halves] {
            let expected = case.rotated(&mut Reference::new(1), layout);
            let given = case.rotated(&mut device, layout);
            // The angles differ by a few units in the last place.
            prop_assert!(error(&expected, &given) < 2e-6, "{:?}", layout);
        }
    }

    #[test]
    fn head_norms_agree_with_the_reference(case in case()) {
        let Some(mut device) = open(case.seed) else { return Ok(()) };
        let (expected, given) = (case.normed(&mut Reference::new(1)), case.normed(&mut device));
        prop_assert!(error(&expected, &given) < 1e-6);
    }

    #[test]
    fn norms_added_agree_with_the_reference(case in case()) {
        let Some(mut device) = open(case.seed) else { return Ok(()) };
        let (expected, given) = (case.norm_added(&mut Reference::new(1)), case.norm_added(&mut device));
        prop_assert!(error(&expected, &given) < 1e-6);
    }

    #[test]
    fn scales_and_caps_agree_with_the_reference(case in case(), cap in 0.1f32..50.0) {
        let Some(mut device) = open(case.seed) else { return Ok(()) };
        let mut reference = Reference::new(1);
        prop_assert_eq!(bits(&case.scaled(&mut reference, cap)), bits(&case.scaled(&mut device, cap)));
        let (expected, given) = (case.capped(&mut reference, cap), case.capped(&mut device, cap));
        prop_assert!(error(&expected, &given) < 1e-6);
    }

    #[test]
    fn selected_rows_are_those_rows(case in case()) {
        let Some(mut device) = open(case.seed) else { return Ok(()) };
        let expected = case.selected(&mut Reference::new(1));
        prop_assert_eq!(bits(&expected), bits(&case.selected(&mut device)));
    }
}

#[test]
fn a_pool_beyond_all_memory_is_refused() {
    let Some(device) = open(0) else { return };
    let shape = |n_pages| KvShape {
        n_layers: 99,
        n_pages,
        page_size: 999,
        n_kv_heads: 99,
        head_dim: 64,
    };
    for n_pages in [usize::MAX, usize::MAX / 1000, 1 << 40] {
        let refused = device.kv(shape(n_pages));
        assert!(
            matches!(refused, Err(KernelError::Memory { .. })),
            "{n_pages} pages"
        );
    }
}

#[test]
fn heads_that_no_kernel_takes_are_refused() {
    let Some(device) = open(0) else { return };
    for head_dim in [0, 8, 72, 272] {
        let shape = KvShape {
            n_layers: 1,
            n_pages: 1,
            page_size: 1,
            n_kv_heads: 1,
            head_dim,
        };
        let Err(error) = device.kv(shape) else {
            panic!("{head_dim}")
        };
        assert!(
            error
                .to_string()
                .contains(&format!("heads of {head_dim} elements")),
            "{error}"
        );
    }
}

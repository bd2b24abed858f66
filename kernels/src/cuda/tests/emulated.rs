//! The kernels themselves, run by the emulator through the whole path of launches, against the scalar reference.

mod attention;
mod products;
mod rows;

use crate::Device;

/// A buffer with these values.
fn buffer<D: Device>(device: &mut D, width: usize, values: &[f32]) -> D::Buffer {
    let mut buffer = device.buffer(width);
    device.write(&mut buffer, values);
    buffer
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// The largest difference, in units of the largest expected value.
fn error(expected: &[f32], given: &[f32]) -> f32 {
    assert_eq!(expected.len(), given.len());
    let largest = expected
        .iter()
        .fold(1e-6f32, |largest, value| largest.max(value.abs()));
    let differences = expected.iter().zip(given).map(|(a, b)| {
        // No number is as far from any as can be.
        let difference = (a - b).abs();
        if difference.is_nan() {
            f32::INFINITY
        } else {
            difference
        }
    });
    differences.fold(0.0, f32::max) / largest
}

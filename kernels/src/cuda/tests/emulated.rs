//! The kernels themselves, run by the emulator through the whole path of launches, against the scalar reference.

mod attention;
mod products;
mod rows;
mod samples;
mod segments;

use crate::Device;
use crate::tests::{bits, error, query_key_value};

/// A buffer with these values.
fn buffer<D: Device>(device: &mut D, width: usize, values: &[f32]) -> D::Buffer {
    let mut buffer = device.buffer(width);
    device.write(&mut buffer, values);
    buffer
}

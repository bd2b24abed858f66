//! The CUDA device without a GPU: its kernels compiled as C++ and run by an emulator, its sources compiled by NVRTC, and
//! machines that lack what it needs.

mod compiled;
mod emulated;
mod libraries;
mod plans;

use super::emulator::{folder, must_run, shared_library, skip, target, tell_skipped};

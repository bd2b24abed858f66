//! Where a model computes, and how that is chosen.
//!
//! A GPU that was not asked for by its number is tried before it is trusted: it runs the model's first layer beside the CPU
//! ([`Checkpoint::try_gpu`]). One that cannot, or comes to something else, is left alone, and the reason is told.

use std::fmt;

use lmrun_kernels::{Cuda, CudaError, CudaProbe, Element};
use lmrun_model::{Checkpoint, DecoderOptions, Precision};

/// Where a model is to compute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DeviceChoice {
    /// The CPU.
    #[default]
    Cpu,
    /// The GPU of this number, from 0; an error where it cannot be used.
    Cuda(usize),
    /// The first GPU where it can be used and passes its trial, else the CPU.
    Auto,
}

/// Where a loaded model computes. Displays as `cpu` or `cuda:0`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Place {
    /// The GPU's number, from 0; `None` is the CPU.
    pub gpu: Option<usize>,
    /// Why the GPU that this machine has was left alone, where there was a choice.
    pub refused: Option<String>,
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.gpu {
            None => formatter.write_str("cpu"),
            Some(ordinal) => write!(formatter, "cuda:{ordinal}"),
        }
    }
}

impl DeviceChoice {
    /// The place for a checkpoint whose weights are of this type, and the GPU, if it is one.
    ///
    /// # Errors
    /// Why the GPU that was asked for by its number cannot be used.
    pub(crate) fn open(
        self,
        checkpoint: &Checkpoint,
        weight_type: &str,
        options: &DecoderOptions,
    ) -> Result<(Place, Option<Cuda>), CudaError> {
        let open = |ordinal| Cuda::open(ordinal, element_of(weight_type));
        let ordinal = match self {
            DeviceChoice::Cpu => return Ok((Place::default(), None)),
            DeviceChoice::Cuda(ordinal) => ordinal,
            // The yardstick is the CPU's.
            DeviceChoice::Auto if options.precision == Precision::Reference => {
                return Ok((Place::default(), None));
            }
            DeviceChoice::Auto => {
                let probe = CudaProbe::new();
                if let Err(reason) = try_first(&probe, open, checkpoint, options) {
                    // Most machines have none, and need not be told.
                    let refused = (!probe.gpus.is_empty()).then_some(reason);
                    return Ok((Place { gpu: None, refused }, None));
                }
                0
            }
        };
        let place = Place {
            gpu: Some(ordinal),
            refused: None,
        };
        Ok((place, Some(open(ordinal)?)))
    }
}

/// That the first GPU can be used for a checkpoint and passes its trial, or why not.
fn try_first(
    probe: &CudaProbe,
    open: impl Fn(usize) -> Result<Cuda, CudaError>,
    checkpoint: &Checkpoint,
    options: &DecoderOptions,
) -> Result<(), String> {
    let told = |error: CudaError| error.to_string();
    probe.usable(0).map_err(told)?;
    let gpu = open(0).map_err(told)?;
    let tried = checkpoint.try_gpu(gpu, options);
    tried.map_err(|error| error.to_string())
}

/// What a GPU multiplies in: weights in f16 stay what they are, and all others have the range of f32.
fn element_of(weight_type: &str) -> Element {
    match weight_type {
        "F16" => Element::F16,
        _ => Element::Bf16,
    }
}

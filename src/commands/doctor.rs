//! `lmrun doctor`: what this machine computes with, and what it lacks for a GPU.

use std::fmt::Write;

use lmrun_engine::{Cpu, CudaError, CudaProbe, GpuInfo, Tier};
use serde_json::{Value, json};

use crate::cli::DoctorOptions;
use crate::failure::{ExitCode, Failure};
use crate::output;

/// Tells. A machine without a GPU is not ill.
pub(crate) fn doctor(options: &DoctorOptions) -> Result<ExitCode, Failure> {
    let n_cores = std::thread::available_parallelism().map_or(1, usize::from);
    let instructions = match Cpu::new(1).tier() {
        Tier::Portable => "portable vectors",
        Tier::Neon => "NEON",
        Tier::NeonDotProd => "NEON with DotProd",
        Tier::NeonI8mm => "NEON with I8MM",
        Tier::Avx2 => "AVX2",
        Tier::AvxVnni => "AVX2 with VNNI",
        Tier::Avx512 => "AVX-512",
        Tier::Amx => "AVX-512 and AMX",
    };
    let probe = CudaProbe::new();
    if options.json {
        output::print_json(&as_json(n_cores, instructions, &probe))?;
    } else {
        output::print(&as_text(n_cores, instructions, &probe))?;
    }
    Ok(ExitCode::OK)
}

fn version((major, minor): (i32, i32)) -> String {
    format!("{major}.{minor}")
}

fn as_text(n_cores: usize, instructions: &str, probe: &CudaProbe) -> String {
    let or_error = |found: &Result<(i32, i32), CudaError>| match found {
        Ok(number) => version(*number),
        Err(error) => error.to_string(),
    };
    let mut text = format!(
        "CPU          {n_cores} cores, {instructions}\nCUDA driver  {}\nNVRTC        {}\n",
        or_error(&probe.driver),
        or_error(&probe.compiler)
    );
    for (ordinal, gpu) in probe.gpus.iter().enumerate() {
        let told = gpu.as_ref().map_or_else(ToString::to_string, describe);
        // Writing to a string does not fail.
        let _ = writeln!(text, "GPU {ordinal}        {told}");
    }
    text += &match probe.usable(0) {
        Ok(_) => "--device auto computes on GPU 0 if a model's first layer comes out there as on the CPU\n".to_owned(),
        Err(error) => format!("--device auto computes on the CPU: {error}\n"),
    };
    text
}

fn describe(gpu: &GpuInfo) -> String {
    let gib = |n_bytes: usize| n_bytes as f64 / f64::from(1 << 30);
    format!(
        "{}, compute capability {}, {:.1} of {:.1} GiB free",
        gpu.name,
        version(gpu.capability),
        gib(gpu.n_free_bytes),
        gib(gpu.n_total_bytes)
    )
}

fn as_json(n_cores: usize, instructions: &str, probe: &CudaProbe) -> Value {
    let part = |found: &Result<(i32, i32), CudaError>| match found {
        Ok(number) => json!({"version": version(*number)}),
        Err(error) => json!({"error": error.to_string()}),
    };
    let gpus = probe.gpus.iter().map(|gpu| match gpu {
        Ok(gpu) => json!({
            "name": gpu.name,
            "compute_capability": version(gpu.capability),
            "free_bytes": gpu.n_free_bytes,
            "total_bytes": gpu.n_total_bytes,
        }),
        Err(error) => json!({"error": error.to_string()}),
    });
    let usable = probe.usable(0);
    json!({
        "cpu": {"cores": n_cores, "instructions": instructions},
        "cuda": {
            "driver": part(&probe.driver),
            "nvrtc": part(&probe.compiler),
            "gpus": gpus.collect::<Vec<_>>(),
            "missing": usable.as_ref().err().map(ToString::to_string),
        },
        "auto": if usable.is_ok() { "cuda:0" } else { "cpu" },
    })
}

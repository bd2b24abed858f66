//! `lmrun doctor` and `--device` on machines without a GPU, or with a broken one.

use std::fs;
use std::process::Command;

use serde_json::Value;

use crate::support::{folder, lmrun};

/// `lmrun` with this file as the driver's library.
fn with_driver(path: &str) -> Command {
    let mut command = lmrun();
    command
        .env("LMRUN_CUDA_LIBRARY", path)
        .env("LMRUN_NVRTC_LIBRARY", path);
    command
}

#[test]
fn a_machine_without_a_gpu_is_told_what_it_lacks() {
    let folder = folder("doctor");
    let damaged = folder.join("libcuda.so.1");
    fs::write(&damaged, b"not a library").expect("a file");
    for path in ["/nowhere/libcuda.so.1", damaged.to_str().expect("UTF-8")] {
        let output = with_driver(path).arg("doctor").output().expect("it starts");
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        assert!(
            output.status.success() && output.stderr.is_empty(),
            "{text}"
        );
        assert!(
            text.contains(&format!("CUDA driver  cannot open {path}: ")),
            "{text}"
        );
        assert!(
            text.contains("--device auto computes on the CPU: "),
            "{text}"
        );
        let output = with_driver(path)
            .args(["doctor", "--json"])
            .output()
            .expect("it starts");
        let told: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        assert_eq!(told["auto"], "cpu");
        assert!(
            told["cuda"]["driver"]["error"]
                .as_str()
                .is_some_and(|error| error.contains(path))
        );
        assert!(
            told["cpu"]["cores"]
                .as_u64()
                .is_some_and(|n_cores| n_cores > 0)
        );
    }
}

#[test]
fn a_gpu_that_cannot_be_used_is_an_error_and_a_wrong_device_is_usage() {
    let model = crate::support::smollm2();
    let program = folder("device").join("one.lmp");
    fs::write(&program, "user \"Hi\"\nassistant gen(x, max_tokens=1)\n").expect("a file");
    let run_with = |arguments: &[&str]| {
        let mut command = with_driver("/nowhere/libcuda.so.1");
        command.arg("run").arg(&program).arg("--model").arg(&model);
        command.args(arguments).output().expect("it starts")
    };
    let run = |device: &str| run_with(&["--device", device]);
    let eight_bits = run_with(&["--device", "auto", "--kv-type", "fp8"]);
    let said = String::from_utf8(eight_bits.stderr).expect("UTF-8");
    assert_eq!(eight_bits.status.code(), Some(6), "{said}");
    assert!(
        said.contains("the CPU keeps keys and values in bf16, f32 and int8, not in fp8"),
        "{said}"
    );
    assert_eq!(run_with(&["--kv-type", "int4"]).status.code(), Some(2));
    let refused = run("cuda");
    let said = String::from_utf8(refused.stderr).expect("UTF-8");
    assert_eq!(refused.status.code(), Some(6), "{said}");
    assert!(
        said.contains("cannot use the GPU: cannot open /nowhere/libcuda.so.1"),
        "{said}"
    );
    assert!(!said.contains("panicked"), "{said}");
    assert_eq!(run("auto").status.code(), Some(0));
    let other = run_with(&["--device", "cpu", "--kv-type", "int8"]);
    assert_eq!(other.status.code(), Some(0));
    let wrong = run("gpu");
    assert_eq!(wrong.status.code(), Some(2));
    assert!(
        String::from_utf8(wrong.stderr)
            .expect("UTF-8")
            .contains("cuda:1 or auto")
    );
}

//! Every kernel through NVRTC for every architecture: it compiles, and nothing spills.
//!
//! NVRTC is sought where `LMRUN_NVRTC_LIBRARY` says, in the build folder, where `tests/peers/nvrtc.sh` puts it, and where a
//! user's is.

use std::path::PathBuf;

use super::{folder, must_run, target, tell_skipped};
use crate::cuda::compile::{ATTENTION, Constants, MATMUL, ROWWISE, SAMPLING, Source, Target};
use crate::cuda::library::{COMPILER_VARIABLE, Compiler, variable};
use crate::{BlockFormat, CudaError, Element, KvFormat};

/// Ampere, Ada, Hopper, and the two Blackwells.
const ARCHITECTURES: [&str; 6] = ["sm_80", "sm_86", "sm_89", "sm_90a", "sm_100a", "sm_120a"];

fn compiler() -> Option<Compiler> {
    let fetched: PathBuf = target().join("nvrtc/nvidia/cu13/lib/libnvrtc.so.13");
    let opened = match variable(COMPILER_VARIABLE) {
        None if fetched.exists() => Compiler::open_at(&fetched.canonicalize().unwrap()),
        _ => Compiler::open(),
    };
    match opened {
        Ok(compiler) => Some(compiler),
        Err(error) => {
            assert!(!(must_run() && fetched.exists()), "{error}");
            tell_skipped(&format!("{error}; tests/peers/nvrtc.sh fetches NVRTC"));
            None
        }
    }
}

const ROWS: Constants = Constants::Rows(Element::Bf16);

fn target_of(architecture: &str, constants: Constants) -> Target {
    Target {
        architecture: architecture.into(),
        constants,
    }
}

/// Each kernel's name with its spilled bytes, stores and loads, from ptxas's log.
fn spills(log: &str) -> Vec<(String, usize)> {
    let mut found = Vec::new();
    let mut name = String::new();
    for line in log.lines() {
        if let Some((_, kernel)) = line.split_once("Function properties for ") {
            name = kernel.trim().to_owned();
        }
        if let Some((before, after)) = line.split_once(" bytes spill stores, ") {
            let stores = before.rsplit(' ').next().unwrap().parse::<usize>().unwrap();
            let loads = after.split(' ').next().unwrap().parse::<usize>().unwrap();
            found.push((name.clone(), stores + loads));
        }
    }
    found
}

/// Compiles a source everywhere, and says which kernels spill.
fn spilling(architectures: &[&str], source: Source, constants: Constants) -> Vec<String> {
    let Some(compiler) = compiler() else {
        return Vec::new();
    };
    let mut spilling = Vec::new();
    for architecture in architectures {
        let target = target_of(architecture, constants);
        let (cubin, log) = compiler.compile_source(source, &target).unwrap();
        assert!(cubin.starts_with(b"\x7fELF"), "{architecture}: no cubin");
        let spills = spills(&log);
        let is_wide = matches!(constants, Constants::Heads(head_dim, _) if head_dim > 128);
        let expected = source.kernels.len() - usize::from(is_wide);
        assert_eq!(spills.len(), expected, "{log}");
        let some = spills.into_iter().filter(|(_, n_bytes)| *n_bytes > 0);
        spilling.extend(
            some.map(|(kernel, n_bytes)| {
                format!("{kernel} {architecture} {constants:?}: {n_bytes}")
            }),
        );
    }
    spilling
}

fn check(architectures: &[&str], source: Source, constants: Constants) {
    let spilling = spilling(architectures, source, constants);
    assert_eq!(spilling, Vec::<String>::new());
}

#[test]
fn rows_compile_without_spills() {
    check(&ARCHITECTURES, ROWWISE, ROWS);
}

#[test]
fn sampling_compiles_without_spills() {
    check(&ARCHITECTURES, SAMPLING, ROWS);
}

#[test]
fn products_compile_without_spills() {
    let of = |format| Constants::Weights(format, Element::Bf16);
    check(&["sm_80"], MATMUL, of(None));
    check(&["sm_90a"], MATMUL, of(Some(BlockFormat::Q4K)));
    check(&["sm_120a"], MATMUL, of(Some(BlockFormat::Q6K)));
}

#[test]
fn attention_compiles_without_spills() {
    let plain = Constants::Heads(128, KvFormat::Plain);
    check(&["sm_80", "sm_90a"], ATTENTION, plain);
    check(&["sm_80"], ATTENTION, Constants::Heads(128, KvFormat::Int8));
    check(
        &["sm_90a"],
        ATTENTION,
        Constants::Heads(128, KvFormat::E4m3),
    );
}

/// The kernels that spill: where, for which heads, and the bytes stored and loaded again. These are heads of 80 and 96, which
/// few models have and fewer with codes of eight bits, and keys and values in f16.
const SPILLING: &[&str] = &[
    "attention_whole sm_100a Heads(80, Plain): 24",
    "attention_whole sm_100a Heads(80, Int8): 36",
    "attention_whole sm_80 Heads(96, Int8): 112",
    "attention_whole sm_86 Heads(96, Int8): 112",
    "attention_whole sm_89 Heads(96, Int8): 112",
    "attention_whole sm_120a Heads(96, Int8): 28",
    "attention_whole sm_100a Heads(80, E4m3): 36",
    "attention_whole sm_80 Heads(96, E4m3): 112",
    "attention_whole sm_86 Heads(96, E4m3): 112",
    "attention_whole sm_89 Heads(96, E4m3): 112",
    "attention_whole sm_120a Heads(96, E4m3): 28",
    "attention_split sm_100a Heads(32, F16): 8",
    "attention_whole sm_100a Heads(80, F16): 24",
];

/// Everything else: minutes.
#[test]
#[ignore = "compiles every source for every architecture, element and head: minutes"]
fn everything_compiles_without_spills_but_those_stated() {
    let mut all = Vec::new();
    let mut add = |source, constants| all.extend(spilling(&ARCHITECTURES, source, constants));
    for element in [Element::Bf16, Element::F16] {
        add(ROWWISE, Constants::Rows(element));
        add(SAMPLING, Constants::Rows(element));
        for format in std::iter::once(None).chain(BlockFormat::ALL.map(Some)) {
            add(MATMUL, Constants::Weights(format, element));
        }
    }
    for kv_format in [
        KvFormat::Plain,
        KvFormat::Int8,
        KvFormat::E4m3,
        KvFormat::F16,
    ] {
        for head_dim in [16, 32, 64, 80, 96, 128, 160, 192, 256] {
            add(ATTENTION, Constants::Heads(head_dim, kv_format));
        }
    }
    assert_eq!(all, SPILLING);
}

#[test]
fn a_wrong_source_is_an_error_with_its_line() {
    let Some(compiler) = compiler() else { return };
    let source = Source {
        name: "wrong.cu",
        text: "\n\nKERNEL(1) wrong() { nothing; }",
        kernels: &["wrong"],
    };
    let failed = compiler.compile_source(source, &target_of("sm_80", ROWS));
    let Err(CudaError::Compile {
        source_name: "wrong.cu",
        log,
        ..
    }) = failed
    else {
        panic!()
    };
    assert!(
        log.contains("wrong.cu(3)") && log.contains("nothing"),
        "{log}"
    );
    let refused = compiler.compile_source(ROWWISE, &target_of("sm_1", ROWS));
    assert!(matches!(refused, Err(CudaError::Compile { .. })));
}

#[test]
fn cubins_are_kept_and_damaged_ones_are_not_used() {
    let Some(compiler) = compiler() else { return };
    let cache = folder(&format!("cubins-{}", std::process::id()));
    let source = Source {
        name: "one.cu",
        text: "KERNEL(32) one(int* x) { *x = 1; }",
        kernels: &["one"],
    };
    let target = target_of("sm_80", ROWS);
    let first = compiler.cubin_of(source, &target, Some(&cache)).unwrap();
    let files = || {
        std::fs::read_dir(&cache)
            .unwrap()
            .map(|f| f.unwrap().path())
            .collect::<Vec<_>>()
    };
    let [path] = &files()[..] else { panic!() };
    // What is kept is what is used.
    let kept = std::fs::read(path).unwrap();
    assert!(kept.ends_with(&first));
    let mut damaged = kept.clone();
    *damaged.last_mut().unwrap() ^= 1;
    for wrong in [&damaged[..], &kept[..10], &[]] {
        std::fs::write(path, wrong).unwrap();
        assert_eq!(
            compiler.cubin_of(source, &target, Some(&cache)).unwrap(),
            first
        );
        assert_eq!(std::fs::read(path).unwrap(), kept);
    }
    // Another source, option or architecture is another file.
    let other = Source {
        text: "KERNEL(32) one(int* x) { *x = 2; }",
        ..source
    };
    compiler.cubin_of(other, &target, Some(&cache)).unwrap();
    let f16 = target_of("sm_80", Constants::Rows(Element::F16));
    compiler.cubin_of(source, &f16, Some(&cache)).unwrap();
    compiler
        .cubin_of(source, &target_of("sm_90a", ROWS), Some(&cache))
        .unwrap();
    assert_eq!(files().len(), 4);
    // A place that cannot be written is done without.
    assert_eq!(
        compiler.cubin_of(source, &target, Some(path)).unwrap(),
        first
    );
    std::fs::remove_dir_all(&cache).unwrap();
}

#[test]
fn every_kernel_is_listed() {
    for source in [ROWWISE, MATMUL, SAMPLING, ATTENTION] {
        let declared = source.text.matches("\nKERNEL(").count();
        assert_eq!(declared, source.kernels.len(), "{}", source.name);
    }
}

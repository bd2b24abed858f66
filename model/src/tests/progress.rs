//! What is told while weights are loaded.

use std::sync::{Arc, Mutex};

use super::synthetic::{GgufFile, Model, TempDir};
use crate::{Checkpoint, DecoderOptions, LoadProgress};

/// ggml's number of f32.
const F32: u32 = 0;

/// What a file's decoder tells while it loads.
fn told(dir: &TempDir, file: &GgufFile) -> Vec<LoadProgress> {
    let path = dir.write("model.gguf", file.bytes());
    let told = Arc::new(Mutex::new(Vec::new()));
    let listener = Arc::clone(&told);
    let checkpoint = Checkpoint::open(&path).unwrap();
    let checkpoint =
        checkpoint.with_progress(move |progress| listener.lock().unwrap().push(progress));
    checkpoint.decoder(&DecoderOptions::default()).unwrap();
    let told = told.lock().unwrap();
    told.clone()
}

#[test]
fn what_is_loaded_rises_tensor_by_tensor_to_the_whole() {
    let dir = TempDir::new("progress");
    for tied in [false, true] {
        let file = GgufFile::of(&Model::new("llama", tied));
        let mut sizes: Vec<u64> = file.tensors.iter().map(|t| t.3.len() as u64).collect();
        let n_total: u64 = sizes.iter().sum();
        let told = told(&dir, &file);
        assert!(told.iter().all(|progress| progress.n_total == n_total));
        assert_eq!(told[0].n_done, 0);
        assert_eq!(told.last().unwrap().n_done, n_total);
        let steps = told.windows(2).map(|two| two[1].n_done - two[0].n_done);
        let mut steps: Vec<u64> = steps.collect();
        steps.sort_unstable();
        sizes.sort_unstable();
        assert_eq!(steps, sizes);
    }
}

#[test]
fn what_nobody_asks_for_is_done_at_the_end() {
    let dir = TempDir::new("progress-left");
    let mut file = GgufFile::of(&Model::new("llama", true));
    let n_used: u64 = file.tensors.iter().map(|t| t.3.len() as u64).sum();
    let left = (
        "blk.0.rotary_emb.inv_freq".to_owned(),
        vec![4],
        F32,
        vec![0; 16],
    );
    file.tensors.push(left);
    let told = told(&dir, &file);
    let n_total = n_used + 16;
    assert_eq!(
        told.last(),
        Some(&LoadProgress {
            n_done: n_total,
            n_total
        })
    );
}

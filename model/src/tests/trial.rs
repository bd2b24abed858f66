//! A GPU's trial: one that computes passes, one that is wrong anywhere does not.

use lmrun_kernels::{Draw, Drawn, Element, KvFormat, emulated};

use super::synthetic::{GgufFile, Model, TempDir};
use crate::trial::compare;
use crate::{Batch, Checkpoint, Config, Decoder, DecoderOptions, Logits, ModelError, Pick};

fn checkpoint(name: &str, model: &Model) -> Checkpoint {
    let dir = TempDir::new(name);
    Checkpoint::open(&dir.write("model.gguf", GgufFile::of(model).bytes())).unwrap()
}

fn options() -> DecoderOptions {
    DecoderOptions {
        page_size: 8,
        n_pages: 10,
        ..DecoderOptions::default()
    }
}

#[test]
fn a_gpu_that_computes_passes() {
    for architecture in ["llama", "qwen3"] {
        let checkpoint = checkpoint(
            &format!("trial-{architecture}"),
            &Model::new(architecture, false),
        );
        for kv_format in [KvFormat::Plain, KvFormat::Int8, KvFormat::E4m3] {
            let Some(gpu) = emulated(Element::Bf16, 0) else {
                return;
            };
            let options = DecoderOptions {
                kv_format,
                ..options()
            };
            checkpoint.try_gpu(gpu, &options).unwrap();
        }
    }
}

/// A decoder with a fault.
struct Faulty {
    inner: Box<dyn Decoder>,
    fault: Fault,
}

#[derive(Clone, Copy)]
enum Fault {
    None,
    /// The logits of steps of one token are those of another token.
    Steps,
    /// A logit of each row is no number.
    NotANumber,
    /// The token after the one that is drawn.
    Draws,
}

impl Decoder for Faulty {
    fn config(&self) -> &Config {
        self.inner.config()
    }

    fn page_size(&self) -> usize {
        self.inner.page_size()
    }

    fn n_pages(&self) -> usize {
        self.inner.n_pages()
    }

    fn forward_picked(
        &mut self,
        batch: &Batch<'_>,
        picks: &[Pick<'_>],
    ) -> Result<Logits, ModelError> {
        let mut batch = batch.clone();
        if matches!(self.fault, Fault::Steps) && batch.spans[0].tokens.len() == 1 {
            batch.spans[0].tokens = &[3];
        }
        let mut logits = self.inner.forward_picked(&batch, picks)?;
        if let (Fault::NotANumber, Some(logit)) = (self.fault, logits.row_mut(0).first_mut()) {
            *logit = f32::NAN;
        }
        Ok(logits)
    }

    fn draw(&mut self, draws: &[Draw<'_>]) -> Vec<Drawn> {
        let mut drawn = self.inner.draw(draws);
        if matches!(self.fault, Fault::Draws) {
            drawn[0].token = drawn[0].token.map(|token| token + 1);
        }
        drawn
    }

    fn copy_page(&mut self, from: u32, to: u32, n_tokens: usize) {
        self.inner.copy_page(from, to, n_tokens);
    }
}

#[test]
fn faults_are_found() {
    let checkpoint = checkpoint("trial-faults", &Model::new("llama", false));
    let verdict = |fault| {
        let mut expected = checkpoint.decoder(&options()).unwrap();
        let inner = checkpoint.decoder(&options()).unwrap();
        compare(&mut *expected, &mut Faulty { inner, fault })
    };
    verdict(Fault::None).unwrap();
    for (fault, expected) in [
        (Fault::Steps, "% off the CPU's"),
        (Fault::NotANumber, "logits of one layer are not numbers"),
        (
            Fault::Draws,
            "it draws other tokens than the CPU from the same logits",
        ),
    ] {
        let error = verdict(fault).unwrap_err().to_string();
        assert!(
            error.starts_with("the GPU failed its trial: ") && error.ends_with(expected),
            "{error}"
        );
    }
}

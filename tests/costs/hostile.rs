//! The hostile inputs of the grammar crate, on a real vocabulary: each is answered in time and within memory.

use lmrun::grammar_suite::Random;

use super::inputs::{answer, inputs};
use super::trial::Trial;

#[test]
fn hostile_inputs_are_answered() {
    let mut random = Random::new(1);
    for input in inputs() {
        let trial = Trial::of(|| input.source.compile(), &mut random);
        println!(
            "{:45} {:25} {:7.1} ms {:6.1} MiB",
            input.name,
            format!("{:?}", input.answer),
            1e3 * trial.processor.as_secs_f64(),
            trial.bytes as f64 / f64::from(1 << 20)
        );
        assert_eq!(trial.wrong(), None, "{}", input.name);
        let given = trial.outcome.as_ref().and_then(answer);
        assert_eq!(given, Some(input.answer), "{}", input.name);
    }
}

//! In what order a step asks its decoder, so that a device that computes by itself is waited for once.

use lmrun_grammar::{Constraint, Limits};

use super::*;

/// What a decoder is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Asked {
    /// To launch a pass that holds so many rows.
    Launch(usize),
    /// For tokens of so many rows, each of another; how many have masks.
    Draw(usize, usize),
}

/// The fake, which notes what it is asked.
struct Noting {
    inner: FakeDecoder,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Decoder for Noting {
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
        let n_held = picks.iter().filter(|pick| matches!(pick, Pick::Held));
        self.asked
            .lock()
            .unwrap()
            .push(Asked::Launch(n_held.count()));
        self.inner.forward_picked(batch, picks)
    }

    fn draw(&mut self, draws: &[Draw<'_>]) -> Vec<Drawn> {
        let row_idxs: BTreeSet<usize> = draws.iter().map(|draw| draw.row_idx).collect();
        assert_eq!(
            row_idxs.len(),
            draws.len(),
            "a row is drawn from twice at once"
        );
        let n_masks = draws.iter().filter(|draw| draw.allowed.mask.is_some());
        let asked = Asked::Draw(draws.len(), n_masks.count());
        self.asked.lock().unwrap().push(asked);
        self.inner.draw(draws)
    }

    fn copy_page(&mut self, from: u32, to: u32, n_tokens: usize) {
        self.inner.copy_page(from, to, n_tokens);
    }
}

fn bench() -> (Bench, Arc<Mutex<Vec<Asked>>>) {
    let (setting, asked) = (Setting::default(), Arc::default());
    let decoder = Noting {
        inner: FakeDecoder::new(setting.n_pages, setting.page_size),
        asked: Arc::clone(&asked),
    };
    (Bench::over(Box::new(decoder), setting), asked)
}

fn n_told(bench: &Bench, ids: &[RequestId]) -> usize {
    let events = ids.iter().flat_map(|&id| bench.events(id));
    events
        .filter(|event| matches!(event, Event::Token(_)))
        .count()
}

#[test]
fn a_step_launches_then_draws_all_rows_then_tells() {
    let (mut bench, asked) = bench();
    let prompts = [prompt(0, 1, 40), prompt(1, 2, 7), prompt(2, 3, 90)];
    let ids: Vec<RequestId> = prompts
        .iter()
        .map(|prompt| bench.generate(prompt, at_most(9)))
        .collect();
    let mut n_before = 0;
    while !bench.core.is_idle() {
        bench.step();
        let asked = std::mem::take(&mut *asked.lock().unwrap());
        let Some(Asked::Launch(n_held)) = asked.first().cloned() else {
            panic!("a step begins with its pass: {asked:?}");
        };
        assert_eq!(asked[1..], [Asked::Draw(n_held, 0)]);
        // What was drawn is told before the next pass, but for an end token, which is nobody's.
        let n_now = n_told(&bench, &ids);
        assert!((n_now - n_before) <= n_held);
        n_before = n_now;
    }
    for (prompt, &id) in prompts.iter().zip(&ids) {
        let tokens = bench.events(id).into_iter();
        let tokens = tokens.filter_map(|event| match event {
            Event::Token(token) => Some(token.id),
            _ => None,
        });
        assert_eq!(tokens.collect::<Vec<_>>(), greedy_reference(prompt, 9));
    }
}

/// Choices that are refused are drawn again, one by one; the first ones of all rows, planned tokens among them, are one
/// question, with the masks that were found before.
#[test]
fn masks_are_there_when_rows_are_drawn_from() {
    let (mut bench, asked) = bench();
    let regex = |pattern| Constraint::regex(pattern, &Limits::default()).unwrap();
    for (seed, pattern) in [(0, "<(a{5}|b|[^<>]c)*>!"), (1, "[^x]{3}forced tail[^y]*")] {
        bench.generate(
            &prompt(seed, seed, 20),
            Generate {
                constraint: Some(regex(pattern)),
                ..at_most(24)
            },
        );
    }
    bench.generate(&prompt(5, 5, 20), at_most(24));
    let (mut n_masks, mut n_most) = (0, 0);
    while !bench.core.is_idle() {
        bench.step();
        let asked = std::mem::take(&mut *asked.lock().unwrap());
        let [
            Asked::Launch(n_held),
            Asked::Draw(n_drawn, n_masked),
            again @ ..,
        ] = asked.as_slice()
        else {
            panic!("a pass, then the first choices: {asked:?}");
        };
        assert_eq!(n_drawn, n_held);
        assert!(
            again.iter().all(|again| *again == Asked::Draw(1, 1)),
            "{again:?}"
        );
        n_masks += n_masked;
        n_most = n_most.max(*n_held);
    }
    assert!(n_masks > 10 && n_most > 3, "{n_masks} masks, {n_most} rows");
}

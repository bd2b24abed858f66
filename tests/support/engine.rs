//! Small helpers to drive the engine from a test: submit, wait, collect.

use std::ops::ControlFlow;
use std::sync::mpsc;
use std::time::Duration;

use lmrun_engine::{
    Engine, EngineOptions, Event, Generate, Handle, Request, Specials, Token, TokenId, Work,
};

use super::smollm2;

/// How long a test waits for one event before it calls the engine hung.
const PATIENCE: Duration = Duration::from_secs(120);

/// The default model under these options.
pub fn open(options: &EngineOptions) -> Engine {
    Engine::open(&smollm2(), options).expect("the default model opens")
}

/// `text` as ordinary text, without special tokens.
pub fn encode(handle: &Handle, text: &str) -> Vec<TokenId> {
    handle.tokenizer().encode(text, Specials::AsText)
}

/// Submits and returns the events as they come.
pub fn submit(handle: &Handle, prompt: Vec<TokenId>, work: Work) -> mpsc::Receiver<Event> {
    let (sender, receiver) = mpsc::channel();
    let sink = Box::new(move |event| match sender.send(event) {
        Ok(()) => ControlFlow::Continue(()),
        Err(_) => ControlFlow::Break(()),
    });
    handle
        .submit(
            Request {
                prompt,
                namespace: 0,
                work,
            },
            sink,
        )
        .expect("the request is accepted");
    receiver
}

/// What one generation gave.
pub struct Output {
    pub n_cached: usize,
    pub tokens: Vec<Token>,
}

impl Output {
    /// What must not change whatever the engine does: ids and the bits of their log-probabilities.
    pub fn fingerprint(&self) -> Vec<(TokenId, u32)> {
        self.tokens
            .iter()
            .map(|token| (token.id, token.logprob.to_bits()))
            .collect()
    }
}

/// Waits for a generation's end.
pub fn collect(receiver: &mpsc::Receiver<Event>) -> Output {
    let mut n_cached = 0;
    let mut tokens = Vec::new();
    loop {
        match receiver.recv_timeout(PATIENCE).expect("the engine answers") {
            Event::Started { n_cached: n } => n_cached = n,
            Event::Token(token) => tokens.push(token),
            Event::Finished(_) => return Output { n_cached, tokens },
            other => panic!("not an event of a generation: {other:?}"),
        }
    }
}

/// One generation from beginning to end.
pub fn generate(handle: &Handle, prompt: Vec<TokenId>, generate: Generate) -> Output {
    collect(&submit(handle, prompt, Work::Generate(Box::new(generate))))
}

/// Greedy generation of exactly so many tokens at most.
pub fn greedy(max_tokens: usize) -> Generate {
    Generate {
        max_tokens: Some(max_tokens),
        ..Generate::default()
    }
}

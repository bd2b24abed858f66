//! A model that says what it is told, under the real constraints: a scripted text that a mask would forbid fails.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};

use lmrun_engine::{
    Event, FinishReason, Finished, Generate, ModelError, Request, RequestError, RequestId, Sink,
    Specials, Stats, Token, TokenId, Usage, Work,
};
use lmrun_grammar::{Matcher, Vocabulary};
use serde_json::Value;

use crate::model::Model;

/// The special tokens, whose ids follow the 256 bytes.
const SPECIALS: [&str; 2] = ["<|im_start|>", "<|im_end|>"];

/// What one request to the engine comes to.
pub(crate) enum Script {
    /// This text, then the end of the turn.
    Say(&'static str),
    Fail(RequestError),
    /// It starts, says this, and never ends.
    Hang(&'static str),
}

/// A model whose tokens are bytes.
pub(crate) struct ScriptedModel {
    script: Mutex<VecDeque<Script>>,
    vocabulary: Arc<Vocabulary>,
    bytes: Vec<u8>,
    /// What was asked.
    pub(crate) requests: Mutex<Vec<Request>>,
    pub(crate) cancelled: Mutex<Vec<RequestId>>,
    hanging: Mutex<Vec<Sink>>,
}

impl ScriptedModel {
    pub(crate) fn new(script: Vec<Script>) -> Self {
        let bytes: Vec<u8> = (0..=u8::MAX).collect();
        let mut tokens: Vec<Option<Box<[u8]>>> =
            bytes.iter().map(|&byte| Some(Box::from([byte]))).collect();
        tokens.extend([None, None]);
        Self {
            script: Mutex::new(script.into()),
            vocabulary: Arc::new(Vocabulary::new(tokens, vec![257])),
            bytes,
            requests: Mutex::default(),
            cancelled: Mutex::default(),
            hanging: Mutex::default(),
        }
    }

    /// The prompt of the request with this index, as text.
    pub(crate) fn prompt(&self, idx: usize) -> String {
        self.decode(&self.requests.lock().unwrap()[idx].prompt)
    }

    pub(crate) fn n_requests(&self) -> usize {
        self.requests.lock().unwrap().len()
    }
}

impl Model for ScriptedModel {
    fn submit(&self, request: Request, mut sink: Sink) -> Result<RequestId, RequestError> {
        let mut requests = self.requests.lock().unwrap();
        let id = RequestId(requests.len() as u64);
        let Work::Generate(generate) = request.work.clone() else {
            panic!("only generations")
        };
        let n_prompt = request.prompt.len();
        requests.push(request);
        let next = self
            .script
            .lock()
            .unwrap()
            .pop_front()
            .expect("the script goes on");
        let (text, ends) = match next {
            Script::Fail(error) => return Err(error),
            Script::Say(text) => (text, true),
            Script::Hang(text) => (text, false),
        };
        let mut goes_on = sink(Event::Started { n_cached: 7 }).is_continue();
        let (text, reason) = played(text, &generate);
        check(&self.vocabulary, &generate, &text, &reason);
        let said = tokens_of(&text, generate.n_top_logprobs);
        let tokens: Vec<TokenId> = said.iter().map(|token| token.id).collect();
        for token in said {
            goes_on = goes_on && sink(Event::Token(token)).is_continue();
        }
        if !ends {
            self.hanging.lock().unwrap().push(sink);
        } else if goes_on {
            let usage = Usage {
                n_prompt,
                n_generated: tokens.len(),
                ..Usage::default()
            };
            let finished = Finished {
                reason,
                text: String::new(),
                tokens,
                usage,
            };
            let _: ControlFlow<()> = sink(Event::Finished(finished));
        }
        Ok(id)
    }

    fn cancel(&self, id: RequestId) {
        self.cancelled.lock().unwrap().push(id);
    }

    fn encode(&self, text: &str, specials: Specials) -> Vec<TokenId> {
        let mut tokens = Vec::new();
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            let special = SPECIALS
                .iter()
                .position(|special| rest.starts_with(special));
            match special.filter(|_| specials == Specials::Parse) {
                Some(idx) => {
                    tokens.push(256 + idx as TokenId);
                    rest = &rest[SPECIALS[idx].len()..];
                }
                None => {
                    let width = first.len_utf8();
                    tokens.extend(rest.as_bytes()[..width].iter().map(|&b| TokenId::from(b)));
                    rest = &rest[width..];
                }
            }
        }
        tokens
    }

    fn decode(&self, tokens: &[TokenId]) -> String {
        let mut bytes = Vec::new();
        for &token in tokens {
            match u8::try_from(token) {
                Ok(byte) => bytes.push(byte),
                Err(_) => bytes.extend(SPECIALS[token as usize - 256].bytes()),
            }
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn token_bytes(&self, token: TokenId) -> Option<&[u8]> {
        self.bytes.get(token as usize..=token as usize)
    }

    fn is_special(&self, token: TokenId) -> bool {
        token >= 256
    }

    fn n_vocab(&self) -> usize {
        258
    }

    fn vocabulary(&self) -> &Arc<Vocabulary> {
        &self.vocabulary
    }

    fn context_length(&self) -> usize {
        4000
    }

    fn template(&self) -> Option<&str> {
        Some("ChatML")
    }

    fn render(&self, messages: &Value, _: Option<&Value>) -> Result<String, ModelError> {
        let mut text = String::new();
        for message in messages.as_array().unwrap() {
            let (role, content) = (&message["role"], &message["content"]);
            if content == "raise" {
                return Err(ModelError::TemplateRaised("no such message".into()));
            }
            let (role, content) = (role.as_str().unwrap(), content.as_str().unwrap());
            text += &format!("<|im_start|>{role}\n{content}<|im_end|>\n");
        }
        Ok(text + "<|im_start|>assistant\n")
    }

    fn stats(&self) -> Stats {
        Stats {
            n_pages_free: 3,
            n_pages_cached: 4,
            n_pages_total: 7,
            ..Stats::default()
        }
    }
}

/// A text as the engine tells it: a character's last byte brings its text.
fn tokens_of(text: &str, n_top_logprobs: usize) -> Vec<Token> {
    let top: Vec<(TokenId, f32)> = (0..n_top_logprobs)
        .map(|id| (id as TokenId, f32::NEG_INFINITY))
        .collect();
    let of_character = |character: char| {
        let spelled = character.to_string();
        let n_bytes = spelled.len();
        let top = top.clone();
        spelled
            .clone()
            .into_bytes()
            .into_iter()
            .enumerate()
            .map(move |(idx, byte)| Token {
                id: TokenId::from(byte),
                text: if idx + 1 == n_bytes {
                    spelled.clone()
                } else {
                    String::new()
                },
                logprob: -0.5,
                top: top.clone(),
                forced: false,
            })
    };
    text.chars().flat_map(of_character).collect()
}

/// What is left of a text after stop strings and the budget, and why it ends.
fn played(text: &str, generate: &Generate) -> (String, FinishReason) {
    let mut text = text.to_owned();
    let mut reason = FinishReason::End;
    let stops = generate
        .stop
        .iter()
        .filter_map(|stop| text.find(stop).map(|at| (at, stop)));
    if let Some((at, stop)) = stops.min() {
        reason = FinishReason::Stop(stop.clone());
        text.truncate(at);
    }
    if let Some(max_tokens) = generate.max_tokens
        && text.len() > max_tokens
    {
        reason = FinishReason::Length;
        text.truncate(max_tokens);
    }
    (text, reason)
}

/// The constraint must take the text, as a whole unless it was cut.
fn check(vocabulary: &Arc<Vocabulary>, generate: &Generate, text: &str, reason: &FinishReason) {
    let Some(constraint) = &generate.constraint else {
        return;
    };
    let mut matcher = Matcher::new(constraint.clone(), vocabulary.clone()).unwrap();
    for byte in text.bytes() {
        matcher
            .accept(TokenId::from(byte))
            .unwrap_or_else(|error| panic!("{text}: {error}"));
    }
    assert!(
        *reason == FinishReason::Length || matcher.is_complete(),
        "{text} is not complete"
    );
}

//! `gen`: a generation from the context so far.

use lmrun_lang::ast::{Gen, Span};
use serde_json::Value;

use crate::backend::{BackendError, FinishReason, Generate, Generated, Token};
use crate::constraint::{self, Cut, Reading, Shape};
use crate::dry_run;
use crate::envelope::{ErrorKind, GenRecord};
use crate::event::{Event, Place};
use crate::gen_options::{GenOptions, Heal};
use crate::machine::{Fault, Machine, Outcome};

/// What a backend's tokens came to.
struct Output {
    /// The text after what healing took back.
    text: String,
    logprob: f64,
    generated: Generated,
}

impl Machine {
    /// Runs a `gen`: its tokens join the context, its name is bound.
    pub(crate) async fn generate(&mut self, generation: &Gen, span: Span) -> Outcome<Value> {
        if !self.context.takes_text() {
            let message = "a generation stands outside a turn: put it under a role";
            return Err(self.fault(ErrorKind::Check, span, message));
        }
        let options = self.gen_options(generation).await?;
        let name = generation.name.as_ref().map(|name| name.text.as_str());
        let shape = match &generation.ty {
            Some(ty) => self.shape(ty)?,
            None => Shape::text(),
        };
        if !options.stop.is_empty() && shape.reading != Reading::Text(Cut::Allowed) {
            let message = "`stop` could cut a typed generation short: it goes with text alone";
            return Err(self.fault(ErrorKind::Check, span, message));
        }
        let own_seed = self.next_seed();
        let seed = options.seed.unwrap_or(own_seed);
        self.context.flush(self.shared.backend.tokens());
        self.require_prompt(span)?;
        let record = if self.shared.options.dry_run {
            self.pretend(name, &shape, span)?
        } else {
            self.ask(name, &shape, options, seed, span).await?
        };
        let value = record.value.clone();
        if let Some(ty) = &generation.ty {
            // An automaton is a little wider than a type: it does not see that an output was cut.
            self.expect_generated(ty, &record, span)?;
        }
        self.record(name, span, record);
        self.admit(span, value)
    }

    async fn gen_options(&mut self, generation: &Gen) -> Outcome<GenOptions> {
        let mut options = self.shared.defaults.clone();
        for option in &generation.options {
            let value = self.eval(&option.value).await?;
            options
                .set(&option.name.text, &value)
                .map_err(|message| self.fault(ErrorKind::Check, option.name.span, message))?;
        }
        Ok(options)
    }

    fn shape(&self, ty: &lmrun_lang::ast::Type) -> Outcome<Shape> {
        match self.shared.shapes.get(&ty.span) {
            Some(shape) => Ok(shape.clone()),
            None => Shape::of(&self.shared.program, ty)
                .map_err(|message| self.fault(ErrorKind::Check, ty.span, message)),
        }
    }

    /// A model continues something: there is no generation from nothing.
    pub(crate) fn require_prompt(&self, span: Span) -> Outcome<()> {
        let (given, limit) = (
            self.context.tokens().len(),
            self.shared.backend.capabilities().context_length,
        );
        if given == 0 {
            let message = "nothing stands before this generation: a model needs a prompt";
            return Err(self.fault(ErrorKind::Check, span, message));
        }
        if given >= limit {
            let message = format!("the context holds {given} tokens, the model's limit is {limit}");
            return Err(self.fault(ErrorKind::Budget, span, message));
        }
        Ok(())
    }

    fn expect_generated(
        &self,
        ty: &lmrun_lang::ast::Type,
        record: &GenRecord,
        span: Span,
    ) -> Outcome<()> {
        if self.shared.options.dry_run {
            return Ok(());
        }
        self.expect_type("the generation", ty, &record.value, span)
            .map_err(|mut fault| {
                fault.kind = ErrorKind::Generation;
                fault
            })
    }

    /// Gives back the end of the run, where healing is wanted and can be held to.
    pub(crate) fn heal(&mut self, heal: Heal, stops: &[String]) -> String {
        let backend = &self.shared.backend;
        if heal == Heal::Off || !backend.capabilities().constraints {
            return String::new();
        }
        self.context
            .give_back(backend.tokens(), stops)
            .unwrap_or_default()
    }

    /// Asks the backend and appends what it generated.
    async fn ask(
        &mut self,
        name: Option<&str>,
        shape: &Shape,
        options: GenOptions,
        seed: u64,
        span: Span,
    ) -> Outcome<GenRecord> {
        let left = self.shared.budget.tokens_left();
        if left == Some(0) {
            return Err(self.out_of_tokens(span));
        }
        let capped = left.filter(|&left| options.max_tokens.is_none_or(|max| left < max));
        let healed = self.heal(options.heal, &options.stop);
        let constraint = match (shape.constraint.clone(), healed.as_str()) {
            (constraint, "") => constraint,
            (None, healed) => Some(constraint::text_from(healed)),
            (Some(constraint), healed) => Some(constraint.with_prefix(healed.as_bytes())),
        };
        let n_healed = usize::from(!healed.is_empty());
        let mut sampling = options.sampling;
        sampling.seed = seed;
        let how = Generate {
            max_tokens: capped.or(options.max_tokens).map(|max| max + n_healed),
            min_tokens: options.min_tokens,
            sampling,
            stop: options.stop,
            constraint,
            n_top_logprobs: options.n_top_logprobs,
            without_logprobs: false,
        };
        let output = self.listen(name, how, &healed, span).await;
        let output =
            output.map_err(|error| self.backend_fault(&error, capped.is_some(), span))??;
        self.context.push_tokens(&output.generated.tokens);
        self.pay(output.generated.usage);
        self.settle(shape, output, capped.is_some(), span)
    }

    /// Streams a generation; the outer error is the backend's, the inner one the run's.
    async fn listen(
        &self,
        name: Option<&str>,
        how: Generate,
        healed: &str,
        span: Span,
    ) -> Result<Outcome<Output>, BackendError> {
        let mut told = Told {
            n_skip: healed.len(),
            text: String::new(),
            logprobs: Vec::new(),
        };
        let mut on_token = |token: &Token| {
            self.shared.budget.take_token();
            told.logprobs.push(token.logprob);
            let text = told.take(&token.text).to_owned();
            self.tell_token(token, span);
            self.tell_text(name, &text, span);
        };
        let prompt = self.prompt(name, healed);
        let generating = self.shared.backend.generate(prompt, how, &mut on_token);
        let generated = tokio::select! {
            biased;
            () = self.shared.budget.used_up() => return Ok(Err(self.out_of_tokens(span))),
            generated = generating => generated?,
        };
        let rest = told.take(&generated.text).to_owned();
        self.tell_text(name, &rest, span);
        if told.n_skip > 0 {
            let message = format!("the output does not begin with {healed:?}");
            return Err(BackendError::Failed(message));
        }
        let n_kept = generated.tokens.len();
        let logprob = told
            .logprobs
            .iter()
            .take(n_kept)
            .map(|&logprob| f64::from(logprob))
            .sum();
        Ok(Ok(Output {
            text: told.text,
            logprob,
            generated,
        }))
    }

    fn tell_token(&self, token: &Token, span: Span) {
        let tokens = self.shared.backend.tokens();
        self.tell(|branch| Event::Token {
            branch,
            span: Place(span),
            id: token.id,
            text: token.text.clone(),
            logprob: token.logprob,
            forced: token.forced,
            top: token
                .top
                .iter()
                .map(|&(id, logprob)| (tokens.decode(&[id]), logprob))
                .collect(),
        });
    }

    /// Tells text that a generation or a choice added.
    pub(crate) fn tell_text(&self, name: Option<&str>, text: &str, span: Span) {
        if !text.is_empty() {
            self.tell(|branch| Event::Text {
                branch,
                span: Place(span),
                name: name.map(str::to_owned),
                text: text.to_owned(),
            });
        }
    }

    /// A finished output as a record.
    fn settle(
        &self,
        shape: &Shape,
        output: Output,
        capped: bool,
        span: Span,
    ) -> Outcome<GenRecord> {
        let finish = match &output.generated.reason {
            FinishReason::End => "end",
            FinishReason::Stop(_) => "stop",
            FinishReason::Length if capped && shape.constraint.is_none() => {
                return Err(self.out_of_tokens(span));
            }
            FinishReason::Length => "length",
            FinishReason::Cancelled => {
                return Err(self.fault(
                    ErrorKind::Interrupted,
                    span,
                    "the generation was cancelled",
                ));
            }
        };
        let value = shape.read(&output.text).map_err(|message| {
            let message = match finish {
                "length" => format!(
                    "cut after {} tokens: {message}",
                    output.generated.tokens.len()
                ),
                _ => message,
            };
            self.fault(ErrorKind::Generation, span, message)
        })?;
        Ok(GenRecord {
            value,
            tokens: output.generated.tokens.len(),
            text: output.text,
            logprob: output.logprob,
            finish,
            scores: None,
            mass: None,
        })
    }

    fn out_of_tokens(&self, span: Span) -> Fault {
        let limit = self.shared.budget.token_limit().unwrap_or_default();
        let message = format!("the budget of {limit} generated tokens is used up");
        self.fault(ErrorKind::Budget, span, message)
    }

    /// A backend's error as the run's. `capped` says that the run's budget set the limit on tokens.
    pub(crate) fn backend_fault(&self, error: &BackendError, capped: bool, span: Span) -> Fault {
        let kind = match error {
            BackendError::TooFewTokens { .. } if capped => ErrorKind::Budget,
            BackendError::TooFewTokens { .. } => ErrorKind::Generation,
            BackendError::Refused(_) => ErrorKind::Budget,
            BackendError::Failed(_) => ErrorKind::Backend,
        };
        self.fault(kind, span, error.to_string())
    }

    /// A dry run's generation: the prompt is told, a placeholder takes the output's place.
    fn pretend(&mut self, name: Option<&str>, shape: &Shape, span: Span) -> Outcome<GenRecord> {
        self.tell_prompt(name, span);
        let text = dry_run::placeholder(name, shape)
            .map_err(|message| self.fault(ErrorKind::Generation, span, message))?;
        let value = shape
            .read(&text)
            .map_err(|message| self.fault(ErrorKind::Generation, span, message))?;
        let tokens = self.shared.backend.tokens().encode(&text);
        self.context.push_tokens(&tokens);
        let n_tokens = tokens.len();
        let (finish, logprob) = (dry_run::FINISH, 0.0);
        Ok(GenRecord {
            value,
            text,
            tokens: n_tokens,
            logprob,
            finish,
            scores: None,
            mass: None,
        })
    }

    /// Tells the whole prompt, in a dry run.
    pub(crate) fn tell_prompt(&self, name: Option<&str>, span: Span) {
        let tokens = self.context.tokens();
        self.tell(|branch| Event::Prompt {
            branch,
            span: Place(span),
            name: name.map(str::to_owned),
            text: self.shared.backend.tokens().decode(tokens),
            tokens: tokens.len(),
        });
    }
}

/// What was told of an output so far.
struct Told {
    /// Bytes of healing's text that are still to come.
    n_skip: usize,
    text: String,
    logprobs: Vec<f32>,
}

impl Told {
    /// Takes the next piece of text; what of it is new to the program. Healing's text ends between characters.
    fn take<'t>(&mut self, piece: &'t str) -> &'t str {
        let n_skipped = self.n_skip.min(piece.len());
        self.n_skip -= n_skipped;
        let new = piece.get(n_skipped..).unwrap_or_default();
        self.text += new;
        new
    }
}

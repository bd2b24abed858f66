//! `fork` and `best`: branches over the context so far, and comprehensions over functions, which are branches too.
//!
//! Branches run concurrently inside the future of their fork. The shared prefix is computed once, before they start;
//! a branch that fails drops its siblings, and with them what they asked of the backend.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use lmrun_lang::ast::{Best, Block, Expr, Fork, Name, Opt, Span};
use serde_json::Value;

use crate::envelope::ErrorKind;
use crate::event::{Event, Place};
use crate::gen_options::whole;
use crate::machine::{Flow, Machine, Outcome};
use crate::prepare;
use crate::scope::Frozen;
use crate::stmt::Names;
use crate::value;

/// Branches that run at the same time unless `limit` says otherwise.
const DEFAULT_LIMIT: usize = 64;

/// How branches run.
struct Terms {
    limit: usize,
    timeout: Option<Duration>,
    /// Keep the first so many to end and drop the rest.
    first: Option<usize>,
    /// A branch that fails is null instead of failing its fork.
    forgive: bool,
    /// The branches go on from this context, which is therefore computed before them.
    shares_context: bool,
}

impl Default for Terms {
    fn default() -> Self {
        Self {
            limit: DEFAULT_LIMIT,
            timeout: None,
            first: None,
            forgive: false,
            shares_context: true,
        }
    }
}

/// What the branches came to: each one's number and result, none where it failed and was forgiven. In order.
type Results<T> = Vec<(u64, Option<T>)>;

impl Machine {
    /// `fork`: the list of what the branches yield.
    pub(crate) async fn fork(&mut self, fork: &Fork, span: Span) -> Outcome<Value> {
        let items = match self.eval(&fork.over).await? {
            Value::Array(items) => items,
            number => (0..self.count(&number, fork.over.span)?)
                .map(Value::from)
                .collect(),
        };
        let terms = self.terms(&fork.options, "fork").await?;
        let work = |idx: usize, mut branch: Machine| {
            let item = items[idx].clone();
            async move {
                if let Some(name) = &fork.name {
                    branch.scope.bind(&name.text, item, false);
                }
                branch.yielded(&fork.body, span).await
            }
            .boxed()
        };
        let results = self.branches(items.len(), &terms, span, work).await?;
        let kept = results.iter().map(|&(number, _)| number).collect();
        self.tell_join(span, kept);
        let values = results
            .into_iter()
            .map(|(_, value)| value.unwrap_or_default())
            .collect();
        self.admit(span, Value::Array(values))
    }

    /// `best`: the branch with the largest score goes on as this one.
    pub(crate) async fn best(&mut self, best: &Best, span: Span) -> Outcome<Value> {
        let n = self.eval(&best.n).await?;
        let n = self.count(&n, best.n.span)?;
        let terms = self.terms(&best.options, "best").await?;
        let work = |_: usize, mut branch: Machine| {
            async move {
                let value = branch.yielded(&best.body, span).await?;
                let score = branch.eval(&best.by).await?;
                let Some(score) = score.as_f64() else {
                    let message =
                        format!("a score must be a number, this is {}", value::kind(&score));
                    return Err(branch.no_value(best.by.span, message));
                };
                Ok((score, value, branch))
            }
            .boxed()
        };
        let results = self.branches(n, &terms, span, work).await?;
        let candidates = results
            .into_iter()
            .filter_map(|(number, result)| Some((number, result?)));
        let winner = candidates.reduce(|best, next| if next.1.0 > best.1.0 { next } else { best });
        let Some((number, (_, value, winner))) = winner else {
            return Err(self.no_value(span, "`best` has no branch to choose from"));
        };
        self.adopt(winner);
        self.tell_join(span, vec![number]);
        Ok(value)
    }

    /// Goes on where a branch stopped: its context, its names, its generations.
    fn adopt(&mut self, mut winner: Machine) {
        self.context = winner.context;
        for name in std::mem::take(&mut winner.generated) {
            let record = winner
                .scope
                .find(&name)
                .and_then(|binding| binding.record.clone());
            if let Some(record) = record {
                self.note(&name, Arc::unwrap_or_clone(record));
            }
        }
        self.scope.adopt(winner.scope.into_bindings());
    }

    /// `[e for x in xs if c]`. Elements that call functions run side by side: each has a context of its own anyway.
    pub(crate) async fn comprehension(
        &mut self,
        element: &Expr,
        name: &Name,
        list: &Expr,
        condition: Option<&Expr>,
        span: Span,
    ) -> Outcome<Value> {
        let items = self.items(list).await?;
        let mut values = Vec::new();
        if prepare::runs_apart(&self.shared.program, element) {
            let work = |idx: usize, mut branch: Machine| {
                let item = items[idx].clone();
                async move {
                    branch.scope.bind(&name.text, item, false);
                    branch.element(element, condition).await
                }
                .boxed()
            };
            let terms = Terms {
                shares_context: false,
                ..Terms::default()
            };
            let results = self.branches(items.len(), &terms, span, work).await?;
            self.tell_join(span, results.iter().map(|&(number, _)| number).collect());
            values.extend(results.into_iter().filter_map(|(_, value)| value.flatten()));
        } else {
            let mut n_bytes = 0;
            for item in items {
                let depth = self.scope.depth();
                self.scope.enter();
                self.scope.bind(&name.text, item, false);
                let value = self.element(element, condition).await?;
                self.scope.leave_to(depth);
                if let Some(value) = value {
                    n_bytes += value::measure(&value).0;
                    self.charge(span, n_bytes)?;
                    values.push(value);
                }
            }
        }
        self.admit(span, Value::Array(values))
    }

    /// An element, unless the condition leaves it out.
    async fn element(
        &mut self,
        element: &Expr,
        condition: Option<&Expr>,
    ) -> Outcome<Option<Value>> {
        if let Some(condition) = condition
            && !self.condition(condition).await?
        {
            return Ok(None);
        }
        self.eval(element).await.map(Some)
    }

    /// Runs a branch's body; what it yields.
    async fn yielded(&mut self, body: &Block, span: Span) -> Outcome<Value> {
        match self.block(body, Names::Shared).await? {
            Flow::Yield(value) => Ok(value),
            Flow::Next => Ok(Value::Null),
            Flow::Return(_) | Flow::Break | Flow::Continue => {
                let message = "a branch ends with `yield`; it cannot return, break or continue";
                Err(self.fault(ErrorKind::Check, span, message))
            }
        }
    }

    /// A number of branches.
    fn count(&self, value: &Value, span: Span) -> Outcome<usize> {
        let limit = self.shared.options.limits.branches;
        let n = whole("the number of branches", value, 0, limit as u64);
        n.map(|n| n as usize)
            .map_err(|message| self.no_value(span, message))
    }

    async fn terms(&mut self, options: &[Opt], place: &str) -> Outcome<Terms> {
        let mut terms = Terms::default();
        for option in options {
            let value = self.eval(&option.value).await?;
            let name = option.name.text.as_str();
            let set = match name {
                "limit" => whole(name, &value, 1, 1 << 20).map(|n| terms.limit = n as usize),
                "timeout" => whole(name, &value, 1, 1 << 40)
                    .map(|ms| terms.timeout = Some(Duration::from_millis(ms))),
                "first" if place == "fork" => {
                    whole(name, &value, 1, 1 << 20).map(|n| terms.first = Some(n as usize))
                }
                "on_error" => match value.as_str() {
                    Some("null") => {
                        terms.forgive = true;
                        Ok(())
                    }
                    Some("fail") => {
                        terms.forgive = false;
                        Ok(())
                    }
                    _ => Err(format!(
                        "`on_error` is \"fail\" or \"null\", given {}",
                        value::brief(&value)
                    )),
                },
                _ => Err(format!("`{place}` has no option `{name}`")),
            };
            set.map_err(|message| self.fault(ErrorKind::Check, option.name.span, message))?;
        }
        Ok(terms)
    }

    /// Runs `n` branches over this context, which is as before when they have ended, and so are its names.
    async fn branches<'w, T: Send>(
        &mut self,
        n: usize,
        terms: &Terms,
        span: Span,
        work: impl Fn(usize, Machine) -> BoxFuture<'w, Outcome<T>> + Send + Sync,
    ) -> Outcome<Results<T>> {
        let limit = self.shared.options.limits.branches;
        if n > limit {
            let message = format!("{n} branches; the limit is {limit}");
            return Err(self.fault(ErrorKind::Budget, span, message));
        }
        let first = self.number_children(n);
        if terms.shares_context {
            self.context.flush(self.shared.backend.tokens());
            if n > 1 {
                self.publish(span).await?;
            }
        }
        let numbers = first..first + n as u64;
        self.tell(|branch| Event::Fork {
            branch,
            span: Place(span),
            branches: numbers
                .clone()
                .map(|number| self.child_path(number))
                .collect(),
            shared_tokens: match terms.shares_context {
                true => self.context.tokens().len(),
                false => 0,
            },
        });
        let names = self.scope.freeze();
        let results = self.run_branches(numbers, &names, terms, span, &work).await;
        drop(names);
        self.scope.thaw();
        results
    }

    async fn run_branches<'w, T: Send>(
        &self,
        numbers: std::ops::Range<u64>,
        names: &Arc<Frozen>,
        terms: &Terms,
        span: Span,
        work: &(impl Fn(usize, Machine) -> BoxFuture<'w, Outcome<T>> + Send + Sync),
    ) -> Outcome<Results<T>> {
        let mut waiting = numbers.clone();
        let mut running = FuturesUnordered::new();
        let mut results: Results<T> = Vec::new();
        loop {
            while running.len() < terms.limit
                && let Some(number) = waiting.next()
            {
                let branch = self.child(number, self.context.clone(), Some(Arc::clone(names)));
                let ended = work((number - numbers.start) as usize, branch);
                running.push(self.in_time(number, ended, terms.timeout, span));
            }
            let Some((number, outcome)) = running.next().await else {
                break;
            };
            match outcome {
                Ok(result) => results.push((number, Some(result))),
                Err(fault) if terms.forgive && may_forgive(fault.kind) => {
                    results.push((number, None));
                }
                Err(fault) => return Err(fault),
            }
            let n_kept = results
                .iter()
                .filter(|(_, result)| result.is_some())
                .count();
            if terms.first.is_some_and(|first| n_kept >= first) {
                results.retain(|(_, result)| result.is_some());
                break;
            }
        }
        results.sort_unstable_by_key(|&(number, _)| number);
        Ok(results)
    }

    /// A branch, with the time it may take.
    async fn in_time<T>(
        &self,
        number: u64,
        branch: BoxFuture<'_, Outcome<T>>,
        timeout: Option<Duration>,
        span: Span,
    ) -> (u64, Outcome<T>) {
        let Some(timeout) = timeout else {
            return (number, branch.await);
        };
        let outcome = tokio::time::timeout(timeout, branch)
            .await
            .unwrap_or_else(|_| {
                let message = format!("the branch took longer than {} ms", timeout.as_millis());
                let mut fault = self.fault(ErrorKind::Timeout, span, message);
                fault.branch = Some(self.child_path(number));
                Err(fault)
            });
        (number, outcome)
    }

    /// Computes the context so far once, for what is to begin with it.
    pub(crate) async fn publish(&mut self, span: Span) -> Outcome<()> {
        self.context.flush(self.shared.backend.tokens());
        if self.context.tokens().is_empty() || self.shared.options.dry_run {
            return Ok(());
        }
        let published = self.shared.backend.publish(self.prompt(None, "")).await;
        let cost = published.map_err(|error| self.backend_fault(&error, false, span))?;
        self.pay(cost);
        Ok(())
    }

    fn tell_join(&self, span: Span, kept: Vec<u64>) {
        let kept = kept
            .into_iter()
            .map(|number| self.child_path(number))
            .collect();
        self.tell(|branch| Event::Join {
            branch,
            span: Place(span),
            kept,
        });
    }
}

/// Whether `on_error="null"` covers it: what concerns one branch, not the run.
fn may_forgive(kind: ErrorKind) -> bool {
    match kind {
        ErrorKind::Fail
        | ErrorKind::Assert
        | ErrorKind::Value
        | ErrorKind::Generation
        | ErrorKind::Timeout
        | ErrorKind::Backend => true,
        ErrorKind::Arguments
        | ErrorKind::Check
        | ErrorKind::Capability
        | ErrorKind::Budget
        | ErrorKind::Interrupted => false,
    }
}

//! Calls: functions in a fresh context, parts in the caller's, and the library.

use std::sync::Arc;

use lmrun_lang::ast::{Callable, Expr, Name, Opt, Span};
use serde_json::Value;

use crate::context::Context;
use crate::envelope::ErrorKind;
use crate::machine::{Flow, Machine, Outcome};
use crate::scope::Scope;
use crate::stmt::Names;

/// Arguments, evaluated.
pub(crate) struct Given {
    pub(crate) args: Vec<Value>,
    pub(crate) named: Vec<(String, Value)>,
}

impl Machine {
    /// A call of a fn, a part or a library function.
    pub(crate) async fn call(
        &mut self,
        callee: &Name,
        args: &[Expr],
        named: &[Opt],
        span: Span,
    ) -> Outcome<Value> {
        let program = Arc::clone(&self.shared.program);
        if let Some(function) = program.function(&callee.text) {
            let given = self.arguments(args, named).await?;
            return self.call_function(function, given, span).await;
        }
        if let Some(part) = program.part(&callee.text) {
            let given = self.arguments(args, named).await?;
            return self.call_part(part, given, span).await;
        }
        self.call_library(callee, args, named, span).await
    }

    /// Evaluates arguments.
    pub(crate) async fn arguments(&mut self, args: &[Expr], named: &[Opt]) -> Outcome<Given> {
        let mut given = Given {
            args: Vec::new(),
            named: Vec::new(),
        };
        for arg in args {
            given.args.push(self.eval(arg).await?);
        }
        for option in named {
            given
                .named
                .push((option.name.text.clone(), self.eval(&option.value).await?));
        }
        Ok(given)
    }

    /// `fn`: a child with a context of its own.
    async fn call_function(
        &mut self,
        function: &Callable,
        given: Given,
        span: Span,
    ) -> Outcome<Value> {
        self.check_call_depth(span)?;
        let number = self.number_children(1);
        let globals = self.shared.globals.get().cloned();
        let mut child = self.child(number, Context::new(!self.shared.plain), globals);
        child.n_calls += 1;
        child.bind_parameters(function, given, span).await?;
        let value = match child.block(&function.body, Names::Shared).await? {
            Flow::Return(value) => value,
            _ => Value::Null,
        };
        if let Some(ty) = &function.ret {
            let what = format!("the result of `{}`", function.name.text);
            child.expect_type(&what, ty, &value, span)?;
        }
        Ok(value)
    }

    /// `part`: the caller's context, names of its own.
    async fn call_part(&mut self, part: &Callable, given: Given, span: Span) -> Outcome<Value> {
        self.check_call_depth(span)?;
        let globals = self.shared.globals.get().cloned();
        let callers = std::mem::replace(&mut self.scope, Scope::over(globals));
        self.n_calls += 1;
        let outcome = self.run_part(part, given, span).await;
        self.n_calls -= 1;
        self.scope = callers;
        outcome
    }

    async fn run_part(&mut self, part: &Callable, given: Given, span: Span) -> Outcome<Value> {
        self.bind_parameters(part, given, span).await?;
        match self.block(&part.body, Names::Shared).await? {
            Flow::Return(value) => Ok(value),
            _ => Ok(Value::Null),
        }
    }

    fn check_call_depth(&self, span: Span) -> Outcome<()> {
        let limit = self.shared.options.limits.call_depth;
        if self.n_calls < limit {
            return Ok(());
        }
        let message = format!("calls nest deeper than {limit}");
        Err(self.fault(ErrorKind::Budget, span, message))
    }

    async fn bind_parameters(
        &mut self,
        callable: &Callable,
        given: Given,
        span: Span,
    ) -> Outcome<()> {
        let callee = &callable.name.text;
        let n_params = callable.params.len();
        if given.args.len() > n_params {
            let message = format!(
                "`{callee}` takes {n_params} arguments, given {}",
                given.args.len()
            );
            return Err(self.fault(ErrorKind::Check, span, message));
        }
        let mut args = given.args.into_iter();
        let mut named = given.named;
        for param in &callable.params {
            let name = &param.name.text;
            let by_name = named.iter().position(|(given, _)| given == name);
            let value = match (args.next(), by_name, &param.default) {
                (Some(value), None, _) => value,
                (None, Some(at), _) => named.swap_remove(at).1,
                (None, None, Some(default)) => self.eval(default).await?,
                (Some(_), Some(_), _) => {
                    let message = format!("`{callee}` is given `{name}` twice");
                    return Err(self.fault(ErrorKind::Check, span, message));
                }
                (None, None, None) => {
                    let message = format!("`{callee}` is not given `{name}`");
                    return Err(self.fault(ErrorKind::Check, span, message));
                }
            };
            self.expect_type(&format!("`{name}` of `{callee}`"), &param.ty, &value, span)?;
            self.scope.bind(name, value, false);
        }
        match named.first() {
            None => Ok(()),
            Some((name, _)) => {
                let message = format!("`{callee}` has no parameter `{name}`");
                Err(self.fault(ErrorKind::Check, span, message))
            }
        }
    }
}

//! Expressions.

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use lmrun_lang::ast::{BinaryOp, Expr, ExprKind, Name, Span, Template, TemplatePart, UnaryOp};
use serde_json::{Map, Value};

use crate::conform;
use crate::envelope::ErrorKind;
use crate::machine::{Machine, Outcome};
use crate::operators;
use crate::value::{self, literal_value};

impl Machine {
    /// The value of an expression.
    pub(crate) fn eval<'a>(&'a mut self, expr: &'a Expr) -> BoxFuture<'a, Outcome<Value>> {
        async move {
            self.step(expr.span).await?;
            self.descend(expr.span)?;
            let value = self.eval_kind(expr).await?;
            self.ascend();
            Ok(value)
        }
        .boxed()
    }

    async fn eval_kind(&mut self, expr: &Expr) -> Outcome<Value> {
        match &expr.kind {
            ExprKind::Literal(literal) => Ok(literal_value(literal)),
            ExprKind::Template(template) => self.template(template).await.map(Value::String),
            ExprKind::Regex(_) => {
                Err(self.no_value(expr.span, "a regex stands only to the right of `matches`"))
            }
            ExprKind::List(items) => {
                let mut list = Vec::with_capacity(items.len());
                for item in items {
                    list.push(self.eval(item).await?);
                }
                self.admit(expr.span, Value::Array(list))
            }
            ExprKind::Map(entries) => {
                let mut map = Map::new();
                for (name, item) in entries {
                    let item = self.eval(item).await?;
                    map.insert(name.text.clone(), item);
                }
                self.admit(expr.span, Value::Object(map))
            }
            ExprKind::Name(name) => match self.scope.find(name) {
                Some(binding) => self.admit(expr.span, Value::clone(&binding.value)),
                None => Err(self.undefined(name, expr.span)),
            },
            ExprKind::Call {
                callee,
                args,
                named,
            } => self.call(callee, args, named, expr.span).boxed().await,
            ExprKind::Member(base, name) => self.member(base, name).await,
            ExprKind::Index(base, index) => self.index(base, index).await,
            ExprKind::Unary(op, operand) => {
                let value = self.eval(operand).await?;
                match op {
                    UnaryOp::Not => operators::not(&value),
                    UnaryOp::Negate => operators::negate(&value),
                }
                .map_err(|message| self.no_value(expr.span, message))
            }
            ExprKind::Binary(op, left, right) => self.binary(*op, left, right, expr.span).await,
            ExprKind::Comprehension {
                element,
                name,
                list,
                condition,
            } => {
                self.comprehension(element, name, list, condition.as_deref(), expr.span)
                    .boxed()
                    .await
            }
            ExprKind::Gen(generation) => self.generate(generation, expr.span).boxed().await,
            ExprKind::Select(select) => self.select(select, expr.span).boxed().await,
            ExprKind::Fork(fork) => self.fork(fork, expr.span).boxed().await,
            ExprKind::Best(best) => self.best(best, expr.span).boxed().await,
        }
    }

    fn undefined(&self, name: &str, span: Span) -> crate::machine::Fault {
        self.fault(
            ErrorKind::Check,
            span,
            format!("`{name}` has no value here"),
        )
    }

    /// A template's text as a value.
    pub(crate) async fn template(&mut self, template: &Template) -> Outcome<String> {
        let mut text = String::new();
        for part in &template.parts {
            match part {
                TemplatePart::Text(literal, _) => text += literal,
                TemplatePart::Hole(hole) => text += &value::text(&self.eval(hole).await?),
            }
            let limit = self.shared.options.limits.value_bytes;
            if text.len() > limit {
                let message = format!("a string of {} bytes; the limit is {limit}", text.len());
                return Err(self.fault(ErrorKind::Budget, template.span, message));
            }
        }
        self.charge(template.span, text.len())?;
        Ok(text)
    }

    /// A name or a member of one, without a copy of the whole.
    fn peek(&self, expr: &Expr) -> Option<&Value> {
        match &expr.kind {
            ExprKind::Name(name) => Some(self.scope.find(name)?.value.as_ref()),
            ExprKind::Member(base, name) => self.peek(base)?.as_object()?.get(&name.text),
            _ => None,
        }
    }

    /// `x.name`: null where a map has no such member, as of an optional field left out.
    async fn member(&mut self, base: &Expr, name: &Name) -> Outcome<Value> {
        let member = |base: &Value| match base {
            Value::Object(map) => Ok(map.get(&name.text).cloned().unwrap_or(Value::Null)),
            other => Err(format!(
                "{} has no member `{}`",
                value::kind(other),
                name.text
            )),
        };
        let found = match self.peek(base) {
            Some(base) => member(base),
            None => member(&self.eval(base).await?),
        };
        let found = found.map_err(|message| self.no_value(name.span, message))?;
        self.admit(name.span, found)
    }

    async fn index(&mut self, base: &Expr, index: &Expr) -> Outcome<Value> {
        let place = self.eval(index).await?;
        let found = match self.peek(base) {
            Some(base) => operators::index(base, &place),
            None => operators::index(&self.eval(base).await?, &place),
        };
        let found = found.map_err(|message| self.no_value(index.span, message))?;
        self.admit(index.span, found)
    }

    async fn binary(
        &mut self,
        op: BinaryOp,
        left: &Expr,
        right: &Expr,
        span: Span,
    ) -> Outcome<Value> {
        match op {
            BinaryOp::Coalesce => {
                let value = self.eval(left).await?;
                return if value.is_null() {
                    self.eval(right).await
                } else {
                    Ok(value)
                };
            }
            BinaryOp::And => {
                let holds =
                    self.condition(left).boxed().await? && self.condition(right).boxed().await?;
                return Ok(Value::Bool(holds));
            }
            BinaryOp::Or => {
                let holds =
                    self.condition(left).boxed().await? || self.condition(right).boxed().await?;
                return Ok(Value::Bool(holds));
            }
            BinaryOp::Matches => return self.matches(left, right, span).boxed().await,
            _ => {}
        }
        let (left, right) = (self.eval(left).await?, self.eval(right).await?);
        let value =
            operators::binary(op, &left, &right).map_err(|message| self.no_value(span, message))?;
        self.admit(span, value)
    }

    async fn matches(&mut self, left: &Expr, right: &Expr, span: Span) -> Outcome<Value> {
        let ExprKind::Regex(pattern) = &right.kind else {
            return Err(self.no_value(right.span, "the right side of `matches` must be a /regex/"));
        };
        let text = match self.eval(left).await? {
            Value::String(text) => text,
            other => {
                let message = format!("`matches` takes a string, this is {}", value::kind(&other));
                return Err(self.no_value(left.span, message));
            }
        };
        let matched = conform::matches(pattern, &text);
        matched
            .map(Value::Bool)
            .map_err(|message| self.fault(ErrorKind::Check, span, message))
    }
}

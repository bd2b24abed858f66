//! Statements.

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use lmrun_lang::ast::{
    Arm, Block, Expr, ExprKind, Name, PatternKind, Role, Span, Stmt, StmtKind, Template,
    TemplatePart,
};
use serde_json::{Value, json};

use crate::conform::{conform, show};
use crate::envelope::{ErrorKind, RunError};
use crate::event::{Event, Place};
use crate::machine::{Flow, Machine, Outcome};
use crate::operators;
use crate::scope::AssignError;
use crate::value::{self, literal_value};

/// Whether a block's `let`s end with it. The block of a role or an attempt is part of what stands around it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Names {
    Own,
    Shared,
}

impl Machine {
    /// Runs a block.
    pub(crate) fn block<'a>(
        &'a mut self,
        block: &'a Block,
        names: Names,
    ) -> BoxFuture<'a, Outcome<Flow>> {
        async move {
            self.descend(block.span)?;
            let depth = self.scope.depth();
            if names == Names::Own {
                self.scope.enter();
            }
            let mut flow = Flow::Next;
            for stmt in &block.stmts {
                flow = self.statement(stmt).await?;
                if flow != Flow::Next {
                    break;
                }
            }
            self.scope.leave_to(depth);
            self.ascend();
            Ok(flow)
        }
        .boxed()
    }

    /// Runs a statement. What awaits is boxed, so that a deep program takes heap rather than stack.
    async fn statement(&mut self, stmt: &Stmt) -> Outcome<Flow> {
        self.step(stmt.span).await?;
        match &stmt.kind {
            StmtKind::Let {
                mutable,
                name,
                ty,
                value,
            } => {
                let value = self.eval(value).await?;
                if let Some(ty) = ty {
                    self.expect_type(&format!("`{}`", name.text), ty, &value, stmt.span)?;
                }
                self.scope.bind(&name.text, value, *mutable);
                Ok(Flow::Next)
            }
            StmtKind::Assign { name, add, value } => {
                self.assign(name, *add, value).boxed().await?;
                Ok(Flow::Next)
            }
            StmtKind::Return(value) => Ok(Flow::Return(match value {
                Some(value) => self.eval(value).await?,
                None => Value::Null,
            })),
            StmtKind::Yield(value) => Ok(Flow::Yield(self.eval(value).await?)),
            StmtKind::Assert(condition, message) => {
                self.assert(condition, message.as_ref(), stmt.span)
                    .boxed()
                    .await?;
                Ok(Flow::Next)
            }
            StmtKind::Fail(message) => {
                let message = value::text(&self.eval(message).await?);
                Err(self.fault(ErrorKind::Fail, stmt.span, message))
            }
            StmtKind::Pin(_) => {
                self.publish(stmt.span).boxed().await?;
                Ok(Flow::Next)
            }
            StmtKind::Break => Ok(Flow::Break),
            StmtKind::Continue => Ok(Flow::Continue),
            StmtKind::Expr(expr) => {
                self.emit(expr).boxed().await?;
                Ok(Flow::Next)
            }
            _ => self.compound(stmt).await,
        }
    }

    /// Runs a statement that holds blocks.
    async fn compound(&mut self, stmt: &Stmt) -> Outcome<Flow> {
        match &stmt.kind {
            StmtKind::Role { role, body } => self.role(*role, body, stmt.span).boxed().await,
            StmtKind::If {
                condition,
                then,
                otherwise,
            } => {
                if self.condition(condition).await? {
                    self.block(then, Names::Own).await
                } else if let Some(otherwise) = otherwise {
                    self.block(otherwise, Names::Own).await
                } else {
                    Ok(Flow::Next)
                }
            }
            StmtKind::For { name, list, body } => self.for_each(name, list, body).boxed().await,
            StmtKind::Loop { max, body } => self.repeat(max, body).boxed().await,
            StmtKind::Match { subject, arms } => {
                self.match_arms(subject, arms, stmt.span).boxed().await
            }
            StmtKind::Attempt { .. } => self.attempt(stmt).boxed().await,
            _ => unreachable!("every other statement is run where it stands"),
        }
    }

    /// Checks a value against a type the program declares for it.
    pub(crate) fn expect_type(
        &self,
        what: &str,
        ty: &lmrun_lang::ast::Type,
        value: &Value,
        span: Span,
    ) -> Outcome<()> {
        conform(&self.shared.program, ty, value).map_err(|mismatch| {
            let place = match mismatch.path.as_str() {
                "" => String::new(),
                path => format!(" at `{path}`"),
            };
            let (expected, given) = (mismatch.expected, mismatch.given);
            let message = format!(
                "{what} must be {}{place}: expected {expected}, given {given}",
                show(ty)
            );
            self.no_value(span, message)
        })
    }

    async fn assign(&mut self, name: &Name, add: bool, value: &Expr) -> Outcome<()> {
        let mut value = self.eval(value).await?;
        if add {
            let old = self
                .scope
                .find(&name.text)
                .map(|binding| binding.value.as_ref());
            let sum = operators::add(old.unwrap_or(&Value::Null), &value)
                .map_err(|message| self.no_value(name.span, message))?;
            value = self.admit(name.span, sum)?;
        }
        let refused = match self.scope.variable(&name.text) {
            Ok(variable) => {
                *variable = value.into();
                return Ok(());
            }
            Err(refused) => refused,
        };
        let name_text = &name.text;
        let message = match refused {
            AssignError::Undefined => format!("`{name_text}` is not defined"),
            AssignError::Immutable => format!("`{name_text}` is not a `var`"),
            AssignError::Outer => format!("`{name_text}` is outside the branch: read-only here"),
        };
        Err(self.fault(ErrorKind::Check, name.span, message))
    }

    async fn role(&mut self, role: Role, body: &Block, span: Span) -> Outcome<Flow> {
        let own_fault = self.shared.plain || self.context.turn().is_some();
        let kind = if own_fault {
            ErrorKind::Check
        } else {
            ErrorKind::Capability
        };
        let backend = std::sync::Arc::clone(&self.shared.backend);
        self.context
            .open_turn(role, backend.as_ref())
            .map_err(|message| self.fault(kind, span, message))?;
        let flow = self.block(body, Names::Shared).await?;
        self.context.close_turn();
        Ok(flow)
    }

    /// A condition's value.
    pub(crate) async fn condition(&mut self, condition: &Expr) -> Outcome<bool> {
        match self.eval(condition).await? {
            Value::Bool(flag) => Ok(flag),
            other => {
                let message = format!(
                    "a condition must be a bool, this is {}",
                    value::kind(&other)
                );
                Err(self.no_value(condition.span, message))
            }
        }
    }

    /// A list's items.
    pub(crate) async fn items(&mut self, list: &Expr) -> Outcome<Vec<Value>> {
        match self.eval(list).await? {
            Value::Array(items) => Ok(items),
            other => {
                let message = format!("a list is needed here, this is {}", value::kind(&other));
                Err(self.no_value(list.span, message))
            }
        }
    }

    async fn for_each(&mut self, name: &Name, list: &Expr, body: &Block) -> Outcome<Flow> {
        for item in self.items(list).await? {
            let depth = self.scope.depth();
            self.scope.enter();
            self.scope.bind(&name.text, item, false);
            let flow = self.block(body, Names::Own).await?;
            self.scope.leave_to(depth);
            match flow {
                Flow::Next | Flow::Continue => {}
                Flow::Break => break,
                other => return Ok(other),
            }
        }
        Ok(Flow::Next)
    }

    async fn repeat(&mut self, max: &Expr, body: &Block) -> Outcome<Flow> {
        let n_turns = self.eval(max).await?;
        let Some(n_turns) = n_turns.as_u64() else {
            let message = format!(
                "`loop max` needs a whole number, this is {}",
                value::brief(&n_turns)
            );
            return Err(self.no_value(max.span, message));
        };
        for _ in 0..n_turns {
            self.step(max.span).await?;
            match self.block(body, Names::Own).await? {
                Flow::Next | Flow::Continue => {}
                Flow::Break => break,
                other => return Ok(other),
            }
        }
        Ok(Flow::Next)
    }

    async fn match_arms(&mut self, subject: &Expr, arms: &[Arm], span: Span) -> Outcome<Flow> {
        let subject = self.eval(subject).await?;
        let program = std::sync::Arc::clone(&self.shared.program);
        for arm in arms {
            let name = match &arm.pattern.kind {
                PatternKind::Literal(literal) => {
                    value::equal(&literal_value(literal), &subject).then_some(None)
                }
                PatternKind::Type(name, bound) => {
                    let ty = lmrun_lang::ast::Type {
                        kind: lmrun_lang::ast::TypeKind::Named(name.clone(), None),
                        span: name.span,
                    };
                    conform(&program, &ty, &subject)
                        .is_ok()
                        .then_some(bound.as_ref())
                }
                PatternKind::Else => Some(None),
            };
            let Some(name) = name else { continue };
            let depth = self.scope.depth();
            self.scope.enter();
            if let Some(name) = name {
                self.scope.bind(&name.text, subject, false);
            }
            let flow = self.block(&arm.body, Names::Own).await?;
            self.scope.leave_to(depth);
            return Ok(flow);
        }
        Err(self.no_value(span, format!("no arm matches {}", value::brief(&subject))))
    }

    async fn attempt(&mut self, stmt: &Stmt) -> Outcome<Flow> {
        let StmtKind::Attempt {
            tries,
            body,
            retry,
            otherwise,
        } = &stmt.kind
        else {
            unreachable!("called for attempts alone")
        };
        let (context, names) = (self.context.clone(), self.scope.snapshot());
        let (turn, nesting) = (self.context.turn(), self.nesting());
        let mut last = None;
        for n_try in 1..=u32::try_from(*tries).unwrap_or(0) {
            let error = match self.block(body, Names::Shared).await {
                Ok(flow) => return Ok(flow),
                Err(error) if may_retry(error.kind) => error,
                Err(error) => return Err(error),
            };
            self.set_nesting(nesting);
            self.tell(|branch| Event::Retry {
                branch,
                span: Place(stmt.span),
                failed: n_try,
                error: RunError::clone(&error),
            });
            match retry {
                None => {
                    self.context = context.clone();
                    self.scope.restore(names.clone());
                }
                Some((name, block)) => {
                    self.context.set_turn(turn);
                    self.scope.leave_to(names.len());
                    if i64::from(n_try) < *tries {
                        self.scope.enter();
                        let feedback = json!({ "message": error.message, "kind": error.kind });
                        self.scope.bind(&name.text, feedback, false);
                        let flow = self.block(block, Names::Own).await?;
                        self.scope.leave_to(names.len());
                        if flow != Flow::Next {
                            return Ok(flow);
                        }
                    }
                }
            }
            last = Some(error);
        }
        match (otherwise, last) {
            (Some(block), _) => self.block(block, Names::Own).await,
            (None, Some(error)) => Err(error),
            (None, None) => Ok(Flow::Next),
        }
    }

    async fn assert(
        &mut self,
        condition: &Expr,
        message: Option<&Template>,
        span: Span,
    ) -> Outcome<()> {
        if self.condition(condition).await? {
            return Ok(());
        }
        let message = match message {
            Some(message) => self.template(message).await?,
            None => {
                let source = &self.shared.program.source;
                let text = source
                    .get(condition.span.start..condition.span.end)
                    .unwrap_or_default();
                format!("does not hold: {text}")
            }
        };
        Err(self.fault(ErrorKind::Assert, span, message))
    }

    /// Runs an expression in statement position: in a turn, or anywhere in plain text, what it comes to is appended.
    async fn emit(&mut self, expr: &Expr) -> Outcome<()> {
        if let ExprKind::Template(template) = &expr.kind {
            if !self.context.takes_text() {
                let message = "text stands outside a turn: put it under a role";
                return Err(self.fault(ErrorKind::Check, expr.span, message));
            }
            for part in &template.parts {
                match part {
                    TemplatePart::Text(text, span) => self.append(text, *span)?,
                    TemplatePart::Hole(hole) => {
                        let value = self.eval(hole).await?;
                        if !self.appends_itself(hole) {
                            self.append(&value::text(&value), hole.span)?;
                        }
                    }
                }
            }
            return Ok(());
        }
        let value = self.eval(expr).await?;
        if self.context.takes_text() && !self.appends_itself(expr) && !value.is_null() {
            self.append(&value::text(&value), expr.span)?;
        }
        Ok(())
    }

    /// Whether running the expression already put into the context what belongs there.
    fn appends_itself(&self, expr: &Expr) -> bool {
        match &expr.kind {
            ExprKind::Gen(_) | ExprKind::Select(_) | ExprKind::Fork(_) | ExprKind::Best(_) => true,
            ExprKind::Call { callee, .. } => self.shared.program.part(&callee.text).is_some(),
            _ => false,
        }
    }

    fn append(&mut self, text: &str, span: Span) -> Outcome<()> {
        self.charge(span, text.len())?;
        self.context.push_text(text);
        let (given, limit) = (
            self.context.n_pending_bytes(),
            self.shared.options.limits.value_bytes,
        );
        if given > limit {
            let message = format!("{given} bytes of text in a row; the limit is {limit}");
            return Err(self.fault(ErrorKind::Budget, span, message));
        }
        Ok(())
    }
}

/// What a new try may mend: the program's own verdict on what was generated.
fn may_retry(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::Assert | ErrorKind::Generation | ErrorKind::Value
    )
}

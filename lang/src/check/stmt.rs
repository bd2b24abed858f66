//! Statements: order, paths, names.

use crate::Diagnostic;
use crate::ast::*;

use super::scope::{BindingKind, Layer};
use super::ty::{Ty, kinds, same};
use super::{Branch, Checker, Home, suggest, values};

impl<'p> Checker<'p, '_> {
    /// A block with names of its own.
    pub(super) fn block(&mut self, block: &'p Block) {
        self.scopes.enter_block();
        self.statements(block);
        self.scopes.leave_block();
    }

    /// A block whose names are those of what stands around it.
    pub(super) fn statements(&mut self, block: &'p Block) {
        let was_dead = self.scopes.is_dead();
        let mut warned = was_dead;
        for (idx, stmt) in block.stmts.iter().enumerate() {
            if self.scopes.is_dead() && !warned {
                warned = true;
                let found = Diagnostic::new("W202", stmt.span, "this statement is never reached");
                self.report(found.help(
                    "what stands before it returns, fails, yields or leaves the loop on every path",
                ));
            }
            if let Some(next) = block.stmts.get(idx + 1)
                && self.bare_words(stmt, next)
            {
                return;
            }
            self.statement(stmt);
        }
    }

    /// `user Hello there`: two names in a row on a line are text without its quotes.
    fn bare_words(&mut self, stmt: &'p Stmt, next: &'p Stmt) -> bool {
        let word = |stmt: &'p Stmt| match &stmt.kind {
            StmtKind::Expr(Expr {
                kind: ExprKind::Name(_),
                ..
            }) => true,
            StmtKind::Role { body, .. } => match body.stmts.as_slice() {
                [
                    Stmt {
                        kind: StmtKind::Expr(expr),
                        ..
                    },
                ] => match &expr.kind {
                    ExprKind::Template(template) => match template.parts.as_slice() {
                        [TemplatePart::Hole(hole)] => {
                            hole.span == expr.span && matches!(hole.kind, ExprKind::Name(_))
                        }
                        _ => false,
                    },
                    _ => false,
                },
                _ => false,
            },
            _ => false,
        };
        let same_line = !self.source[stmt.span.start..next.span.start].contains('\n');
        let follows = matches!(
            next.kind,
            StmtKind::Expr(Expr {
                kind: ExprKind::Name(_),
                ..
            })
        );
        if !(same_line && follows && word(stmt)) {
            return false;
        }
        let end = self.source[next.span.start..]
            .find('\n')
            .map_or(self.source.len(), |at| next.span.start + at);
        let span = Span {
            start: stmt.span.start,
            end,
        };
        let found = Diagnostic::new("E014", span, "text has to stand in quotes");
        self.report(found.help("write `\"..\"` around the text; names in it are `${name}`"));
        true
    }

    fn statement(&mut self, stmt: &'p Stmt) {
        match &stmt.kind {
            StmtKind::Let {
                mutable,
                name,
                ty,
                value,
            } => self.let_stmt(*mutable, name, ty.as_ref(), value),
            StmtKind::Role { role, body } => self.role(*role, body, stmt.span),
            StmtKind::If {
                condition,
                then,
                otherwise,
            } => self.if_stmt(condition, then, otherwise.as_ref()),
            StmtKind::For { name, list, body } => self.for_stmt(name, list, body),
            StmtKind::Loop { max, body } => self.loop_stmt(max, body),
            StmtKind::Match { subject, arms } => self.match_stmt(subject, arms, stmt.span),
            StmtKind::Attempt {
                tries,
                body,
                retry,
                otherwise,
            } => {
                self.attempt(*tries, body, retry.as_ref(), otherwise.as_ref(), stmt.span);
            }
            StmtKind::Return(value) => self.return_stmt(value.as_ref(), stmt.span),
            StmtKind::Yield(value) => self.yield_stmt(value, stmt.span),
            StmtKind::Assert(condition, message) => {
                self.condition(condition);
                if let Some(message) = message {
                    self.value_template(message);
                }
            }
            StmtKind::Fail(value) => {
                self.infer(value);
                self.scopes.end_path();
            }
            StmtKind::Pin(_) => {}
            StmtKind::Break => {
                self.in_loop("break", stmt.span);
                self.scopes.note_break();
                self.scopes.end_path();
            }
            StmtKind::Continue => {
                self.in_loop("continue", stmt.span);
                self.scopes.note_break();
                self.scopes.end_path();
            }
            StmtKind::Assign { name, add, value } => self.assign(name, *add, value),
            StmtKind::Expr(expr) => self.emission(expr),
        }
    }

    fn if_stmt(&mut self, condition: &'p Expr, then: &'p Block, otherwise: Option<&'p Block>) {
        self.condition(condition);
        let mut alternatives = vec![self.alternative(|checker| checker.block(then))];
        alternatives.push(self.alternative(|checker| {
            otherwise.into_iter().for_each(|block| checker.block(block));
        }));
        self.scopes.merge(&alternatives);
    }

    fn for_stmt(&mut self, name: &'p Name, list: &'p Expr, body: &'p Block) {
        let given = self.infer(list);
        let element = self.element(&given, list.span);
        self.scopes.enter_loop();
        self.scopes.enter_block();
        self.bind(name, BindingKind::Local, element);
        self.block(body);
        self.scopes.leave_block();
        self.scopes
            .leave_loop(matches!(&list.kind, ExprKind::List(items) if !items.is_empty()));
    }

    /// One of several paths; what it changes.
    fn alternative(&mut self, path: impl FnOnce(&mut Self)) -> Layer {
        self.scopes.begin();
        path(self);
        self.scopes.end()
    }

    /// Binds a name; one of the same block or a generation of the branch may not have it.
    pub(super) fn bind(&mut self, name: &Name, kind: BindingKind, ty: Ty) {
        if let Some(earlier) = self.scopes.bind(&name.text, kind, ty, name.span) {
            let first = self.scopes.bindings[earlier].span;
            self.duplicate(&name.text, name.span, first);
        } else if self.inputs.contains_key(name.text.as_str()) && kind != BindingKind::Local {
            let first = self.inputs[name.text.as_str()].span;
            self.duplicate(&name.text, name.span, first);
        }
    }

    fn let_stmt(&mut self, mutable: bool, name: &'p Name, ty: Option<&'p Type>, value: &'p Expr) {
        let given = self.infer(value);
        let known = match ty {
            Some(ty) => {
                self.declared_type(ty);
                let wanted = Ty::of(ty, &self.types);
                self.expect(&given, &wanted, value.span, &format!("`{}`", name.text));
                wanted
            }
            // A variable may take other values later; only what a `let` is stays known.
            None if mutable => widen(given),
            None => given,
        };
        self.bind(
            name,
            if mutable {
                BindingKind::Var
            } else {
                BindingKind::Let
            },
            known,
        );
    }

    fn role(&mut self, role: Role, body: &'p Block, span: Span) {
        let word = Span {
            start: span.start,
            end: span.start + role_word(role).len(),
        };
        if self.is_plain {
            let message = format!(
                "`{}` in plain completion: the model has no roles here",
                role_word(role)
            );
            self.error(
                "E303",
                word,
                message,
                "remove the role, or `template=\"none\"` from the model",
            );
        } else if let Some(outer) = self.role {
            let message = format!(
                "`{}` inside `{}`: roles do not nest",
                role_word(role),
                role_word(outer)
            );
            self.error("E303", word, message, "end the outer role first");
        }
        let outer = self.role.replace(role);
        self.ends_in_space = false;
        self.statements(body);
        self.role = outer;
        self.ends_in_space = false;
    }

    fn loop_stmt(&mut self, max: &'p Expr, body: &'p Block) {
        let given = self.infer(max);
        self.need(
            &given,
            kinds::INT,
            max.span,
            "`loop max` takes a whole number",
        );
        let constant = values::constant(max).and_then(|value| value.as_i64());
        if constant.is_some_and(|max| max < 0) {
            self.error("E402", max.span, "`loop max` takes a number from 0", "");
        }
        self.scopes.enter_loop();
        self.block(body);
        self.scopes.leave_loop(constant.is_some_and(|max| max > 0));
    }

    fn match_stmt(&mut self, subject: &'p Expr, arms: &'p [Arm], span: Span) {
        let given = self.infer(subject);
        let members = self.judge().members(&given);
        let mut covered = vec![false; members.len()];
        let mut alternatives = Vec::new();
        let mut has_else = false;
        for arm in arms {
            let narrowed = self.pattern_of(arm, &given, &members, &mut covered, has_else);
            has_else |= matches!(arm.pattern.kind, PatternKind::Else);
            alternatives.push(self.alternative(|checker| {
                checker.scopes.enter_block();
                if let PatternKind::Type(_, Some(name)) = &arm.pattern.kind {
                    checker.bind(name, BindingKind::Local, narrowed);
                }
                checker.block(&arm.body);
                checker.scopes.leave_block();
            }));
        }
        if !has_else && let Some(missing) = covered.iter().position(|covered| !covered) {
            let word = Span {
                start: span.start,
                end: span.start + "match".len(),
            };
            let message = format!("this `match` has no arm for {}", members[missing]);
            self.error("E210", word, message, "add the arm, or `else => ..`");
        }
        self.scopes.merge(&alternatives);
    }

    /// Marks what a pattern covers; the type of what it binds.
    fn pattern_of(
        &mut self,
        arm: &'p Arm,
        given: &Ty,
        members: &[Ty],
        covered: &mut [bool],
        is_late: bool,
    ) -> Ty {
        let mut fresh = false;
        let mut narrowed: Option<Ty> = None;
        let mut possible = false;
        if let PatternKind::Type(name, _) = &arm.pattern.kind {
            let is_call = name.text == "call";
            if is_call {
                self.refuse("E902", name.span, "calls of tools");
            } else {
                let is_known = self.types.get(&name.text).is_some()
                    || super::items::BUILTIN_TYPES.contains(&name.text.as_str());
                self.mentioned.insert(name.text.clone());
                if !is_known {
                    self.undefined_type(name);
                    return Ty::Any;
                }
            }
        }
        for (member, covered) in members.iter().zip(covered.iter_mut()) {
            let (takes, may) = self.covers(&arm.pattern.kind, member);
            possible |= may;
            if takes {
                fresh |= !*covered;
                *covered = true;
                narrowed = Some(match narrowed {
                    Some(before) => before.or(member.clone()),
                    None => member.clone(),
                });
            } else {
                fresh |= may && !*covered;
            }
        }
        if is_late || !possible || !fresh {
            let message = if possible || matches!(arm.pattern.kind, PatternKind::Else) {
                "this arm is never taken: the ones above it cover everything it matches".to_owned()
            } else {
                format!("this arm is never taken: the value is {given}")
            };
            self.report(
                Diagnostic::new("W212", arm.pattern.span, message)
                    .help("remove it, or put it higher"),
            );
        }
        match (&arm.pattern.kind, narrowed) {
            (_, Some(narrowed)) => narrowed,
            (PatternKind::Type(name, _), None) => self.named(&name.text),
            _ => Ty::Any,
        }
    }

    fn named(&self, name: &str) -> Ty {
        match name {
            "string" => Ty::String,
            "int" => Ty::Int,
            "float" => Ty::Float,
            "bool" => Ty::Bool,
            "null" => Ty::Null,
            "json" => Ty::Any,
            other => Ty::Named(other.into()),
        }
    }

    /// Whether a pattern takes every value of a member, and whether it may take one.
    fn covers(&self, pattern: &PatternKind, member: &Ty) -> (bool, bool) {
        match pattern {
            PatternKind::Else => (true, true),
            PatternKind::Literal(literal) => match member {
                Ty::Literal(own) => (same(own, literal), same(own, literal)),
                Ty::Null => (
                    matches!(literal, Literal::Null),
                    matches!(literal, Literal::Null),
                ),
                _ => (
                    false,
                    self.judge().fits(&Ty::Literal(literal.clone()), member),
                ),
            },
            PatternKind::Type(name, _) if name.text == "call" => (*member == Ty::Any, true),
            PatternKind::Type(name, _) => {
                let named = self.named(&name.text);
                if *member == Ty::Any {
                    return (named == Ty::Any, true);
                }
                let judge = self.judge();
                let may = judge.fits(member, &named);
                let whole = match (&named, member) {
                    (Ty::Named(a), Ty::Named(b)) if a == b => true,
                    (Ty::Any, _) => true,
                    // Bounds and patterns are not compared: only the plain types take a whole kind.
                    (Ty::String | Ty::Int | Ty::Float | Ty::Bool | Ty::Null, _) => may,
                    (Ty::Named(_), Ty::Literal(own)) => judge
                        .members(&named)
                        .iter()
                        .any(|member| matches!(member, Ty::Literal(other) if same(own, other))),
                    _ => judge.members(&named).contains(member),
                };
                (whole, may)
            }
        }
    }

    fn attempt(
        &mut self,
        tries: i64,
        body: &'p Block,
        retry: Option<&'p (Name, Block)>,
        otherwise: Option<&'p Block>,
        span: Span,
    ) {
        if !(1..=100).contains(&tries) {
            let word = Span {
                start: span.start,
                end: span.start + "attempt".len(),
            };
            self.error(
                "E402",
                word,
                format!("`attempt` takes 1 to 100 tries, given {tries}"),
                "",
            );
        }
        let tried = self.alternative(|checker| checker.statements(body));
        if let Some((name, block)) = retry {
            // Runs between two tries: what it assigns is not there after the first.
            self.alternative(|checker| {
                checker.scopes.enter_block();
                let error = Ty::Map(std::rc::Rc::new(Ty::String));
                checker.bind(name, BindingKind::Local, error);
                checker.block(block);
                checker.scopes.leave_block();
            });
        }
        let mut alternatives = vec![tried];
        if let Some(block) = otherwise {
            alternatives.push(self.alternative(|checker| checker.block(block)));
        }
        self.scopes.merge(&alternatives);
    }

    fn return_stmt(&mut self, value: Option<&'p Expr>, span: Span) {
        let given = value.map_or(Ty::Null, |value| self.infer(value));
        let place = value.map_or(span, |value| value.span);
        if let Some(branch) = self.branches.last() {
            let message = match branch {
                Branch::Fork => "`return` in a branch of a `fork`: a branch ends with `yield`",
                Branch::Best => "`return` in a branch of `best`: the other branches would be lost",
            };
            self.error(
                "E309",
                span,
                message,
                "return what the branches came to after them",
            );
        }
        match self.home {
            Home::Part(part) if value.is_some() => {
                let message = format!(
                    "`{}` is a part: it appends, and returns no value",
                    part.name.text
                );
                self.error(
                    "E309",
                    span,
                    message,
                    "make it a `fn`, or leave the value out",
                );
            }
            Home::Fn(callable) => {
                if let Some(ret) = &callable.ret {
                    let wanted = Ty::of(ret, &self.types);
                    self.expect(
                        &given,
                        &wanted,
                        place,
                        &format!("the result of `{}`", callable.name.text),
                    );
                }
            }
            _ => {}
        }
        self.scopes.end_path();
    }

    fn yield_stmt(&mut self, value: &'p Expr, span: Span) {
        let given = self.infer(value);
        match self.yields.last_mut() {
            Some(yields) => {
                *yields = Some(match yields.take() {
                    Some(before) => before.or(given),
                    None => given,
                });
            }
            None => {
                let help = "`yield` gives a branch's value; elsewhere use `return`";
                self.error(
                    "E308",
                    span,
                    "`yield` outside a branch of `fork` or `best`",
                    help,
                );
            }
        }
        self.scopes.end_path();
    }

    fn in_loop(&mut self, word: &str, span: Span) {
        if !self.scopes.in_loop() {
            let message = format!("`{word}` outside a loop");
            self.error(
                "E307",
                span,
                message,
                "it belongs in a `for` or a `loop`; a branch cannot leave a loop around it",
            );
        }
    }

    fn assign(&mut self, name: &'p Name, add: bool, value: &'p Expr) {
        let given = self.infer(value);
        let Some(id) = self.scopes.find(&name.text) else {
            return self.assign_unknown(name);
        };
        let (kind, branch, known) = {
            let binding = &mut self.scopes.bindings[id];
            binding.is_used |= add;
            (binding.kind, binding.branch, binding.ty.clone())
        };
        if kind != BindingKind::Var {
            let what = match kind {
                BindingKind::Gen | BindingKind::Select => "a generation",
                BindingKind::Param => "a parameter",
                _ => "not a `var`",
            };
            let message = format!("`{}` cannot be assigned: it is {what}", name.text);
            self.error("E306", name.span, message, "declare it with `var`");
        } else if branch < self.scopes.branch() {
            let message = format!(
                "`{}` stands outside the branch and is read-only in it",
                name.text
            );
            let help = "branches run at the same time: `yield` the value and put the results together afterwards";
            self.error("E305", name.span, message, help);
        } else if add {
            let span = Span {
                start: name.span.start,
                end: value.span.end,
            };
            self.addition(&known, &given, span);
        } else {
            self.expect(&given, &known, value.span, &format!("`{}`", name.text));
        }
    }

    fn assign_unknown(&mut self, name: &'p Name) {
        if self.lost.contains(name.text.as_str()) {
            return;
        }
        if let Some(input) = self.inputs.get_mut(name.text.as_str()) {
            input.is_used = true;
            let message = format!("`{}` cannot be assigned: it is an input", name.text);
            self.error("E306", name.span, message, "copy it into a `var`");
            return;
        }
        let help = suggest::help(&name.text, self.scopes.names());
        let help = help.unwrap_or_else(|| format!("declare it first: `var {} = ..`", name.text));
        self.error(
            "E101",
            name.span,
            format!("there is no variable `{}`", name.text),
            &help,
        );
    }
}

/// A variable's type from its first value: `0` may become any number, `""` any string, `[]` any list.
fn widen(ty: Ty) -> Ty {
    match ty {
        Ty::Literal(Literal::String(_)) => Ty::String,
        Ty::Literal(Literal::Bool(_)) => Ty::Bool,
        Ty::Literal(Literal::Number(_) | Literal::Duration(_)) | Ty::Int => Ty::Float,
        Ty::String | Ty::Float | Ty::Bool => ty,
        _ => Ty::Any,
    }
}

/// A role's keyword.
pub(super) fn role_word(role: Role) -> &'static str {
    match role {
        Role::System => "system",
        Role::User => "user",
        Role::Assistant => "assistant",
        Role::Observe => "observe",
    }
}

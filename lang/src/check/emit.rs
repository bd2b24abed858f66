//! What appends to the conversation, and where it may stand.
//!
//! One rule: inside a role a string, `gen`, `select` or part call in statement position appends. Plain completion
//! (`template="none"`) appends anywhere; a part appends to whatever its caller is in.

use std::rc::Rc;

use serde_json::Value;

use crate::Diagnostic;
use crate::ast::*;
use crate::options::Place;

use super::scope::BindingKind;
use super::stmt::role_word;
use super::ty::{Ty, kinds};
use super::{Branch, Checker, Home, values};

impl<'p> Checker<'p, '_> {
    /// Whether text may be appended here.
    fn takes_text(&self) -> bool {
        self.role.is_some() || self.is_plain || matches!(self.home, Home::Part(_))
    }

    /// An expression in statement position.
    pub(super) fn emission(&mut self, expr: &'p Expr) {
        match &expr.kind {
            ExprKind::Template(template) => {
                if !self.takes_text() {
                    let help = "put it under a role: `user \"..\"`, or use `model \"..\" with (template=\"none\")`";
                    self.error("E301", expr.span, "this text stands outside a role", help);
                }
                self.emitted_template(template);
            }
            ExprKind::Gen(_) | ExprKind::Select(_) => self.generation_statement(expr),
            ExprKind::Call {
                callee,
                args,
                named,
            } => {
                self.call(callee, args, named, expr.span, true);
                let is_part = self.parts.contains_key(callee.text.as_str());
                let is_fn = self.callables.contains_key(callee.text.as_str());
                let is_library = crate::library::find(&callee.text).is_some();
                if !is_part && (is_library || (is_fn && self.takes_text())) {
                    self.no_effect(expr);
                }
            }
            ExprKind::Fork(_) | ExprKind::Best(_) => drop(self.infer(expr)),
            _ => {
                self.infer(expr);
                self.no_effect(expr);
            }
        }
    }

    fn no_effect(&mut self, expr: &'p Expr) {
        let text = self.text(expr.span);
        let help = if self.takes_text() && text.len() <= 60 && !text.contains(['\n', '"']) {
            format!("only strings, `gen`, `select` and parts append: write \"${{{text}}}\"")
        } else {
            "bind it with `let`, or remove it".to_owned()
        };
        self.error("E304", expr.span, "this value is not used", &help);
    }

    fn emitted_template(&mut self, template: &'p Template) {
        self.template_texts(template);
        self.template_hints(template);
        for (idx, part) in template.parts.iter().enumerate() {
            match part {
                TemplatePart::Text(text, _) => self.ends_in_space = text.ends_with([' ', '\t']),
                TemplatePart::Hole(hole) => {
                    self.mid_word(template, idx, hole);
                    self.hole(hole);
                    self.ends_in_space = false;
                }
            }
        }
    }

    fn hole(&mut self, hole: &'p Expr) {
        match &hole.kind {
            ExprKind::Gen(_) | ExprKind::Select(_) => self.generation_statement(hole),
            ExprKind::Call {
                callee,
                args,
                named,
            } => {
                self.call(callee, args, named, hole.span, true);
            }
            ExprKind::Fork(_) | ExprKind::Best(_) => {
                self.infer(hole);
                let help = "write it before the string, as in `let results = fork ..`";
                self.error("E304", hole.span, "branches cannot stand in a string", help);
            }
            _ => drop(self.infer(hole)),
        }
    }

    /// A `gen` or `select` where it appends.
    fn generation_statement(&mut self, expr: &'p Expr) {
        let word = if matches!(expr.kind, ExprKind::Gen(_)) {
            "gen"
        } else {
            "select"
        };
        match self.role {
            Some(Role::Assistant) => {}
            Some(role) => {
                let message = format!(
                    "`{word}` under `{}`: the model speaks under `assistant`",
                    role_word(role)
                );
                self.error("E302", expr.span, message, "put it under `assistant`");
            }
            None if self.takes_text() => {}
            None => {
                let help = format!(
                    "write `assistant {word}(..)`, or use `model \"..\" with (template=\"none\")`"
                );
                self.error(
                    "E301",
                    expr.span,
                    format!("this `{word}` stands outside a role"),
                    &help,
                );
            }
        }
        if self.ends_in_space && (self.heal_off || heals_not(expr)) {
            let found = Diagnostic::new(
                "W204",
                expr.span,
                format!("the text before this `{word}` ends with a space"),
            );
            self.report(found.help(
                "tokens mostly begin with their space: end the text before it, or leave `heal` at \"auto\"",
            ));
        }
        self.ends_in_space = false;
        self.generation(expr);
    }

    /// What a `gen` or `select` holds and binds; its value's type.
    pub(super) fn generation(&mut self, expr: &'p Expr) -> Ty {
        match &expr.kind {
            ExprKind::Gen(generation) => self.gen_parts(generation, expr.span),
            ExprKind::Select(select) => self.select_parts(select),
            _ => Ty::Any,
        }
    }

    fn gen_parts(&mut self, generation: &'p Gen, span: Span) -> Ty {
        if generation.ty.is_none()
            && generation.name.is_none()
            && let Some(option) = generation.options.first()
            && crate::options::options_of(Place::Gen)
                .iter()
                .all(|spec| spec.name != option.name.text)
        {
            self.given_by_equals(option);
        }
        self.options(Place::Gen, &generation.options);
        let ty = match &generation.ty {
            Some(ty) => {
                self.declared_type(ty);
                self.unbounded(generation, ty);
                self.want_shown(ty, span);
                Ty::of(ty, &self.types)
            }
            None => Ty::String,
        };
        if let Some(name) = &generation.name {
            self.bind_generation(name, BindingKind::Gen, ty.clone());
        }
        ty
    }

    /// `gen(year = /../)`.
    fn given_by_equals(&mut self, option: &'p Opt) {
        let name = &option.name.text;
        let found = Diagnostic::new(
            "E009",
            option.name.span,
            "a generation's type is given with `:`, not with `=`",
        );
        self.report(found.help(format!(
            "write `gen({name}: {})`",
            self.text(option.value.span)
        )));
    }

    fn select_parts(&mut self, select: &'p Select) -> Ty {
        let given = self.infer(&select.choices);
        self.options(Place::Select, &select.options);
        let element = self.element(&given, select.choices.span);
        let plain = kinds::STRING | kinds::NUMBER | kinds::BOOL;
        if self.judge().kinds(&element) & plain == 0 {
            let message =
                format!("the options of a `select` are texts or numbers, these are {element}");
            self.error(
                "E213",
                select.choices.span,
                message,
                "give the texts, and look the rest up afterwards",
            );
        }
        if let ExprKind::List(items) = &select.choices.kind {
            self.choices(items, select.choices.span);
        }
        let ty = match &select.choices.kind {
            ExprKind::List(items) => {
                let members: Option<Vec<Ty>> = items.iter().map(choice_ty).collect();
                members
                    .filter(|members| members.len() > 1)
                    .map_or(element, |members| Ty::Union(Rc::new(members)))
            }
            _ => element,
        };
        if let Some(name) = &select.name {
            self.bind_generation(name, BindingKind::Select, ty.clone());
        }
        ty
    }

    fn choices(&mut self, items: &'p [Expr], span: Span) {
        if items.is_empty() {
            self.error(
                "E212",
                span,
                "a `select` without options admits nothing",
                "give it one or more",
            );
        }
        let mut texts: Vec<(String, Span)> = Vec::new();
        for item in items {
            let text = match values::constant(item) {
                Some(Value::String(text)) => text,
                Some(other) => other.to_string(),
                None => continue,
            };
            if text.is_empty() {
                self.error(
                    "E212",
                    item.span,
                    "this option is empty",
                    "an option has a text of its own",
                );
                continue;
            }
            texts.push((text, item.span));
        }
        texts.sort_by(|(a, at), (b, other)| (a, at.start).cmp(&(b, other.start)));
        for pair in texts.windows(2) {
            let ((a, _), (b, place)) = (&pair[0], &pair[1]);
            if a == b {
                self.error(
                    "E212",
                    *place,
                    format!("the option \"{b}\" is given twice"),
                    "remove one",
                );
            } else if b.starts_with(a.as_str()) {
                let found = Diagnostic::new(
                    "W210",
                    *place,
                    format!("the option \"{a}\" is the beginning of \"{b}\""),
                );
                self.report(found.help("the shorter is favoured where the turn does not end after it: make them differ earlier"));
            }
        }
    }

    fn bind_generation(&mut self, name: &'p Name, kind: BindingKind, ty: Ty) {
        if let Some(id) = self.scopes.find_in_branch(&name.text) {
            let first = self.scopes.bindings[id].span;
            self.duplicate(&name.text, name.span, first);
            return;
        }
        if let Some(input) = self.inputs.get(name.text.as_str()) {
            let first = input.span;
            self.duplicate(&name.text, name.span, first);
            return;
        }
        let again = self.scopes.bind_generation(&name.text, kind, ty, name.span);
        if let Some((id, true)) = again
            && !self.scopes.in_loop()
        {
            let first = self.scopes.bindings[id].span;
            let line = 1 + self.source[..first.start].matches('\n').count();
            let message = format!(
                "`{}` is already generated on this path, in line {line}",
                name.text
            );
            let found = Diagnostic::new("E110", name.span, message).label("would overwrite it");
            self.report(found.help("give each generation a name of its own"));
        }
    }

    /// A part called where it may append: what it does has to fit the place.
    pub(super) fn part_call(&mut self, callee: &'p Name) {
        let summary = self
            .parts
            .get(callee.text.as_str())
            .copied()
            .unwrap_or_default();
        let name = &callee.text;
        if summary.roles
            && let Some(role) = self.role
        {
            let message = format!(
                "`{name}` opens roles and is called inside `{}`",
                role_word(role)
            );
            self.error("E303", callee.span, message, "call it outside the role");
        } else if summary.generates
            && let Some(role) = self.role.filter(|role| *role != Role::Assistant)
        {
            let message = format!(
                "`{name}` generates and is called under `{}`",
                role_word(role)
            );
            self.error("E302", callee.span, message, "call it under `assistant`");
        } else if (summary.text || summary.generates) && !self.takes_text() {
            let message = format!("`{name}` appends text and is called outside a role");
            self.error(
                "E301",
                callee.span,
                message,
                "call it under a role, or give the part roles of its own",
            );
        }
        self.ends_in_space = false;
    }

    pub(super) fn fork(&mut self, fork: &'p Fork) -> Ty {
        let over = self.infer(&fork.over);
        let item = match &fork.name {
            Some(_) if self.judge().kinds(&over) & kinds::INT == 0 => {
                self.element(&over, fork.over.span)
            }
            Some(_) => match over {
                Ty::Any => Ty::Any,
                _ => Ty::Int,
            },
            None => {
                self.need(
                    &over,
                    kinds::INT | kinds::LIST,
                    fork.over.span,
                    "`fork` takes a number or a list",
                );
                Ty::Any
            }
        };
        self.options(Place::Fork, &fork.options);
        self.branch_count(&fork.over);
        self.fork_hints(fork);
        let yields = self.branch(Branch::Fork, |checker| {
            if let Some(name) = &fork.name {
                checker.bind(name, BindingKind::Local, item);
            }
            checker.statements(&fork.body);
            if !checker.scopes.is_dead() && checker.yields.last().is_some_and(Option::is_some) {
                let last = checker.yields.last_mut().expect("a branch is open");
                *last = last.take().map(|ty| ty.or(Ty::Null));
            }
        });
        let fails_to_null = fork
            .options
            .iter()
            .any(|option| option.name.text == "on_error");
        let element = yields.unwrap_or(Ty::Null);
        Ty::list(if fails_to_null {
            element.or(Ty::Null)
        } else {
            element
        })
    }

    pub(super) fn best(&mut self, best: &'p Best) -> Ty {
        let n = self.infer(&best.n);
        self.need(&n, kinds::INT, best.n.span, "`best` takes a whole number");
        self.options(Place::Best, &best.options);
        self.branch_count(&best.n);
        let yields = self.branch(Branch::Best, |checker| {
            checker.statements(&best.body);
            let score = checker.infer(&best.by);
            checker.need(&score, kinds::NUMBER, best.by.span, "a score is a number");
        });
        yields.unwrap_or(Ty::Null)
    }

    fn branch_count(&mut self, n: &'p Expr) {
        if let Some(Value::Number(n_branches)) = values::constant(n)
            && n_branches.as_i64().is_none_or(|n| n < 1)
        {
            let message = format!("{n_branches} branches: there has to be one at least");
            self.error("E402", n.span, message, "");
        }
    }
}

/// The type of a constant option.
fn choice_ty(item: &Expr) -> Option<Ty> {
    let literal = match values::constant(item)? {
        Value::String(text) => Literal::String(text),
        Value::Bool(value) => Literal::Bool(value),
        Value::Number(number) => Literal::Number(match number.as_i64() {
            Some(value) => Number::Int(value),
            None => Number::Float(number.as_f64()?),
        }),
        _ => return None,
    };
    Some(Ty::Literal(literal))
}

fn heals_not(expr: &Expr) -> bool {
    let options = match &expr.kind {
        ExprKind::Gen(generation) => &generation.options,
        ExprKind::Select(select) => &select.options,
        _ => return false,
    };
    options.iter().any(|option| {
        option.name.text == "heal"
            && values::constant(&option.value).is_some_and(|heal| heal == "off")
    })
}

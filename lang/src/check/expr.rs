//! Expressions: what they can be, and what is certainly wrong with them.

use std::rc::Rc;

use crate::Diagnostic;
use crate::ast::*;

use super::scope::{BindingId, BindingKind};
use super::ty::{FieldTy, Ty, kinds};
use super::{Branch, Checker, suggest, values};

impl<'p> Checker<'p, '_> {
    /// The type of a value. A generation is none: it stands where it appends.
    pub(super) fn infer(&mut self, expr: &'p Expr) -> Ty {
        match &expr.kind {
            ExprKind::Literal(Literal::Null) => Ty::Null,
            ExprKind::Literal(Literal::Duration(_)) => Ty::Int,
            ExprKind::Literal(literal) => Ty::Literal(literal.clone()),
            ExprKind::Template(template) => {
                self.value_template(template);
                match template.parts.as_slice() {
                    [] => Ty::Literal(Literal::String(String::new())),
                    [TemplatePart::Text(text, _)] if text.len() <= 256 => {
                        Ty::Literal(Literal::String(text.clone()))
                    }
                    _ => Ty::String,
                }
            }
            ExprKind::Regex(pattern) => {
                self.pattern(pattern, expr.span);
                let help = "a regex stands to the right of `matches`, or as a type";
                self.error("E107", expr.span, "a regex is no value", help);
                Ty::Any
            }
            ExprKind::List(items) => self.list(items),
            ExprKind::Map(entries) => self.map(entries),
            ExprKind::Name(name) => self.name(name, expr.span),
            ExprKind::Call {
                callee,
                args,
                named,
            } => self.call(callee, args, named, expr.span, false),
            ExprKind::Member(base, name) => self.member(base, name),
            ExprKind::Index(base, index) => self.index(base, index),
            ExprKind::Unary(op, inner) => self.unary(*op, inner),
            ExprKind::Binary(op, left, right) => self.binary(*op, left, right, expr.span),
            ExprKind::Comprehension {
                element,
                name,
                list,
                condition,
            } => self.comprehension(element, name, list, condition.as_deref()),
            ExprKind::Gen(_) | ExprKind::Select(_) => self.misplaced_generation(expr),
            ExprKind::Fork(fork) => self.fork(fork),
            ExprKind::Best(best) => self.best(best),
        }
    }

    fn comprehension(
        &mut self,
        element: &'p Expr,
        name: &'p Name,
        list: &'p Expr,
        condition: Option<&'p Expr>,
    ) -> Ty {
        let given = self.infer(list);
        let item = self.element(&given, list.span);
        self.scopes.enter_block();
        self.bind(name, BindingKind::Local, item);
        if let Some(condition) = condition {
            self.condition(condition);
        }
        let element = self.infer(element);
        self.scopes.leave_block();
        Ty::list(element)
    }

    fn misplaced_generation(&mut self, expr: &'p Expr) -> Ty {
        let word = if matches!(expr.kind, ExprKind::Gen(_)) {
            "gen"
        } else {
            "select"
        };
        let message = format!("`{word}` is no value: it appends to the conversation");
        let help = format!(
            "give it a name and a place of its own, as in `assistant {word}(answer, ..)`, and use the name"
        );
        self.error("E311", expr.span, message, &help);
        self.generation(expr)
    }

    fn list(&mut self, items: &'p [Expr]) -> Ty {
        let mut element: Option<Ty> = None;
        for item in items {
            let given = self.infer(item);
            element = Some(match element {
                Some(Ty::Any) => Ty::Any,
                Some(before) => before.or(given),
                None => given,
            });
        }
        element.map_or(Ty::List(None), Ty::list)
    }

    fn map(&mut self, entries: &'p [(Name, Expr)]) -> Ty {
        let mut fields: Vec<FieldTy> = Vec::new();
        let mut seen = std::collections::HashMap::new();
        for (name, value) in entries {
            if let Some(first) = seen.insert(name.text.as_str(), name.span) {
                self.duplicate(&name.text, name.span, first);
            }
            let ty = self.infer(value);
            fields.push(FieldTy {
                name: name.text.clone(),
                optional: false,
                ty,
            });
        }
        Ty::Record(Rc::new(fields)).bounded()
    }

    /// A string in value position: its holes are values.
    pub(super) fn value_template(&mut self, template: &'p Template) {
        self.template_texts(template);
        for part in &template.parts {
            if let TemplatePart::Hole(hole) = part {
                self.infer(hole);
            }
        }
    }

    /// Looks a name up and marks it used.
    pub(super) fn lookup(&mut self, name: &str) -> Option<BindingId> {
        let id = self.scopes.find(name)?;
        self.scopes.bindings[id].is_used = true;
        Some(id)
    }

    fn name(&mut self, name: &'p str, span: Span) -> Ty {
        if let Some(id) = self.lookup(name) {
            let binding = &self.scopes.bindings[id];
            let (kind, ty) = (binding.kind, binding.ty.clone());
            if matches!(kind, BindingKind::Gen | BindingKind::Select)
                && self.scopes.status(id) != Some(true)
            {
                let message = format!("`{name}` may not have been generated here");
                let found = Diagnostic::new("E111", span, message).label("unassigned on some path");
                self.report(
                    found
                        .help("generate it on every path to here, or use it where it is generated"),
                );
            }
            return ty;
        }
        if let Some(input) = self.inputs.get_mut(name) {
            input.is_used = true;
            let ty = input.ty;
            return Ty::of(ty, &self.types);
        }
        self.no_value(name, span);
        Ty::Any
    }

    fn no_value(&mut self, name: &'p str, span: Span) {
        if self.lost.contains(name) || self.is_full() {
            return;
        }
        let what = if self.types.get(name).is_some() || super::items::BUILTIN_TYPES.contains(&name)
        {
            Some((
                "a type",
                format!("`format({name})` writes it out for a prompt"),
            ))
        } else if self.callables.contains_key(name) || crate::library::find(name).is_some() {
            Some(("a function", format!("call it: `{name}(..)`")))
        } else {
            None
        };
        if let Some((what, help)) = what {
            self.mentioned.insert(name.to_owned());
            self.error(
                "E107",
                span,
                format!("`{name}` is {what}, not a value"),
                &help,
            );
            return;
        }
        let names = self.scopes.names().chain(self.inputs.keys().copied());
        let help = suggest::help(name, names).unwrap_or_else(|| match self.home {
            super::Home::Top => "names come from `let`, `input`, `gen` and `select`".to_owned(),
            _ => "a `fn` or `part` sees its parameters, the inputs and its own names; give it the value".to_owned(),
        });
        self.error("E101", span, format!("there is no `{name}` here"), &help);
    }

    fn member(&mut self, base: &'p Expr, name: &'p Name) -> Ty {
        let given = self.infer(base);
        let members = self.judge().members(&given);
        let mut found: Option<Ty> = None;
        let mut fields: Vec<String> = Vec::new();
        for member in &members {
            let ty = match self.judge().resolve(member) {
                Ty::Any => Ty::Any,
                Ty::Map(inner) => (*inner).clone(),
                Ty::Record(own) => match own.iter().find(|field| field.name == name.text) {
                    Some(field) if field.optional => field.ty.clone().or(Ty::Null),
                    Some(field) => field.ty.clone(),
                    None => {
                        fields.extend(own.iter().map(|field| field.name.clone()));
                        continue;
                    }
                },
                _ => continue,
            };
            found = Some(match found {
                Some(before) => before.or(ty),
                None => ty,
            });
        }
        found.unwrap_or_else(|| {
            let help =
                suggest::help(&name.text, fields.iter().map(String::as_str)).unwrap_or_else(|| {
                    if fields.is_empty() {
                        "records and maps have members".to_owned()
                    } else {
                        format!("it has {}", fields.join(", "))
                    }
                });
            let message = format!("{given} has no member `{}`", name.text);
            self.error("E106", name.span, message, &help);
            Ty::Any
        })
    }

    fn index(&mut self, base: &'p Expr, index: &'p Expr) -> Ty {
        let given = self.infer(base);
        let by = self.infer(index);
        let (base_kinds, index_kinds) = (self.judge().kinds(&given), self.judge().kinds(&by));
        let by_number =
            base_kinds & (kinds::LIST | kinds::STRING) != 0 && index_kinds & kinds::INT != 0;
        let by_key = base_kinds & kinds::MAP != 0 && index_kinds & kinds::STRING != 0;
        if !by_number && !by_key {
            let message = format!("{given} cannot be indexed with {by}");
            self.error(
                "E208",
                index.span,
                message,
                "lists and strings take whole numbers, maps take strings",
            );
            return Ty::Any;
        }
        match self.judge().resolve(&given) {
            Ty::List(Some(element)) => (*element).clone(),
            Ty::Map(inner) => (*inner).clone(),
            Ty::String | Ty::Literal(_) => Ty::String,
            _ => Ty::Any,
        }
    }

    /// The elements' type of what has to be a list.
    pub(super) fn element(&mut self, given: &Ty, span: Span) -> Ty {
        if !self.need(given, kinds::LIST, span, "a list is needed here") {
            return Ty::Any;
        }
        let mut element: Option<Ty> = None;
        for member in self.judge().members(given) {
            let ty = match self.judge().resolve(&member) {
                Ty::List(Some(inner)) => (*inner).clone(),
                Ty::List(None) | Ty::Null => continue,
                _ => Ty::Any,
            };
            element = Some(match element {
                Some(before) => before.or(ty),
                None => ty,
            });
        }
        element.unwrap_or(Ty::Any)
    }

    fn unary(&mut self, op: UnaryOp, inner: &'p Expr) -> Ty {
        let given = self.infer(inner);
        match op {
            UnaryOp::Not => {
                self.need(&given, kinds::BOOL, inner.span, "`!` takes a bool");
                Ty::Bool
            }
            UnaryOp::Negate => {
                self.need(&given, kinds::NUMBER, inner.span, "`-` takes a number");
                match values::constant(inner) {
                    Some(serde_json::Value::Number(number)) => match number.as_i64() {
                        Some(value) => {
                            Ty::Literal(Literal::Number(Number::Int(value.wrapping_neg())))
                        }
                        None => Ty::Float,
                    },
                    _ => self.number_of(&given),
                }
            }
        }
    }

    /// The plain number type of a value that has to be a number.
    fn number_of(&self, given: &Ty) -> Ty {
        match self.judge().kinds(given) & kinds::NUMBER {
            kinds::INT => Ty::Int,
            kinds::FLOAT => Ty::Float,
            _ => Ty::Int.or(Ty::Float),
        }
    }

    fn binary(&mut self, op: BinaryOp, left: &'p Expr, right: &'p Expr, span: Span) -> Ty {
        if op == BinaryOp::Matches {
            return self.matches(left, right);
        }
        let (a, b) = (self.infer(left), self.infer(right));
        let (ka, kb) = (self.judge().kinds(&a), self.judge().kinds(&b));
        match op {
            BinaryOp::Coalesce => {
                let members = self.judge().members(&a);
                members
                    .into_iter()
                    .filter(|member| *member != Ty::Null)
                    .fold(b, |all, member| member.or(all))
            }
            BinaryOp::Or | BinaryOp::And => {
                self.need(&a, kinds::BOOL, left.span, "a condition is a bool");
                self.need(&b, kinds::BOOL, right.span, "a condition is a bool");
                Ty::Bool
            }
            BinaryOp::Equal | BinaryOp::NotEqual => {
                let judge = self.judge();
                if !judge.fits(&a, &b) && !judge.fits(&b, &a) {
                    let (verb, always) = if op == BinaryOp::Equal {
                        ("equal", "false")
                    } else {
                        ("equal", "true")
                    };
                    let message = format!("always {always}: {a} and {b} are never {verb}");
                    self.report(
                        Diagnostic::new("W205", span, message).help("compare values of one type"),
                    );
                }
                Ty::Bool
            }
            BinaryOp::Less | BinaryOp::LessEqual | BinaryOp::Greater | BinaryOp::GreaterEqual => {
                let ordered = (ka & kinds::NUMBER != 0 && kb & kinds::NUMBER != 0)
                    || ka & kb & kinds::STRING != 0;
                if !ordered {
                    let message = format!("{a} and {b} have no order");
                    self.error("E208", span, message, "compare two numbers or two strings");
                }
                Ty::Bool
            }
            BinaryOp::In => {
                let known = kb & kinds::LIST != 0
                    || (ka & kinds::STRING != 0 && kb & (kinds::MAP | kinds::STRING) != 0);
                if !known {
                    let help =
                        "`in` asks for an item of a list, a key of a map, or a part of a string";
                    self.error(
                        "E208",
                        span,
                        format!("`in` does not apply to {a} and {b}"),
                        help,
                    );
                }
                Ty::Bool
            }
            BinaryOp::Add => self.addition(&a, &b, span),
            _ => self.arithmetic(op, &a, &b, span),
        }
    }

    fn arithmetic(&mut self, op: BinaryOp, a: &Ty, b: &Ty, span: Span) -> Ty {
        let (ka, kb) = (self.judge().kinds(a), self.judge().kinds(b));
        if ka & kinds::NUMBER == 0 || kb & kinds::NUMBER == 0 {
            let message = format!("arithmetic does not apply to {a} and {b}");
            self.error(
                "E208",
                span,
                message,
                "`int(..)` and `float(..)` read numbers from text",
            );
            return Ty::Any;
        }
        if op == BinaryOp::Divide
            || ka & kinds::NUMBER == kinds::FLOAT
            || kb & kinds::NUMBER == kinds::FLOAT
        {
            return Ty::Float;
        }
        if ka & kinds::NUMBER == kinds::INT && kb & kinds::NUMBER == kinds::INT {
            Ty::Int
        } else {
            Ty::Int.or(Ty::Float)
        }
    }

    /// `a + b`: numbers, strings or lists.
    pub(super) fn addition(&mut self, a: &Ty, b: &Ty, span: Span) -> Ty {
        let (ka, kb) = (self.judge().kinds(a), self.judge().kinds(b));
        let (numbers, both) = (ka & kinds::NUMBER != 0 && kb & kinds::NUMBER != 0, ka & kb);
        if !numbers && both & (kinds::STRING | kinds::LIST) == 0 {
            let help = "`+` adds numbers and joins strings or lists; text with values is `\"..${value}..\"`";
            self.error(
                "E208",
                span,
                format!("`+` does not apply to {a} and {b}"),
                help,
            );
            return Ty::Any;
        }
        match (ka | kb, numbers) {
            (kinds::STRING, _) => Ty::String,
            (kinds::LIST, _) => match (self.judge().resolve(a), self.judge().resolve(b)) {
                (Ty::List(None), list) | (list, Ty::List(None)) => list,
                (Ty::List(Some(a)), Ty::List(Some(b))) => Ty::list((*a).clone().or((*b).clone())),
                _ => Ty::Any,
            },
            (_, true) => self.arithmetic(BinaryOp::Subtract, a, b, span),
            _ => Ty::Any,
        }
    }

    fn matches(&mut self, left: &'p Expr, right: &'p Expr) -> Ty {
        let given = self.infer(left);
        self.need(
            &given,
            kinds::STRING,
            left.span,
            "`matches` takes a string on its left",
        );
        if let ExprKind::Regex(pattern) = &right.kind {
            self.pattern(pattern, right.span);
        } else {
            let given = self.infer(right);
            self.error(
                "E208",
                right.span,
                format!("`matches` takes a regex on its right, given {given}"),
                "write `/../`",
            );
        }
        Ty::Bool
    }

    pub(super) fn condition(&mut self, expr: &'p Expr) {
        let given = self.infer(expr);
        self.need(&given, kinds::BOOL, expr.span, "a condition is a bool");
    }

    /// Requires one of some kinds; whether the value may be of one.
    pub(super) fn need(&mut self, given: &Ty, wanted: u8, span: Span, message: &str) -> bool {
        let fits = self.judge().kinds(given) & wanted != 0;
        if !fits {
            let help = match wanted {
                kinds::BOOL => "compare it: `x == y`, `len(xs) > 0`, `x != null`",
                kinds::LIST => "`range(n)` is the list of numbers below n; `keys(m)` a map's keys",
                _ => "",
            };
            self.error("E209", span, format!("{message}, this is {given}"), help);
        }
        fits
    }

    /// Requires a type.
    pub(super) fn expect(&mut self, given: &Ty, wanted: &Ty, span: Span, what: &str) {
        let judge = self.judge();
        if judge.fits(given, wanted) {
            return;
        }
        let detail = match (judge.resolve(given), judge.resolve(wanted)) {
            (Ty::Record(given), Ty::Record(wanted)) => judge.misfit(&given, &wanted),
            _ => None,
        };
        let message = match detail {
            Some(detail) => format!("{what} must be {wanted}: {detail}"),
            None => format!("{what} must be {wanted}, this is {given}"),
        };
        let found = Diagnostic::new("E201", span, message).label("of another type");
        self.report(found);
    }

    /// A branch's body with its own names, and what the branches yield.
    pub(super) fn branch(&mut self, kind: Branch, body: impl FnOnce(&mut Self)) -> Option<Ty> {
        let own = kind == Branch::Fork;
        let hidden = self.scopes.hide_loops();
        let spaced = self.ends_in_space;
        self.branches.push(kind);
        self.yields.push(None);
        self.scopes.enter_branch(own);
        self.scopes.begin();
        body(self);
        let mut layer = self.scopes.end();
        self.scopes.leave_branch(own);
        self.branches.pop();
        self.scopes.restore_loops(hidden);
        if kind == Branch::Best {
            // A branch that yields has ended, and the winner goes on after it.
            layer.is_dead = false;
            self.scopes.merge(&[layer]);
        } else {
            self.ends_in_space = spaced;
        }
        self.yields.pop().flatten()
    }
}

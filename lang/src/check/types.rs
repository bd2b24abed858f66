//! Declared types: names, bounds, constraints that can be honoured.

use std::collections::{HashMap, HashSet};

use super::Checker;
use super::items::BUILTIN_TYPES;
use crate::Diagnostic;
use crate::ast::*;
use crate::program::{MAX_TYPES, schema};

/// The most nodes of a type with its names written out: what a schema may grow to.
const MAX_NODES: usize = 20_000;

impl<'p> Checker<'p, '_> {
    /// Checks a type where it is written.
    pub(super) fn declared_type(&mut self, ty: &'p Type) {
        self.mention(ty);
        let before = self.out.len();
        self.type_form(ty);
        let clean = !self.out[before..].iter().any(Diagnostic::is_error);
        if clean && self.expanded(ty, &mut HashMap::new()) > MAX_NODES {
            let message = format!("written out, this type has more than {MAX_NODES} parts");
            self.error(
                "E207",
                ty.span,
                message,
                "its names mention each other too often: make it flatter",
            );
        }
    }

    /// Finds the types of which no value is finite: what is left when everything that can be finite is known to be.
    pub(super) fn find_endless(&mut self) {
        let file = self.file;
        let declared: Vec<(&'p Name, &'p Type)> = file
            .items
            .iter()
            .filter_map(|item| match &item.kind {
                ItemKind::Type { name, ty } => Some((name, ty)),
                _ => None,
            })
            .collect();
        if let Some((name, _)) = declared.get(MAX_TYPES) {
            let message = format!("more than {MAX_TYPES} types in one file");
            self.error(
                "E207",
                name.span,
                message,
                "write small types where they are used",
            );
            return;
        }
        let recursive = |name: &&Name| self.types.is_recursive(&name.text);
        let mut left: HashSet<&'p str> = declared
            .iter()
            .map(|(name, _)| *name)
            .filter(recursive)
            .map(|name| name.text.as_str())
            .collect();
        loop {
            let before = left.len();
            for (name, ty) in &declared {
                if left.contains(name.text.as_str()) && !is_endless(ty, &left) {
                    left.remove(name.text.as_str());
                }
            }
            if left.len() == before {
                break;
            }
        }
        self.endless = left;
    }

    fn type_form(&mut self, ty: &'p Type) {
        match &ty.kind {
            TypeKind::Named(name, bounds) => self.named_type(name, *bounds),
            TypeKind::Regex(pattern) => self.pattern(pattern, ty.span),
            TypeKind::Literal(_) => {}
            TypeKind::Record(fields) => self.fields(fields),
            TypeKind::Union(members) => {
                for (idx, member) in members.iter().enumerate() {
                    self.type_form(member);
                    if idx < 256
                        && members[..idx]
                            .iter()
                            .any(|other| same_literal(other, member))
                    {
                        let message =
                            format!("{} stands in this union twice", self.text(member.span));
                        self.error("E212", member.span, message, "remove one");
                    }
                }
            }
            TypeKind::List(inner, bounds) => {
                self.type_form(inner);
                self.length_bounds(*bounds);
            }
            TypeKind::Optional(inner) => self.type_form(inner),
            TypeKind::Call(_) => self.refuse("E902", ty.span, "calls of tools"),
            TypeKind::Schema(text) => self.schema(text, ty.span),
            TypeKind::Grammar(_) => self.refuse("E905", ty.span, "grammars"),
        }
    }

    fn named_type(&mut self, name: &Name, bounds: Option<Bounds>) {
        match (name.text.as_str(), bounds) {
            ("string", bounds) => self.length_bounds(bounds),
            ("int", bounds) => self.int_bounds(bounds),
            ("float", bounds) => self.order(bounds),
            (other, Some(bounds))
                if BUILTIN_TYPES.contains(&other) || self.types.get(other).is_some() =>
            {
                let message = format!("`{other}` takes no bounds");
                let help =
                    "string, int, float and lists do: `string(1..80)`, `int(0..9)`, `T[](..3)`";
                self.error("E204", bounds.span, message, help);
            }
            (other, _) if BUILTIN_TYPES.contains(&other) || self.types.get(other).is_some() => {}
            _ => self.undefined_type(name),
        }
    }

    fn fields(&mut self, fields: &'p [Field]) {
        let mut seen: HashMap<&str, Span> = HashMap::new();
        for field in fields {
            if let Some(first) = seen.insert(&field.name.text, field.name.span) {
                self.duplicate(&field.name.text, field.name.span, first);
            }
            self.type_form(&field.ty);
        }
        self.answer_before_reason(fields);
    }

    /// Bounds on a length: whole, not negative, in order.
    fn length_bounds(&mut self, bounds: Option<Bounds>) {
        let Some(bounds) = bounds else { return };
        let wrong = [bounds.low, bounds.high]
            .into_iter()
            .flatten()
            .find(|bound| match bound {
                Number::Int(value) => *value < 0,
                Number::Float(_) => true,
            });
        if wrong.is_some() {
            self.error(
                "E204",
                bounds.span,
                "a length is bounded by whole numbers from 0",
                "write `(1..80)`",
            );
            return;
        }
        self.order(Some(bounds));
    }

    fn int_bounds(&mut self, bounds: Option<Bounds>) {
        let Some(bounds) = bounds else { return };
        if [bounds.low, bounds.high]
            .into_iter()
            .flatten()
            .any(|bound| matches!(bound, Number::Float(_)))
        {
            self.error(
                "E204",
                bounds.span,
                "an `int` is bounded by whole numbers",
                "write whole bounds, or `float`",
            );
            return;
        }
        self.order(Some(bounds));
    }

    fn order(&mut self, bounds: Option<Bounds>) {
        let Some(Bounds {
            low: Some(low),
            high: Some(high),
            span,
        }) = bounds
        else {
            return;
        };
        let empty = match (low, high) {
            (Number::Int(low), Number::Int(high)) => low > high,
            (low, high) => real(low) > real(high),
        };
        if empty {
            let message = format!(
                "`{}` admits nothing: the lower bound is above the upper",
                self.text(span)
            );
            self.error("E203", span, message, "exchange the bounds");
        }
    }

    /// A regex, as far as the host can say.
    pub(super) fn pattern(&mut self, pattern: &str, span: Span) {
        if let Err(reason) = self.host.regex(pattern) {
            let found = Diagnostic::new(
                "E205",
                span,
                format!("this regex cannot be honoured: {reason}"),
            );
            self.report(found.label("not as a constraint"));
        }
    }

    fn schema(&mut self, text: &str, span: Span) {
        let schema = match serde_json::from_str(text) {
            Ok(schema) => schema,
            Err(error) => {
                self.error("E206", span, format!("this schema is no JSON: {error}"), "");
                return;
            }
        };
        if let Err((pointer, reason)) = self.host.schema(&schema) {
            let found = Diagnostic::new(
                "E206",
                span,
                format!("this schema cannot be honoured: {reason}"),
            );
            self.report(found.label(format!("at {pointer}")));
        }
    }

    /// Nodes with names written out; a recursive name counts as one.
    fn expanded(&self, ty: &'p Type, known: &mut HashMap<&'p str, usize>) -> usize {
        let inner: usize = match &ty.kind {
            TypeKind::Named(name, _) => match self.types.get(&name.text) {
                Some((definition, _)) if !self.types.is_recursive(&name.text) => {
                    if let Some(&size) = known.get(name.text.as_str()) {
                        return size;
                    }
                    let size = self.expanded(definition, known);
                    known.insert(&name.text, size);
                    return size;
                }
                _ => 0,
            },
            TypeKind::Record(fields) => fields.iter().fold(0, |sum: usize, field| {
                sum.saturating_add(self.expanded(&field.ty, known))
            }),
            TypeKind::Union(members) => members.iter().fold(0, |sum: usize, member| {
                sum.saturating_add(self.expanded(member, known))
            }),
            TypeKind::List(inner, _) | TypeKind::Optional(inner) => self.expanded(inner, known),
            _ => 0,
        };
        inner.saturating_add(1)
    }

    /// The constant default of an input against bounds its type has at the top.
    pub(super) fn constant_in_bounds(&mut self, value: &Expr, ty: &Type) {
        let TypeKind::Named(name, Some(bounds)) = &ty.kind else {
            return;
        };
        let Some(constant) = super::values::constant(value) else {
            return;
        };
        let (size, what) = match (name.text.as_str(), &constant) {
            ("string", serde_json::Value::String(text)) => {
                (text.chars().count() as f64, "characters")
            }
            ("int" | "float", serde_json::Value::Number(number)) => {
                (number.as_f64().unwrap_or_default(), "")
            }
            _ => return,
        };
        if bounds.low.is_some_and(|low| size < real(low))
            || bounds.high.is_some_and(|high| size > real(high))
        {
            let message = format!("`{}` does not admit {size} {what}", self.text(ty.span));
            self.error(
                "E201",
                value.span,
                message.trim_end(),
                "change the value or the bounds",
            );
        }
    }
}

/// Whether every value of the type contains one of a type in `endless`.
fn is_endless(ty: &Type, endless: &HashSet<&str>) -> bool {
    match &ty.kind {
        TypeKind::Named(name, _) => endless.contains(name.text.as_str()),
        TypeKind::Record(fields) => fields
            .iter()
            .any(|field| !field.optional && is_endless(&field.ty, endless)),
        TypeKind::Union(members) => members.iter().all(|member| is_endless(member, endless)),
        TypeKind::List(inner, bounds) => {
            let low = bounds.and_then(|bounds| bounds.low);
            matches!(low, Some(Number::Int(1..))) && is_endless(inner, endless)
        }
        _ => false,
    }
}

fn real(number: Number) -> f64 {
    match number {
        Number::Int(value) => value as f64,
        Number::Float(value) => value,
    }
}

fn same_literal(a: &Type, b: &Type) -> bool {
    match (&a.kind, &b.kind) {
        (TypeKind::Literal(a), TypeKind::Literal(b)) => {
            schema::literal_value(a) == schema::literal_value(b)
        }
        _ => false,
    }
}

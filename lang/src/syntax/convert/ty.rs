//! Types.

use pest::iterators::Pair;

use super::{Converter, doc_line, inner, meaningful, next};
use crate::ast::*;
use crate::syntax::Rule;

impl Converter<'_> {
    pub(super) fn ty(&mut self, pair: Pair<'_, Rule>) -> Type {
        let span = self.span(&pair);
        let mut members: Vec<Type> = pair
            .into_inner()
            .map(|variant| self.variant(variant))
            .collect();
        if members.len() == 1 {
            return members.pop().expect("there is one member");
        }
        Type {
            kind: TypeKind::Union(members),
            span,
        }
    }

    /// What stands right of a `type` item's name.
    pub(super) fn ty_or_record(&mut self, pair: Pair<'_, Rule>) -> Type {
        if pair.as_rule() == Rule::record {
            let span = self.span(&pair);
            return Type {
                kind: self.record(pair),
                span,
            };
        }
        self.ty(pair)
    }

    fn variant(&mut self, pair: Pair<'_, Rule>) -> Type {
        let place = self.span(&pair);
        let mut parts = pair.into_inner();
        let base = next(&mut parts);
        let n_links = self.link(parts.len(), place, "suffixes");
        let mut ty = self.base(base);
        for suffix in parts.take(n_links) {
            let end = self.span(&suffix).end;
            let span = Span {
                start: ty.span.start,
                end,
            };
            let kind = match suffix.into_inner().next() {
                Some(list) => {
                    let bounds = list.into_inner().next().map(|bounds| self.bounds(bounds));
                    TypeKind::List(Box::new(ty), bounds)
                }
                None => TypeKind::Optional(Box::new(ty)),
            };
            ty = Type { kind, span };
        }
        self.unlink(n_links);
        ty
    }

    fn base(&mut self, pair: Pair<'_, Rule>) -> Type {
        let span = self.span(&pair);
        let form = meaningful(pair.into_inner())
            .next()
            .expect("a base type has a form");
        let kind = match form.as_rule() {
            Rule::regex => TypeKind::Regex(regex_text(form.as_str())),
            Rule::record => self.record(form),
            Rule::call_type => {
                let names = form
                    .into_inner()
                    .filter(|pair| pair.as_rule() == Rule::name);
                TypeKind::Call(names.map(|name| self.name(&name)).collect())
            }
            Rule::schema => {
                let text = meaningful(form.into_inner())
                    .next()
                    .expect("`schema` has a string");
                TypeKind::Schema(self.plain_string(text, "a schema"))
            }
            Rule::grammar => {
                let text = meaningful(form.into_inner())
                    .next()
                    .expect("`grammar` has a string");
                TypeKind::Grammar(self.plain_string(text, "a grammar"))
            }
            Rule::string => TypeKind::Literal(Literal::String(self.plain_string(form, "a type"))),
            Rule::type_literal => TypeKind::Literal(self.type_literal(form)),
            Rule::ty => {
                return Type {
                    kind: self.ty(form).kind,
                    span,
                };
            }
            _ => {
                let mut parts = form.into_inner();
                let name = self.name(&next(&mut parts));
                TypeKind::Named(name, parts.next().map(|bounds| self.bounds(bounds)))
            }
        };
        Type { kind, span }
    }

    fn record(&mut self, pair: Pair<'_, Rule>) -> TypeKind {
        let fields = pair
            .into_inner()
            .filter(|pair| pair.as_rule() == Rule::field);
        TypeKind::Record(fields.map(|field| self.field(field)).collect())
    }

    fn field(&mut self, pair: Pair<'_, Rule>) -> Field {
        let mut docs = Vec::new();
        let (mut name, mut ty, mut optional) = (None, None, false);
        for part in pair.into_inner() {
            match part.as_rule() {
                Rule::doc => docs.push(doc_line(part.as_str())),
                Rule::word => name = Some(self.name(&part)),
                Rule::optional => optional = true,
                Rule::ty => ty = Some(self.ty(part)),
                _ => {}
            }
        }
        Field {
            docs,
            name: name.expect("a field has a name"),
            optional,
            ty: ty.expect("a field has a type"),
        }
    }

    fn bounds(&mut self, pair: Pair<'_, Rule>) -> Bounds {
        let mut bounds = Bounds {
            low: None,
            high: None,
            span: self.span(&pair),
        };
        for part in pair.into_inner() {
            match part.as_rule() {
                Rule::low => bounds.low = Some(self.bound(part)),
                Rule::high => bounds.high = Some(self.bound(part)),
                _ => {}
            }
        }
        bounds
    }

    fn bound(&mut self, pair: Pair<'_, Rule>) -> Number {
        let span = self.span(&pair);
        match self.signed(inner(pair)) {
            Literal::Number(number) => number,
            _ => {
                self.error(
                    "E007",
                    span,
                    "a bound is a number without a unit of time",
                    "write `(1..5)`",
                );
                Number::Int(0)
            }
        }
    }

    /// A number, a negative number, `true`, `false` or `null`.
    pub(super) fn type_literal(&mut self, pair: Pair<'_, Rule>) -> Literal {
        let form = inner(pair);
        if form.as_rule() == Rule::constant {
            constant(form.as_str())
        } else {
            self.signed(form)
        }
    }

    fn signed(&mut self, pair: Pair<'_, Rule>) -> Literal {
        if pair.as_rule() == Rule::number {
            return self.number(&pair);
        }
        match self.number(&inner(pair)) {
            Literal::Number(Number::Int(value)) => Literal::Number(Number::Int(-value)),
            Literal::Number(Number::Float(value)) => Literal::Number(Number::Float(-value)),
            other => other,
        }
    }
}

/// `true`, `false` or `null`.
pub(super) fn constant(text: &str) -> Literal {
    match text {
        "true" => Literal::Bool(true),
        "false" => Literal::Bool(false),
        _ => Literal::Null,
    }
}

/// The pattern between the slashes, `\/` already `/`.
pub(super) fn regex_text(text: &str) -> String {
    let pattern = &text[1..text.len() - 1];
    let mut out = String::with_capacity(pattern.len());
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        match (c, c == '\\') {
            (_, true) => match chars.next() {
                Some('/') => out.push('/'),
                Some(escaped) => out.extend(['\\', escaped]),
                None => out.push('\\'),
            },
            (c, false) => out.push(c),
        }
    }
    out
}

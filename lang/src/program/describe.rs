//! A type as text for a prompt: what `format(T)` inserts.
//!
//! The form is TypeScript's, which models have read much of: keys quoted as in the JSON that is wanted, doc comments
//! above their fields, bounds as a comment behind. A type of one short line stays on one line.

use std::fmt::Write as _;

use super::Types;
use super::schema::literal_value;
use crate::ast::{Bounds, Field, Number, Type, TypeKind};

/// The longest record written on one line, in characters.
const ONE_LINE: usize = 72;

pub(super) fn of(types: &Types<'_>, ty: &Type) -> String {
    let mut writer = Writer {
        types,
        wanted: Vec::new(),
    };
    // A name at the top is written out even where its type contains itself.
    let (top, own_name) = match &ty.kind {
        TypeKind::Named(name, _) => match types.get(&name.text) {
            Some((definition, _)) => (
                definition,
                types.is_recursive(&name.text).then_some(&name.text),
            ),
            None => (ty, None),
        },
        _ => (ty, None),
    };
    writer.wanted.extend(own_name.cloned());
    let mut notes = Vec::new();
    let text = writer.ty(top, 0, &mut notes);
    let mut out = own_name.map_or(String::new(), |name| format!("{name} = "));
    out.push_str(&text);
    push_notes(&mut out, &notes);
    let mut idx = usize::from(own_name.is_some());
    while let Some(name) = writer.wanted.get(idx).cloned() {
        idx += 1;
        if let Some((definition, _)) = types.get(&name) {
            let mut notes = Vec::new();
            let text = writer.ty(definition, 0, &mut notes);
            let _ = write!(out, "\n{name} = {text}");
            push_notes(&mut out, &notes);
        }
    }
    out
}

fn push_notes(out: &mut String, notes: &[String]) {
    if !notes.is_empty() {
        let _ = write!(out, " // {}", notes.join("; "));
    }
}

struct Writer<'t, 'p> {
    types: &'t Types<'p>,
    /// Recursive types referred to, in the order of their first mention.
    wanted: Vec<String>,
}

impl Writer<'_, '_> {
    /// The type's text; what cannot be said in it goes into `notes`.
    fn ty(&mut self, ty: &Type, depth: usize, notes: &mut Vec<String>) -> String {
        match &ty.kind {
            TypeKind::Named(name, bounds) => self.named(&name.text, *bounds, depth, notes),
            TypeKind::Regex(pattern) => {
                notes.push(format!("matches /{pattern}/"));
                "string".to_owned()
            }
            TypeKind::Literal(literal) => literal_value(literal).to_string(),
            TypeKind::Record(fields) => self.record(fields, depth),
            TypeKind::Union(members) => {
                let members: Vec<String> = members
                    .iter()
                    .map(|member| self.ty(member, depth, notes))
                    .collect();
                members.join(" | ")
            }
            TypeKind::List(element, bounds) => {
                if let Some(note) = bounds.and_then(|bounds| bounds_note(bounds, "items")) {
                    notes.push(note);
                }
                let text = self.ty(element, depth, notes);
                if text.contains(" | ") && !text.starts_with('{') {
                    format!("({text})[]")
                } else {
                    format!("{text}[]")
                }
            }
            TypeKind::Optional(inner) => format!("{} | null", self.ty(inner, depth, notes)),
            TypeKind::Schema(text) => {
                notes.push("a JSON Schema".to_owned());
                serde_json::from_str::<serde_json::Value>(text)
                    .map_or_else(|_| text.clone(), |schema| schema.to_string())
            }
            TypeKind::Call(_) | TypeKind::Grammar(_) => "any".to_owned(),
        }
    }

    fn named(
        &mut self,
        name: &str,
        bounds: Option<Bounds>,
        depth: usize,
        notes: &mut Vec<String>,
    ) -> String {
        let (word, unit) = match name {
            "string" => ("string", "characters"),
            "int" => ("int", ""),
            "float" => ("number", ""),
            "bool" => ("boolean", ""),
            "null" => ("null", ""),
            "json" => ("any", ""),
            _ => match self.types.get(name) {
                Some(_) if self.types.is_recursive(name) => {
                    if !self.wanted.iter().any(|wanted| wanted == name) {
                        self.wanted.push(name.to_owned());
                    }
                    return name.to_owned();
                }
                Some((definition, _)) => return self.ty(definition, depth, notes),
                None => (name, ""),
            },
        };
        if let Some(note) = bounds.and_then(|bounds| bounds_note(bounds, unit)) {
            notes.push(note);
        }
        word.to_owned()
    }

    fn record(&mut self, fields: &[Field], depth: usize) -> String {
        let lines: Vec<(String, Vec<String>)> = fields
            .iter()
            .map(|field| {
                let mut notes = Vec::new();
                let ty = self.ty(&field.ty, depth + 1, &mut notes);
                let key = serde_json::Value::from(field.name.text.as_str());
                let optional = if field.optional { "?" } else { "" };
                (format!("{key}{optional}: {ty}"), notes)
            })
            .collect();
        let length: usize = lines.iter().map(|(line, _)| line.chars().count() + 2).sum();
        let plain = lines
            .iter()
            .all(|(line, notes)| notes.is_empty() && !line.contains('\n'))
            && fields.iter().all(|field| field.docs.is_empty());
        if plain && length <= ONE_LINE {
            let lines: Vec<String> = lines.into_iter().map(|(line, _)| line).collect();
            return format!("{{ {} }}", lines.join(", "));
        }
        let margin = "  ".repeat(depth + 1);
        let mut out = "{\n".to_owned();
        let n_fields = fields.len();
        for (idx, (field, (line, notes))) in fields.iter().zip(lines).enumerate() {
            for doc in &field.docs {
                let _ = writeln!(out, "{margin}// {doc}");
            }
            let comma = if idx + 1 < n_fields { "," } else { "" };
            let _ = write!(out, "{margin}{line}{comma}");
            push_notes(&mut out, &notes);
            out.push('\n');
        }
        out.push_str(&"  ".repeat(depth));
        out.push('}');
        out
    }
}

/// Bounds in words: `1 to 40 characters`, `at most 3 items`, `at least 0`.
fn bounds_note(bounds: Bounds, unit: &str) -> Option<String> {
    let text = |number: Number| match number {
        Number::Int(value) => value.to_string(),
        Number::Float(value) => value.to_string(),
    };
    let words = match (bounds.low.map(text), bounds.high.map(text)) {
        (Some(low), Some(high)) if low == high => format!("exactly {low}"),
        (Some(low), Some(high)) => format!("{low} to {high}"),
        (Some(low), None) => format!("at least {low}"),
        (None, Some(high)) => format!("at most {high}"),
        (None, None) => return None,
    };
    Some(if unit.is_empty() {
        words
    } else {
        format!("{words} {unit}")
    })
}

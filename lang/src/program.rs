//! A checked program and what an interpreter asks of it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use serde_json::Value;

use crate::ast::{Callable, Expr, File, ItemKind, Name, Opt, Type, TypeKind};

mod describe;
pub(crate) mod schema;
#[cfg(test)]
mod tests;

/// A program without errors.
#[derive(Debug, Clone)]
pub struct Program {
    /// The whole source text.
    pub source: Arc<str>,
    /// The file's name, for messages.
    pub file_name: String,
    /// The syntax tree.
    pub ast: File,
}

/// An `input` declaration.
#[derive(Debug, Clone, Copy)]
pub struct Input<'p> {
    /// The argument's name.
    pub name: &'p Name,
    /// Its declared type.
    pub ty: &'p Type,
    /// The value when no argument is given; without one the argument is required.
    pub default: Option<&'p Expr>,
    /// The doc comment's lines.
    pub docs: &'p [String],
}

impl Program {
    pub(crate) fn new(file_name: &str, source: &str, ast: File) -> Program {
        Program {
            source: source.into(),
            file_name: file_name.to_owned(),
            ast,
        }
    }

    /// The declared inputs, in source order.
    pub fn inputs(&self) -> impl Iterator<Item = Input<'_>> {
        self.ast.items.iter().filter_map(|item| match &item.kind {
            ItemKind::Input { name, ty, default } => Some(Input {
                name,
                ty,
                default: default.as_ref(),
                docs: &item.docs,
            }),
            _ => None,
        })
    }

    /// The function of this name.
    pub fn function(&self, name: &str) -> Option<&Callable> {
        self.ast.items.iter().find_map(|item| match &item.kind {
            ItemKind::Fn(callable) if callable.name.text == name => Some(callable),
            _ => None,
        })
    }

    /// The part of this name.
    pub fn part(&self, name: &str) -> Option<&Callable> {
        self.ast.items.iter().find_map(|item| match &item.kind {
            ItemKind::Part(callable) if callable.name.text == name => Some(callable),
            _ => None,
        })
    }

    /// What a declared type's name stands for.
    pub fn type_of_name(&self, name: &str) -> Option<&Type> {
        self.ast.items.iter().find_map(|item| match &item.kind {
            ItemKind::Type { name: own, ty } if own.text == name => Some(ty),
            _ => None,
        })
    }

    /// The model named by the program and its default generation options.
    pub fn model(&self) -> Option<(&str, &[Opt])> {
        self.ast.items.iter().find_map(|item| match &item.kind {
            ItemKind::Model { name, options } => Some((name.as_str(), options.as_slice())),
            _ => None,
        })
    }

    /// The program's budget options; none when it declares no budget.
    pub fn budget(&self) -> &[Opt] {
        self.ast
            .items
            .iter()
            .find_map(|item| match &item.kind {
                ItemKind::Budget { options } => Some(options.as_slice()),
                _ => None,
            })
            .unwrap_or_default()
    }

    /// The JSON Schema (draft 2020-12) of a type: named types resolved, recursive ones through `$defs`; properties in
    /// the order of their declaration, no others allowed; doc comments as descriptions.
    pub fn json_schema(&self, ty: &Type) -> Value {
        schema::of(&Types::new(&self.ast), ty)
    }

    /// What `format(T)` inserts: compact TypeScript-like text with the doc comments.
    pub fn describe(&self, ty: &Type) -> String {
        describe::of(&Types::new(&self.ast), ty)
    }
}

/// The most types of one file.
pub(crate) const MAX_TYPES: usize = 1_000;

/// The declared types of a file by name.
pub(crate) struct Types<'p> {
    declared: HashMap<&'p str, (&'p Type, &'p [String])>,
    recursive: HashSet<&'p str>,
}

impl<'p> Types<'p> {
    pub(crate) fn new(file: &'p File) -> Types<'p> {
        let mut declared: HashMap<&'p str, (&'p Type, &'p [String])> = HashMap::new();
        for item in &file.items {
            if let ItemKind::Type { name, ty } = &item.kind {
                declared.entry(&name.text).or_insert((ty, &item.docs));
            }
        }
        let mut types = Types {
            declared,
            recursive: HashSet::new(),
        };
        let names: Vec<&'p str> = types.declared.keys().copied().collect();
        types.recursive = names
            .into_iter()
            .filter(|name| types.reaches_itself(name))
            .collect();
        types
    }

    /// What a name stands for, and its doc comment.
    pub(crate) fn get(&self, name: &str) -> Option<(&'p Type, &'p [String])> {
        self.declared.get(name).copied()
    }

    /// Whether a type contains itself.
    pub(crate) fn is_recursive(&self, name: &str) -> bool {
        self.recursive.contains(name)
    }

    fn reaches_itself(&self, name: &str) -> bool {
        let mut seen: HashSet<&str> = HashSet::new();
        let mut waiting: Vec<&str> = Vec::new();
        let mut next = Some(name);
        while let Some(at) = next {
            if let Some((ty, _)) = self.get(at) {
                mentions(ty, &mut waiting);
            }
            if waiting.contains(&name) {
                return true;
            }
            waiting.retain(|mention| seen.insert(mention));
            next = waiting.pop();
        }
        false
    }
}

/// The names a type mentions.
pub(crate) fn mentions<'p>(ty: &'p Type, out: &mut Vec<&'p str>) {
    match &ty.kind {
        TypeKind::Named(name, _) => out.push(&name.text),
        TypeKind::Record(fields) => fields.iter().for_each(|field| mentions(&field.ty, out)),
        TypeKind::Union(members) => members.iter().for_each(|member| mentions(member, out)),
        TypeKind::List(inner, _) | TypeKind::Optional(inner) => mentions(inner, out),
        _ => {}
    }
}

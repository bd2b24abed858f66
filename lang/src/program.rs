//! A checked program and what an interpreter asks of it.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::ast::{Callable, Expr, File, ItemKind, Name, Opt, Type};

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

    /// The JSON Schema of a type: named types resolved, recursive ones through `$defs`.
    pub fn json_schema(&self, ty: &Type) -> Value {
        let _ = ty;
        json!({})
    }

    /// What `format(T)` inserts: compact text with the doc comments.
    pub fn describe(&self, ty: &Type) -> String {
        let _ = ty;
        String::new()
    }
}

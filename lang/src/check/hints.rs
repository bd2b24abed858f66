//! What runs but could be better: shared prefixes, types the model is never shown, text without end.

use std::collections::HashSet;

use crate::Diagnostic;
use crate::ast::*;
use crate::program::mentions;

use super::{Checker, values};

/// Static text worth sharing, in bytes: some tens of tokens.
const WORTH_SHARING: usize = 120;

/// Static text at the start of a branch that is worth hoisting, in bytes.
const WORTH_HOISTING: usize = 64;

/// Fields that hold an answer, and fields that hold the way to it.
const ANSWERS: [&str; 9] = [
    "answer",
    "result",
    "score",
    "verdict",
    "label",
    "decision",
    "conclusion",
    "final",
    "rating",
];
const REASONS: [&str; 10] = [
    "reason",
    "reasons",
    "reasoning",
    "thought",
    "thoughts",
    "rationale",
    "explanation",
    "analysis",
    "why",
    "steps",
];

impl<'p> Checker<'p, '_> {
    /// L201 and L203: a value that changes stands before text that does not.
    pub(super) fn template_hints(&mut self, template: &'p Template) {
        if !matches!(self.role, Some(Role::System | Role::User)) {
            return;
        }
        let varies = template.parts.iter().position(|part| match part {
            TemplatePart::Hole(hole) => self.varies(hole),
            TemplatePart::Text(..) => false,
        });
        let Some(first) = varies else { return };
        let after: usize = template.parts[first..]
            .iter()
            .map(|part| match part {
                TemplatePart::Text(text, _) => text.len(),
                TemplatePart::Hole(_) => 0,
            })
            .sum();
        let TemplatePart::Hole(hole) = &template.parts[first] else {
            return;
        };
        if after < WORTH_SHARING {
            return;
        }
        let (code, message) = if self.scopes.in_loop() {
            (
                "L203",
                "this value changes with every turn of the loop and stands before text that does not",
            )
        } else {
            (
                "L201",
                "this value keeps the text after it from being shared between runs",
            )
        };
        let found = Diagnostic::new(code, hole.span, message);
        self.report(found.help("put what stays the same first and values last: a prefix is shared up to its first change"));
    }

    /// Whether a hole's value differs from run to run: it reads a name.
    fn varies(&self, hole: &Expr) -> bool {
        match &hole.kind {
            ExprKind::Name(_) => true,
            ExprKind::Member(base, _) | ExprKind::Index(base, _) => self.varies(base),
            ExprKind::Call { callee, args, .. } => {
                callee.text != "format" && args.iter().any(|arg| self.varies(arg))
            }
            ExprKind::Binary(_, left, right) => self.varies(left) || self.varies(right),
            _ => false,
        }
    }

    /// L202: branches that all begin with the same words.
    pub(super) fn fork_hints(&mut self, fork: &'p Fork) {
        let Some(Stmt {
            kind: StmtKind::Role { body, .. },
            ..
        }) = fork.body.stmts.first()
        else {
            return;
        };
        let Some(Stmt {
            kind:
                StmtKind::Expr(Expr {
                    kind: ExprKind::Template(template),
                    ..
                }),
            ..
        }) = body.stmts.first()
        else {
            return;
        };
        let Some(TemplatePart::Text(text, span)) = template.parts.first() else {
            return;
        };
        if text.len() >= WORTH_HOISTING && values::constant(&fork.over).is_none_or(|n| n != 1) {
            let found = Diagnostic::new(
                "L202",
                *span,
                "every branch begins with this text and computes it for itself",
            );
            self.report(
                found.help(
                    "say what all branches share before the `fork`: it is then computed once",
                ),
            );
        }
    }

    /// W206: a typed generation whose JSON may contain a string without end.
    pub(super) fn unbounded(&mut self, generation: &'p Gen, ty: &'p Type) {
        let is_capped = generation
            .options
            .iter()
            .any(|option| option.name.text == "max_tokens");
        let is_text = matches!(&ty.kind, TypeKind::Named(name, _) if name.text == "string");
        if is_capped || is_text {
            return;
        }
        if let Some(what) = self.endless_string(ty, &mut HashSet::new()) {
            let message = format!("{what} has no upper bound: this generation may run long");
            let found = Diagnostic::new("W206", ty.span, message);
            self.report(
                found.help("bound it, as in `string(..200)`, or give the generation `max_tokens`"),
            );
        }
    }

    fn endless_string(&self, ty: &'p Type, seen: &mut HashSet<&'p str>) -> Option<String> {
        match &ty.kind {
            TypeKind::Named(name, bounds) if name.text == "string" => bounds
                .is_none_or(|bounds| bounds.high.is_none())
                .then(|| "a `string`".to_owned()),
            TypeKind::Named(name, _) if name.text == "json" => Some("`json`".to_owned()),
            TypeKind::Named(name, _) => {
                let (definition, _) = self.types.get(&name.text)?;
                if seen.insert(&name.text) {
                    self.endless_string(definition, seen)
                } else {
                    None
                }
            }
            TypeKind::Record(fields) => fields.iter().find_map(|field| {
                let inner = self.endless_string(&field.ty, seen)?;
                Some(if inner.starts_with("the field") {
                    inner
                } else {
                    format!("the field `{}`", field.name.text)
                })
            }),
            TypeKind::Union(members) => members
                .iter()
                .find_map(|member| self.endless_string(member, seen)),
            TypeKind::List(inner, _) | TypeKind::Optional(inner) => {
                self.endless_string(inner, seen)
            }
            _ => None,
        }
    }

    /// W207: what comes first is written without what comes after.
    pub(super) fn answer_before_reason(&mut self, fields: &'p [Field]) {
        let is = |words: &[&str], field: &Field| words.contains(&field.name.text.as_str());
        let Some(answer) = fields.iter().position(|field| is(&ANSWERS, field)) else {
            return;
        };
        if fields[..answer].iter().any(|field| is(&REASONS, field)) {
            return;
        }
        if let Some(reason) = fields[answer..].iter().find(|field| is(&REASONS, field)) {
            let (answer, reason) = (&fields[answer].name, &reason.name.text);
            let message = format!("`{}` is generated before `{reason}`", answer.text);
            let found = Diagnostic::new("W207", answer.span, message);
            self.report(found.help("fields are generated in order: put the reasoning first, so that the answer follows from it"));
        }
    }

    /// Remembers a generation of a record type, to see at the end whether its form was ever shown.
    pub(super) fn want_shown(&mut self, ty: &'p Type, span: Span) {
        let mut names = Vec::new();
        mentions(ty, &mut names);
        let record = names.into_iter().find(|name| {
            self.types
                .get(name)
                .is_some_and(|(ty, _)| matches!(ty.kind, TypeKind::Record(_)))
        });
        if let Some(name) = record {
            self.unshown.push((name, span));
        }
    }

    /// W209: the model has to guess the form it is held to.
    pub(super) fn never_shown(&mut self) {
        for (name, span) in std::mem::take(&mut self.unshown) {
            if !self.shown.contains(name) {
                let message = format!("the form of `{name}` is never shown to the model");
                let found = Diagnostic::new("W209", span, message);
                self.report(found.help(format!("types put no text into the prompt: write `${{format({name})}}` where it should see it")));
            }
        }
    }

    /// E310: a pin stands at the top level, and nothing before it depends on an input.
    pub(super) fn pins(&mut self) {
        let file = self.file;
        let mut pins = Vec::new();
        let words = self.source.match_indices("pin");
        // Cheap first: most files have none.
        if words.clone().next().is_none() {
            return;
        }
        find_pins(&file.body, true, &mut pins);
        for item in &file.items {
            if let ItemKind::Fn(callable) | ItemKind::Part(callable) = &item.kind {
                find_pins(&callable.body, false, &mut pins);
            }
        }
        for (span, is_top) in pins {
            if !is_top {
                let help = "`pin` marks what every run begins with: the file's own statements, outside blocks";
                self.error("E310", span, "this `pin` is misplaced", help);
                continue;
            }
            if let Some(name) = self.first_input_before(span) {
                let message =
                    format!("what stands before this `pin` depends on the input `{name}`");
                self.error(
                    "E310",
                    span,
                    message,
                    "pin before the first use of an input",
                );
            }
        }
    }

    /// The first input that a statement before the pin mentions.
    fn first_input_before(&self, pin: Span) -> Option<String> {
        let stmts = self
            .file
            .body
            .stmts
            .iter()
            .take_while(|stmt| stmt.span.start < pin.start);
        let words = stmts.flat_map(|stmt| {
            self.text(stmt.span)
                .split(|c: char| !c.is_alphanumeric() && c != '_')
                .collect::<Vec<_>>()
        });
        words
            .into_iter()
            .find(|word| self.inputs.contains_key(word))
            .map(str::to_owned)
    }
}

/// The pins of a block, and whether they stand among the file's own statements.
fn find_pins(block: &Block, is_top: bool, out: &mut Vec<(Span, bool)>) {
    for stmt in &block.stmts {
        let mut inner: Vec<&Block> = Vec::new();
        match &stmt.kind {
            StmtKind::Pin(_) => out.push((stmt.span, is_top)),
            StmtKind::Role { body, .. }
            | StmtKind::For { body, .. }
            | StmtKind::Loop { body, .. } => inner.push(body),
            StmtKind::If {
                then, otherwise, ..
            } => {
                inner.push(then);
                inner.extend(otherwise);
            }
            StmtKind::Match { arms, .. } => inner.extend(arms.iter().map(|arm| &arm.body)),
            StmtKind::Attempt {
                body,
                retry,
                otherwise,
                ..
            } => {
                inner.push(body);
                inner.extend(retry.iter().map(|(_, block)| block));
                inner.extend(otherwise);
            }
            StmtKind::Let { value, .. }
            | StmtKind::Assign { value, .. }
            | StmtKind::Expr(value) => match &value.kind {
                ExprKind::Fork(fork) => inner.push(&fork.body),
                ExprKind::Best(best) => inner.push(&best.body),
                _ => {}
            },
            _ => {}
        }
        inner
            .into_iter()
            .for_each(|block| find_pins(block, false, out));
    }
}

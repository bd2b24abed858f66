//! What a part does to its caller's context, known before any call of it is checked.

use std::collections::HashMap;

use crate::ast::*;

/// What a part's body does outside roles of its own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Summary {
    /// Appends text.
    pub(super) text: bool,
    /// Generates or selects.
    pub(super) generates: bool,
    /// Opens roles.
    pub(super) roles: bool,
}

impl Summary {
    fn add(&mut self, other: Summary) {
        self.text |= other.text;
        self.generates |= other.generates;
        self.roles |= other.roles;
    }
}

/// The summaries of a file's parts. Parts may call each other, in circles too: repeated until nothing changes.
pub(super) fn summaries(file: &File) -> HashMap<&str, Summary> {
    let parts: Vec<&Callable> = file
        .items
        .iter()
        .filter_map(|item| match &item.kind {
            ItemKind::Part(callable) => Some(callable),
            _ => None,
        })
        .collect();
    let mut known: HashMap<&str, Summary> = HashMap::new();
    // What a body does by itself, and which parts it calls: read once, however often the circle is gone round.
    let bodies: Vec<(&str, Summary, Vec<&str>)> = parts
        .iter()
        .map(|part| {
            let mut reader = Reader::default();
            reader.block(&part.body);
            (part.name.text.as_str(), reader.own, reader.calls)
        })
        .collect();
    for (name, own, _) in &bodies {
        known.entry(name).or_default().add(*own);
    }
    // Each round settles at least one of three flags of one part; chains are short in practice.
    for _ in 0..=3 * bodies.len().min(1_000) {
        let mut changed = false;
        for (name, _, calls) in &bodies {
            let before = known.get(name).copied().unwrap_or_default();
            let mut after = before;
            calls
                .iter()
                .filter_map(|call| known.get(call))
                .for_each(|called| after.add(*called));
            if after != before {
                changed = true;
                known.insert(name, after);
            }
        }
        if !changed {
            break;
        }
    }
    known
}

#[derive(Default)]
struct Reader<'p> {
    own: Summary,
    calls: Vec<&'p str>,
}

impl<'p> Reader<'p> {
    fn block(&mut self, block: &'p Block) {
        block.stmts.iter().for_each(|stmt| self.stmt(stmt));
    }

    fn stmt(&mut self, stmt: &'p Stmt) {
        match &stmt.kind {
            StmtKind::Role { .. } => self.own.roles = true,
            StmtKind::If {
                then, otherwise, ..
            } => {
                self.block(then);
                otherwise.iter().for_each(|block| self.block(block));
            }
            StmtKind::For { body, .. } | StmtKind::Loop { body, .. } => self.block(body),
            StmtKind::Match { arms, .. } => arms.iter().for_each(|arm| self.block(&arm.body)),
            StmtKind::Attempt {
                body,
                retry,
                otherwise,
                ..
            } => {
                self.block(body);
                retry.iter().for_each(|(_, block)| self.block(block));
                otherwise.iter().for_each(|block| self.block(block));
            }
            StmtKind::Let { value, .. } | StmtKind::Assign { value, .. } => self.value(value),
            StmtKind::Expr(expr) => self.emission(expr),
            _ => {}
        }
    }

    fn emission(&mut self, expr: &'p Expr) {
        match &expr.kind {
            ExprKind::Template(template) => {
                self.own.text = true;
                for part in &template.parts {
                    if let TemplatePart::Hole(hole) = part {
                        self.hole(hole);
                    }
                }
            }
            _ => self.hole(expr),
        }
    }

    fn hole(&mut self, expr: &'p Expr) {
        match &expr.kind {
            ExprKind::Gen(_) | ExprKind::Select(_) => self.own.generates = true,
            ExprKind::Call { callee, .. } => self.calls.push(&callee.text),
            _ => self.value(expr),
        }
    }

    fn value(&mut self, expr: &'p Expr) {
        match &expr.kind {
            ExprKind::Fork(fork) => self.block(&fork.body),
            ExprKind::Best(best) => self.block(&best.body),
            _ => {}
        }
    }
}

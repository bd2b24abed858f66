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

/// The summaries of a file's parts. Parts may call each other, in circles too: what changes is handed on to its callers
/// until nothing does.
pub(super) fn summaries(file: &File) -> HashMap<&str, Summary> {
    let mut known: HashMap<&str, Summary> = HashMap::new();
    let mut callers: HashMap<&str, Vec<&str>> = HashMap::new();
    for item in &file.items {
        let ItemKind::Part(part) = &item.kind else {
            continue;
        };
        let mut reader = Reader::default();
        reader.block(&part.body);
        known.entry(&part.name.text).or_default().add(reader.own);
        for call in reader.calls {
            callers.entry(call).or_default().push(&part.name.text);
        }
    }
    // Each of a part's three flags is set once at most, so this ends.
    let mut changed: Vec<&str> = known.keys().copied().collect();
    while let Some(callee) = changed.pop() {
        let summary = known.get(callee).copied().unwrap_or_default();
        for caller in callers.get(callee).into_iter().flatten() {
            let own = known.entry(caller).or_default();
            let before = *own;
            own.add(summary);
            if *own != before {
                changed.push(caller);
            }
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

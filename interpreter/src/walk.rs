//! A walk over the syntax tree: every statement and expression, parents before children.

use lmrun_lang::ast::{
    Binding, Block, Expr, ExprKind, File, ItemKind, Stmt, StmtKind, Template, TemplatePart,
};

/// What a walk finds.
#[derive(Clone, Copy)]
pub(crate) enum Node<'a> {
    Stmt(&'a Stmt),
    Expr(&'a Expr),
}

/// Walks all that can run of a file: its statements, functions, parts and defaults; not its tests.
pub(crate) fn file<'a>(file: &'a File, found: &mut dyn FnMut(Node<'a>)) {
    for item in &file.items {
        match &item.kind {
            ItemKind::Fn(callable) | ItemKind::Part(callable) => {
                let defaults = callable
                    .params
                    .iter()
                    .filter_map(|param| param.default.as_ref());
                defaults.for_each(|default| expr(default, found));
                block(&callable.body, found);
            }
            ItemKind::Input {
                default: Some(default),
                ..
            } => expr(default, found),
            ItemKind::Tool(tool) => {
                if let Binding::Block(body) = &tool.binding {
                    block(body, found);
                }
            }
            _ => {}
        }
    }
    block(&file.body, found);
}

/// Walks a block.
pub(crate) fn block<'a>(body: &'a Block, found: &mut dyn FnMut(Node<'a>)) {
    body.stmts.iter().for_each(|stmt| statement(stmt, found));
}

fn statement<'a>(stmt: &'a Stmt, found: &mut dyn FnMut(Node<'a>)) {
    found(Node::Stmt(stmt));
    match &stmt.kind {
        StmtKind::Let { value, .. }
        | StmtKind::Assign { value, .. }
        | StmtKind::Yield(value)
        | StmtKind::Fail(value)
        | StmtKind::Expr(value)
        | StmtKind::Return(Some(value)) => expr(value, found),
        StmtKind::Role { body, .. } => block(body, found),
        StmtKind::If {
            condition,
            then,
            otherwise,
        } => {
            expr(condition, found);
            block(then, found);
            if let Some(otherwise) = otherwise {
                block(otherwise, found);
            }
        }
        StmtKind::For {
            list: head, body, ..
        }
        | StmtKind::Loop { max: head, body } => {
            expr(head, found);
            block(body, found);
        }
        StmtKind::Match { subject, arms } => {
            expr(subject, found);
            arms.iter().for_each(|arm| block(&arm.body, found));
        }
        StmtKind::Attempt {
            body,
            retry,
            otherwise,
            ..
        } => {
            block(body, found);
            if let Some((_, retry)) = retry {
                block(retry, found);
            }
            if let Some(otherwise) = otherwise {
                block(otherwise, found);
            }
        }
        StmtKind::Assert(condition, message) => {
            expr(condition, found);
            if let Some(message) = message {
                template(message, found);
            }
        }
        StmtKind::Return(None) | StmtKind::Pin(_) | StmtKind::Break | StmtKind::Continue => {}
    }
}

fn template<'a>(text: &'a Template, found: &mut dyn FnMut(Node<'a>)) {
    for part in &text.parts {
        if let TemplatePart::Hole(hole) = part {
            expr(hole, found);
        }
    }
}

/// Walks an expression.
pub(crate) fn expr<'a>(node: &'a Expr, found: &mut dyn FnMut(Node<'a>)) {
    found(Node::Expr(node));
    match &node.kind {
        ExprKind::Literal(_) | ExprKind::Regex(_) | ExprKind::Name(_) => {}
        ExprKind::Template(text) => template(text, found),
        ExprKind::List(items) => items.iter().for_each(|item| expr(item, found)),
        ExprKind::Map(entries) => entries.iter().for_each(|(_, item)| expr(item, found)),
        ExprKind::Call { args, named, .. } => {
            args.iter().for_each(|arg| expr(arg, found));
            named.iter().for_each(|option| expr(&option.value, found));
        }
        ExprKind::Member(base, _) | ExprKind::Unary(_, base) => expr(base, found),
        ExprKind::Index(left, right) | ExprKind::Binary(_, left, right) => {
            expr(left, found);
            expr(right, found);
        }
        ExprKind::Comprehension {
            element,
            list,
            condition,
            ..
        } => {
            expr(list, found);
            if let Some(condition) = condition {
                expr(condition, found);
            }
            expr(element, found);
        }
        ExprKind::Gen(generation) => {
            generation
                .options
                .iter()
                .for_each(|option| expr(&option.value, found));
        }
        ExprKind::Select(select) => {
            expr(&select.choices, found);
            select
                .options
                .iter()
                .for_each(|option| expr(&option.value, found));
        }
        ExprKind::Fork(fork) => {
            expr(&fork.over, found);
            fork.options
                .iter()
                .for_each(|option| expr(&option.value, found));
            block(&fork.body, found);
        }
        ExprKind::Best(best) => {
            expr(&best.n, found);
            best.options
                .iter()
                .for_each(|option| expr(&option.value, found));
            block(&best.body, found);
            expr(&best.by, found);
        }
    }
}

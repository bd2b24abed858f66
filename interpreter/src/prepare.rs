//! What is known of a program before it runs: the automata of its types, what it needs of a backend, its defaults.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use lmrun_lang::Program;
use lmrun_lang::ast::{
    Block, Expr, ExprKind, ItemKind, Opt, Role, Span, Stmt, StmtKind, TemplatePart, UnaryOp,
};
use serde_json::Value;

use crate::backend::Capabilities;
use crate::constraint::Shape;
use crate::envelope::{ErrorKind, RunError};
use crate::gen_options::{GenOptions, whole};
use crate::operators;
use crate::value::literal_value;
use crate::walk::{self, Node};

/// What is known of a program before it runs.
pub(crate) struct Prepared {
    /// Whether the model is used without its chat template.
    pub(crate) plain: bool,
    pub(crate) defaults: GenOptions,
    /// The shape of every generated type, by the type's place.
    pub(crate) shapes: HashMap<Span, Shape>,
    /// The selects after which their turn ends.
    pub(crate) ends: HashSet<Span>,
    /// The budget that the program sets itself.
    pub(crate) max_tokens: Option<usize>,
    pub(crate) time: Option<Duration>,
}

/// Prepares a program for a backend.
///
/// # Errors
/// What the backend or this interpreter cannot honour, and what no automaton can hold, each with its place.
pub(crate) fn prepare(program: &Program, can: Capabilities) -> Result<Prepared, RunError> {
    for item in &program.ast.items {
        let missing = match &item.kind {
            ItemKind::Tool(_) => "tools",
            ItemKind::Import(_) => "imports",
            _ => continue,
        };
        let message = format!("{missing} cannot be run by this interpreter");
        return Err(RunError::at(ErrorKind::Capability, item.span, message));
    }
    let mut prepared = Prepared {
        plain: false,
        defaults: GenOptions::default(),
        shapes: HashMap::new(),
        ends: HashSet::new(),
        max_tokens: None,
        time: None,
    };
    prepared.read_model(program)?;
    prepared.read_budget(program)?;
    let mut outcome = Ok(());
    walk::file(&program.ast, &mut |node| {
        if outcome.is_ok() {
            outcome = prepared.visit(program, can, node);
        }
    });
    outcome.map(|()| prepared)
}

impl Prepared {
    fn read_model(&mut self, program: &Program) -> Result<(), RunError> {
        let Some((_, options)) = program.model() else {
            return Ok(());
        };
        for option in options {
            let value = constant_of(option)?;
            let set = match (option.name.text.as_str(), value.as_str()) {
                ("template", Some("none")) => {
                    self.plain = true;
                    Ok(())
                }
                ("template", Some("chat" | "auto")) => Ok(()),
                ("template", _) => Err("`template` is \"auto\" or \"none\"".to_owned()),
                (name, _) => self.defaults.set(name, &value),
            };
            set.map_err(|message| RunError::at(ErrorKind::Check, option.name.span, message))?;
        }
        Ok(())
    }

    fn read_budget(&mut self, program: &Program) -> Result<(), RunError> {
        for option in program.budget() {
            let value = constant_of(option)?;
            let name = option.name.text.as_str();
            let set = match name {
                "tokens" => {
                    whole(name, &value, 1, 1 << 40).map(|n| self.max_tokens = Some(n as usize))
                }
                "time" => whole(name, &value, 1, 1 << 40)
                    .map(|ms| self.time = Some(Duration::from_millis(ms))),
                _ => Err(format!("a budget of `{name}` cannot be kept")),
            };
            set.map_err(|message| RunError::at(ErrorKind::Check, option.name.span, message))?;
        }
        Ok(())
    }

    fn visit(&mut self, program: &Program, can: Capabilities, node: Node) -> Result<(), RunError> {
        match node {
            Node::Stmt(Stmt {
                kind: StmtKind::Role { role, body },
                span,
            }) => {
                if !can.chat && !self.plain {
                    let message = "the model has no chat template: roles need one";
                    return Err(RunError::at(ErrorKind::Capability, *span, message));
                }
                if *role == Role::Assistant {
                    last_selects(body, &mut self.ends);
                }
                Ok(())
            }
            Node::Stmt(_) => Ok(()),
            Node::Expr(expr) => self.visit_expr(program, can, expr),
        }
    }

    fn visit_expr(
        &mut self,
        program: &Program,
        can: Capabilities,
        expr: &Expr,
    ) -> Result<(), RunError> {
        let lacks = |what: &str| {
            let message = format!("the backend cannot {what}");
            Err(RunError::at(ErrorKind::Capability, expr.span, message))
        };
        match &expr.kind {
            ExprKind::Gen(generation) => {
                let Some(ty) = &generation.ty else {
                    return Ok(());
                };
                let shape = Shape::of(program, ty)
                    .map_err(|message| RunError::at(ErrorKind::Check, ty.span, message))?;
                if shape.constraint.is_some() && !can.constraints {
                    return lacks("hold a generation to a type");
                }
                self.shapes.insert(ty.span, shape);
                Ok(())
            }
            ExprKind::Select(_) if !can.logprobs => lacks("score the options of a choice"),
            ExprKind::Call { callee, .. } if callee.text == "logprob" && !can.logprobs => {
                lacks("tell log-probabilities")
            }
            ExprKind::Call { callee, .. } if callee.text == "invoke" => {
                let message = "tools cannot be run by this interpreter";
                Err(RunError::at(ErrorKind::Capability, expr.span, message))
            }
            _ => Ok(()),
        }
    }
}

/// The selects with which a turn can end: nothing follows them in it.
fn last_selects(body: &Block, found: &mut HashSet<Span>) {
    match body.stmts.last().map(|stmt| &stmt.kind) {
        Some(StmtKind::Expr(expr)) => match &expr.kind {
            ExprKind::Select(_) => {
                found.insert(expr.span);
            }
            ExprKind::Template(template) => {
                if let Some(TemplatePart::Hole(hole)) = template.parts.last()
                    && matches!(hole.kind, ExprKind::Select(_))
                {
                    found.insert(hole.span);
                }
            }
            _ => {}
        },
        Some(StmtKind::If {
            then, otherwise, ..
        }) => {
            last_selects(then, found);
            if let Some(otherwise) = otherwise {
                last_selects(otherwise, found);
            }
        }
        Some(StmtKind::Match { arms, .. }) => {
            arms.iter().for_each(|arm| last_selects(&arm.body, found));
        }
        _ => {}
    }
}

/// Whether the elements of a comprehension can run side by side: they call functions, and leave this context alone.
pub(crate) fn runs_apart(program: &Program, element: &Expr) -> bool {
    let (mut calls, mut appends) = (false, false);
    walk::expr(element, &mut |node| {
        let Node::Expr(expr) = node else { return };
        match &expr.kind {
            ExprKind::Call { callee, .. } => {
                calls |= program.function(&callee.text).is_some();
                appends |= program.part(&callee.text).is_some();
            }
            ExprKind::Gen(_) | ExprKind::Select(_) | ExprKind::Fork(_) | ExprKind::Best(_) => {
                appends = true;
            }
            _ => {}
        }
    });
    calls && !appends
}

fn constant_of(option: &Opt) -> Result<Value, RunError> {
    constant(&option.value).ok_or_else(|| {
        let message = format!("`{}` must be a constant here", option.name.text);
        RunError::at(ErrorKind::Check, option.value.span, message)
    })
}

/// The value of an expression that nothing needs to run for.
fn constant(expr: &Expr) -> Option<Value> {
    match &expr.kind {
        ExprKind::Literal(literal) => Some(literal_value(literal)),
        ExprKind::Unary(UnaryOp::Negate, operand) => operators::negate(&constant(operand)?).ok(),
        ExprKind::List(items) => items
            .iter()
            .map(constant)
            .collect::<Option<_>>()
            .map(Value::Array),
        ExprKind::Template(template) => {
            let parts = template.parts.iter().map(|part| match part {
                TemplatePart::Text(text, _) => Some(text.as_str()),
                TemplatePart::Hole(_) => None,
            });
            parts.collect::<Option<String>>().map(Value::String)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests;

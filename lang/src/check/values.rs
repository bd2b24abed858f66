//! Constants: what an expression is when nothing has to run.

use serde_json::Value;

use crate::ast::{Expr, ExprKind, Literal, TemplatePart, UnaryOp};
use crate::program::schema::literal_value;

/// The value of a constant expression: literals, their negation, plain strings, lists of them.
pub(super) fn constant(expr: &Expr) -> Option<Value> {
    match &expr.kind {
        ExprKind::Literal(literal) => Some(literal_value(literal)),
        ExprKind::Template(template) => match template.parts.as_slice() {
            [] => Some(Value::String(String::new())),
            [TemplatePart::Text(text, _)] => Some(Value::String(text.clone())),
            _ => None,
        },
        ExprKind::List(items) => items
            .iter()
            .map(constant)
            .collect::<Option<Vec<_>>>()
            .map(Value::Array),
        ExprKind::Unary(UnaryOp::Negate, inner) => match constant(inner)? {
            Value::Number(number) => match number.as_i64() {
                Some(value) => value.checked_neg().map(Value::from),
                None => number.as_f64().map(|value| Value::from(-value)),
            },
            _ => None,
        },
        _ => None,
    }
}

/// Whether the expression is a time, as in `10s`.
pub(super) fn is_duration(expr: &Expr) -> bool {
    matches!(expr.kind, ExprKind::Literal(Literal::Duration(_)))
}

//! Statements and blocks.

use pest::iterators::Pair;

use super::{Converter, inner, meaningful, next};
use crate::ast::*;
use crate::syntax::Rule;

impl Converter<'_> {
    pub(super) fn block(&mut self, pair: Pair<'_, Rule>) -> Block {
        let span = self.span(&pair);
        let stmts = pair
            .into_inner()
            .filter(|pair| pair.as_rule() == Rule::statement);
        Block {
            stmts: stmts.map(|pair| self.statement(pair)).collect(),
            span,
        }
    }

    /// A block, or one statement in its place.
    fn block_or_statement(&mut self, pair: Pair<'_, Rule>) -> Block {
        if pair.as_rule() == Rule::block {
            return self.block(pair);
        }
        let stmt = self.statement(pair);
        Block {
            span: stmt.span,
            stmts: vec![stmt],
        }
    }

    pub(super) fn statement(&mut self, pair: Pair<'_, Rule>) -> Stmt {
        let span = self.span(&pair);
        let pair = inner(pair);
        let rule = pair.as_rule();
        let keyword = pair.clone().into_inner().next();
        let mut parts = meaningful(pair.into_inner()).peekable();
        let kind = match rule {
            Rule::let_stmt => {
                let mutable = keyword.is_some_and(|pair| pair.as_rule() == Rule::kw_var);
                let name = self.name(&next(&mut parts));
                let ty = parts
                    .next_if(|pair| pair.as_rule() == Rule::ty)
                    .map(|pair| self.ty(pair));
                StmtKind::Let {
                    mutable,
                    name,
                    ty,
                    value: self.expr(next(&mut parts)),
                }
            }
            Rule::role => self.role(parts),
            Rule::if_stmt => self.if_stmt(parts),
            Rule::for_stmt => {
                let name = self.name(&next(&mut parts));
                let list = self.expr(next(&mut parts));
                StmtKind::For {
                    name,
                    list,
                    body: self.block(next(&mut parts)),
                }
            }
            Rule::loop_stmt => {
                let max = self.expr(next(&mut parts));
                StmtKind::Loop {
                    max,
                    body: self.block(next(&mut parts)),
                }
            }
            Rule::match_stmt => {
                let subject = self.expr(next(&mut parts));
                StmtKind::Match {
                    subject,
                    arms: parts.map(|arm| self.arm(arm)).collect(),
                }
            }
            Rule::attempt => self.attempt(parts),
            _ => self.simple_statement(rule, parts),
        };
        Stmt { kind, span }
    }

    /// The statements without a block of their own.
    fn simple_statement<'i>(
        &mut self,
        rule: Rule,
        mut parts: std::iter::Peekable<impl Iterator<Item = Pair<'i, Rule>>>,
    ) -> StmtKind {
        match rule {
            Rule::return_stmt => StmtKind::Return(parts.next().map(|pair| self.expr(inner(pair)))),
            Rule::yield_stmt => StmtKind::Yield(self.expr(next(&mut parts))),
            Rule::assert_stmt => {
                let condition = self.expr(next(&mut parts));
                StmtKind::Assert(condition, parts.next().map(|pair| self.template(pair)))
            }
            Rule::fail_stmt => StmtKind::Fail(self.expr(next(&mut parts))),
            Rule::pin => StmtKind::Pin(
                parts
                    .next()
                    .map(|pair| self.plain_string(pair, "a pin's name")),
            ),
            Rule::break_stmt => StmtKind::Break,
            Rule::continue_stmt => StmtKind::Continue,
            Rule::assign => {
                let name = self.name(&next(&mut parts));
                let add = parts
                    .next_if(|pair| pair.as_rule() == Rule::add_equals)
                    .is_some();
                StmtKind::Assign {
                    name,
                    add,
                    value: self.expr(next(&mut parts)),
                }
            }
            _ => StmtKind::Expr(self.expr(next(&mut parts))),
        }
    }

    fn role<'i>(&mut self, mut parts: impl Iterator<Item = Pair<'i, Rule>>) -> StmtKind {
        let role = match next(&mut parts).as_str() {
            "system" => Role::System,
            "user" => Role::User,
            "assistant" => Role::Assistant,
            _ => Role::Observe,
        };
        let body = next(&mut parts);
        if body.as_rule() == Rule::block {
            return StmtKind::Role {
                role,
                body: self.block(body),
            };
        }
        let value = self.expr(body);
        let span = value.span;
        let emits = match &value.kind {
            ExprKind::Template(_)
            | ExprKind::Gen(_)
            | ExprKind::Select(_)
            | ExprKind::Fork(_)
            | ExprKind::Best(_) => true,
            ExprKind::Call { callee, .. } => self.parts.contains(&callee.text),
            _ => false,
        };
        let emission = if emits {
            value
        } else {
            let parts = vec![TemplatePart::Hole(Box::new(value))];
            Expr {
                kind: ExprKind::Template(Template { parts, span }),
                span,
            }
        };
        let stmts = vec![Stmt {
            kind: StmtKind::Expr(emission),
            span,
        }];
        StmtKind::Role {
            role,
            body: Block { stmts, span },
        }
    }

    fn if_stmt<'i>(&mut self, mut parts: impl Iterator<Item = Pair<'i, Rule>>) -> StmtKind {
        let condition = self.expr(next(&mut parts));
        let then = self.block(next(&mut parts));
        let mut rest: Vec<_> = parts.collect();
        let n_links = self.link(rest.len(), condition.span, "branches");
        rest.truncate(n_links);
        // From the last branch inwards: an `else if` is a block of one `if`.
        let mut otherwise: Option<Block> = None;
        for branch in rest.into_iter().rev() {
            let span = self.span(&branch);
            let is_last = branch.as_rule() == Rule::else_block;
            let mut parts = meaningful(branch.into_inner());
            if is_last {
                otherwise = Some(self.block(next(&mut parts)));
                continue;
            }
            let condition = self.expr(next(&mut parts));
            let then = self.block(next(&mut parts));
            let kind = StmtKind::If {
                condition,
                then,
                otherwise,
            };
            otherwise = Some(Block {
                stmts: vec![Stmt { kind, span }],
                span,
            });
        }
        self.unlink(n_links);
        StmtKind::If {
            condition,
            then,
            otherwise,
        }
    }

    fn attempt<'i>(&mut self, mut parts: impl Iterator<Item = Pair<'i, Rule>>) -> StmtKind {
        let count = next(&mut parts);
        let span = self.span(&count);
        let tries = match self.number(&count) {
            Literal::Number(Number::Int(tries)) => tries,
            _ => {
                self.error(
                    "E007",
                    span,
                    "the number of tries is whole",
                    "write `attempt 3 { .. }`",
                );
                1
            }
        };
        let body = self.block(next(&mut parts));
        let (mut retry, mut otherwise) = (None, None);
        for part in parts {
            let is_retry = part.as_rule() == Rule::retry;
            let mut inner = meaningful(part.into_inner());
            if is_retry {
                let name = self.name(&next(&mut inner));
                retry = Some((name, self.block(next(&mut inner))));
            } else {
                otherwise = Some(self.block(next(&mut inner)));
            }
        }
        StmtKind::Attempt {
            tries,
            body,
            retry,
            otherwise,
        }
    }

    fn arm(&mut self, pair: Pair<'_, Rule>) -> Arm {
        let mut parts = meaningful(pair.into_inner());
        let pattern = next(&mut parts);
        let span = self.span(&pattern);
        let form = inner(pattern);
        let kind = match form.as_rule() {
            Rule::string => {
                PatternKind::Literal(Literal::String(self.plain_string(form, "a pattern")))
            }
            Rule::type_literal => PatternKind::Literal(self.type_literal(form)),
            Rule::else_pattern => PatternKind::Else,
            _ => {
                let mut names = form.into_inner();
                let ty = self.name(&next(&mut names));
                PatternKind::Type(ty, names.next().map(|pair| self.name(&pair)))
            }
        };
        Arm {
            pattern: Pattern { kind, span },
            body: self.block_or_statement(next(&mut parts)),
        }
    }
}

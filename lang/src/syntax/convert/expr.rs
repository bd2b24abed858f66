//! Expressions: operators by precedence, trailers, strings, generations.

use pest::iterators::Pair;

use super::ty::{constant, regex_text};
use super::{Converter, inner, meaningful, next};
use crate::ast::*;
use crate::syntax::text::{self, Piece};
use crate::syntax::{Rule, number};

/// An operator and how tightly it binds.
fn operator(text: &str) -> (BinaryOp, u8) {
    match text {
        "??" => (BinaryOp::Coalesce, 1),
        "||" => (BinaryOp::Or, 2),
        "&&" => (BinaryOp::And, 3),
        "==" => (BinaryOp::Equal, 4),
        "!=" => (BinaryOp::NotEqual, 4),
        "<=" => (BinaryOp::LessEqual, 4),
        ">=" => (BinaryOp::GreaterEqual, 4),
        "<" => (BinaryOp::Less, 4),
        ">" => (BinaryOp::Greater, 4),
        "matches" => (BinaryOp::Matches, 4),
        "in" => (BinaryOp::In, 4),
        "+" => (BinaryOp::Add, 5),
        "-" => (BinaryOp::Subtract, 5),
        "*" => (BinaryOp::Multiply, 6),
        "/" => (BinaryOp::Divide, 6),
        _ => (BinaryOp::Remainder, 6),
    }
}

/// Joins the two topmost operands with the topmost operator.
fn reduce(operands: &mut Vec<Expr>, op: BinaryOp) {
    let right = operands
        .pop()
        .expect("an operator stands between two operands");
    let left = operands
        .pop()
        .expect("an operator stands between two operands");
    let span = Span {
        start: left.span.start,
        end: right.span.end,
    };
    operands.push(Expr {
        kind: ExprKind::Binary(op, Box::new(left), Box::new(right)),
        span,
    });
}

impl Converter<'_> {
    /// Shunting-yard over the flat list the grammar gives.
    pub(super) fn expr(&mut self, pair: Pair<'_, Rule>) -> Expr {
        let span = self.span(&pair);
        let parts: Vec<_> = pair.into_inner().collect();
        let n_links = self.link(parts.len() / 2, span, "operators");
        let mut operands: Vec<Expr> = Vec::new();
        let mut waiting: Vec<(BinaryOp, u8)> = Vec::new();
        for part in parts.into_iter().take(2 * n_links + 1) {
            if part.as_rule() != Rule::infix {
                operands.push(self.unary(part));
                continue;
            }
            let (op, level) = operator(part.as_str());
            while let Some(&(before, above)) = waiting.last()
                && above >= level
            {
                waiting.pop();
                reduce(&mut operands, before);
            }
            waiting.push((op, level));
        }
        while let Some((op, _)) = waiting.pop() {
            reduce(&mut operands, op);
        }
        self.unlink(n_links);
        operands.pop().expect("an expression has an operand")
    }

    fn unary(&mut self, pair: Pair<'_, Rule>) -> Expr {
        let end = self.span(&pair).end;
        let mut prefixes = Vec::new();
        let mut parts = pair.into_inner();
        let operand = loop {
            let part = next(&mut parts);
            if part.as_rule() == Rule::postfix {
                break part;
            }
            let op = if part.as_str() == "-" {
                UnaryOp::Negate
            } else {
                UnaryOp::Not
            };
            prefixes.push((op, part.as_span().start()));
        };
        let n_links = self.link(prefixes.len(), self.span(&operand), "prefixes");
        prefixes.truncate(n_links);
        let operand = self.postfix(operand);
        self.unlink(n_links);
        prefixes
            .into_iter()
            .rev()
            .fold(operand, |operand, (op, start)| Expr {
                kind: ExprKind::Unary(op, Box::new(operand)),
                span: Span { start, end },
            })
    }

    fn postfix(&mut self, pair: Pair<'_, Rule>) -> Expr {
        let place = self.span(&pair);
        let mut parts = pair.into_inner();
        let primary = next(&mut parts);
        let n_links = self.link(parts.len(), place, "members, indices and calls");
        let mut subject = self.primary(primary);
        for part in parts.take(n_links) {
            let span = Span {
                start: subject.span.start,
                end: self.span(&part).end,
            };
            let kind = match part.as_rule() {
                Rule::index => {
                    let index = self.expr(next(&mut meaningful(part.into_inner())));
                    ExprKind::Index(Box::new(subject), Box::new(index))
                }
                Rule::member => {
                    let name = self.name(&inner(part));
                    ExprKind::Member(Box::new(subject), name)
                }
                _ => self.call(subject, part),
            };
            subject = Expr { kind, span };
        }
        self.unlink(n_links);
        subject
    }

    fn call(&mut self, subject: Expr, arguments: Pair<'_, Rule>) -> ExprKind {
        let callee = match subject.kind {
            ExprKind::Name(text) => Name {
                text,
                span: subject.span,
            },
            other => {
                let help = "only a name is called: a library function, a `fn`, a `part`; there are no methods";
                self.error("E105", subject.span, "this is no function", help);
                return other;
            }
        };
        let (mut args, mut named) = (Vec::new(), Vec::new());
        for argument in arguments
            .into_inner()
            .filter(|pair| pair.as_rule() == Rule::argument)
        {
            let argument = inner(argument);
            if argument.as_rule() == Rule::option {
                named.push(self.option(argument));
            } else {
                let value = self.expr(argument);
                if !named.is_empty() {
                    let help = "put the arguments without a name first";
                    self.error(
                        "E202",
                        value.span,
                        "an argument by position follows one by name",
                        help,
                    );
                }
                args.push(value);
            }
        }
        ExprKind::Call {
            callee,
            args,
            named,
        }
    }

    fn primary(&mut self, pair: Pair<'_, Rule>) -> Expr {
        let span = self.span(&pair);
        let form = meaningful(pair.into_inner())
            .next()
            .expect("a primary has a form");
        let kind = match form.as_rule() {
            Rule::generation => self.generation(form),
            Rule::select => self.select(form),
            Rule::fork => self.fork(form),
            Rule::best => self.best(form),
            Rule::string => ExprKind::Template(self.template(form)),
            Rule::number => ExprKind::Literal(self.number(&form)),
            Rule::constant => ExprKind::Literal(constant(form.as_str())),
            Rule::list => return self.list(form),
            Rule::map => self.map(form),
            Rule::regex => ExprKind::Regex(regex_text(form.as_str())),
            Rule::expr => {
                return Expr {
                    kind: self.expr(form).kind,
                    span,
                };
            }
            _ => ExprKind::Name(form.as_str().to_owned()),
        };
        Expr { kind, span }
    }

    fn generation(&mut self, pair: Pair<'_, Rule>) -> ExprKind {
        let mut generation = Gen {
            name: None,
            ty: None,
            options: Vec::new(),
        };
        for part in meaningful(pair.into_inner()) {
            if part.as_rule() == Rule::option {
                generation.options.push(self.option(part));
                continue;
            }
            for head in meaningful(part.into_inner()) {
                match head.as_rule() {
                    Rule::option => generation.options.push(self.option(head)),
                    Rule::gen_name => generation.name = Some(self.name(&inner(head))),
                    _ => generation.ty = Some(self.ty(head)),
                }
            }
        }
        ExprKind::Gen(generation)
    }

    fn select(&mut self, pair: Pair<'_, Rule>) -> ExprKind {
        let mut name = None;
        let mut choices = None;
        let mut options = Vec::new();
        for part in meaningful(pair.into_inner()) {
            match part.as_rule() {
                Rule::name => name = Some(self.name(&part)),
                Rule::option => options.push(self.option(part)),
                _ => choices = Some(self.expr(part)),
            }
        }
        let choices = Box::new(choices.expect("a select has choices"));
        ExprKind::Select(Select {
            name,
            choices,
            options,
        })
    }

    fn fork(&mut self, pair: Pair<'_, Rule>) -> ExprKind {
        let mut parts = meaningful(pair.into_inner()).peekable();
        let name = parts
            .next_if(|pair| pair.as_rule() == Rule::name)
            .map(|pair| self.name(&pair));
        let over = Box::new(self.expr(next(&mut parts)));
        let options = parts.next_if(|pair| pair.as_rule() == Rule::with);
        let options = self.with(options);
        ExprKind::Fork(Fork {
            name,
            over,
            options,
            body: self.block(next(&mut parts)),
        })
    }

    fn best(&mut self, pair: Pair<'_, Rule>) -> ExprKind {
        let mut parts = meaningful(pair.into_inner()).peekable();
        let n = Box::new(self.expr(next(&mut parts)));
        let by = Box::new(self.expr(next(&mut parts)));
        let options = parts.next_if(|pair| pair.as_rule() == Rule::with);
        let options = self.with(options);
        ExprKind::Best(Best {
            n,
            by,
            options,
            body: self.block(next(&mut parts)),
        })
    }

    pub(super) fn list(&mut self, pair: Pair<'_, Rule>) -> Expr {
        let span = self.span(&pair);
        let mut values = Vec::new();
        let mut over = None;
        for part in meaningful(pair.into_inner()) {
            match part.as_rule() {
                Rule::comprehension => over = Some(part),
                _ => values.push(self.expr(part)),
            }
        }
        let Some(over) = over else {
            return Expr {
                kind: ExprKind::List(values),
                span,
            };
        };
        let mut parts = meaningful(over.into_inner());
        let name = self.name(&next(&mut parts));
        let list = Box::new(self.expr(next(&mut parts)));
        let condition = parts.next().map(|pair| Box::new(self.expr(pair)));
        let element = Box::new(values.pop().expect("a comprehension has an element"));
        Expr {
            kind: ExprKind::Comprehension {
                element,
                name,
                list,
                condition,
            },
            span,
        }
    }

    fn map(&mut self, pair: Pair<'_, Rule>) -> ExprKind {
        let pairs = pair
            .into_inner()
            .filter(|pair| pair.as_rule() == Rule::pair);
        let entries = pairs.map(|pair| {
            let mut parts = meaningful(pair.into_inner());
            let key = next(&mut parts);
            let span = self.span(&key);
            let text = match key.as_rule() {
                Rule::string => self.plain_string(key, "a key"),
                _ => key.as_str().to_owned(),
            };
            (Name { text, span }, self.expr(next(&mut parts)))
        });
        ExprKind::Map(entries.collect())
    }

    /// A number with its suffix; 0 in the place of one that is out of range.
    pub(super) fn number(&mut self, pair: &Pair<'_, Rule>) -> Literal {
        number::parse(pair.as_str()).unwrap_or_else(|message| {
            let span = self.span(pair);
            self.error(
                "E007",
                span,
                message,
                "numbers are written 12, 1.5, 2e3, 8k, 3m; times 250ms, 10s, 2min",
            );
            Literal::Number(Number::Int(0))
        })
    }

    /// A string that may have no holes.
    pub(super) fn plain_string(&mut self, pair: Pair<'_, Rule>, what: &str) -> String {
        let mut template = self.template(pair);
        match (template.parts.pop(), template.parts.is_empty()) {
            (None, _) => String::new(),
            (Some(TemplatePart::Text(text, _)), true) => text,
            _ => {
                let help = "write it out; `$${` is a literal `${`";
                self.error(
                    "E016",
                    template.span,
                    format!("{what} is a string without `${{..}}`"),
                    help,
                );
                String::new()
            }
        }
    }

    pub(super) fn template(&mut self, pair: Pair<'_, Rule>) -> Template {
        let span = self.span(&pair);
        let form = inner(pair);
        let is_block = form.as_rule() == Rule::block_string;
        let mut pieces = Vec::new();
        for part in form.into_inner() {
            let place = Span {
                start: part.as_span().start(),
                end: part.as_span().end(),
            };
            pieces.push(match part.as_rule() {
                Rule::hole => Piece::Hole(self.expr(inner(part))),
                Rule::dollar => Piece::Meant("${".to_owned(), place),
                Rule::raw_text => Piece::Meant(part.as_str().replace("\r\n", "\n"), place),
                Rule::escape => match text::escape(part.as_str(), place) {
                    Ok(meant) => Piece::Meant(meant, place),
                    Err(error) => {
                        self.errors.push(error);
                        continue;
                    }
                },
                _ => Piece::Text(part.as_str(), place),
            });
        }
        if is_block {
            pieces = text::unindent(pieces, span).unwrap_or_else(|error| {
                self.errors.push(error);
                Vec::new()
            });
        }
        Template {
            parts: text::join(pieces),
            span,
        }
    }
}

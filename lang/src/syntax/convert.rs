//! From pest's pairs to the syntax tree: items. Statements, types and expressions have files of their own.
//!
//! The grammar has accepted the text, so the shape of every pair is known and `expect` states it. What the grammar
//! cannot say (escapes, layout of blocks, sizes of numbers, lengths of chains) is reported here, and the node is kept
//! with a harmless stand-in so that the rest is still checked.

use pest::iterators::{Pair, Pairs};

use super::Rule;
use super::scan::Token;
use crate::Diagnostic;
use crate::ast::*;

mod expr;
mod stmt;
mod ty;

/// The most links of chains around one place: `a + b + ..`, `x.a.b..`, `else if ..`. The tree nests as deep as a chain
/// is long, and chains nest in brackets; with the depth of those this bounds the tree's.
const MAX_CHAIN: usize = 256;

/// Walks pairs; collects what is wrong with them.
pub(super) struct Converter<'s> {
    source: &'s str,
    tokens: &'s [Token],
    /// Names of the file's parts: a call of one emits by itself, any other value needs a hole.
    parts: Vec<String>,
    /// Links of the chains around the place.
    n_links: usize,
    pub(super) errors: Vec<Diagnostic>,
}

impl<'s> Converter<'s> {
    pub(super) fn new(source: &'s str, tokens: &'s [Token]) -> Converter<'s> {
        let text = |token: &Token| &source[token.span.start..token.span.end];
        let parts = tokens
            .windows(2)
            .filter(|pair| text(&pair[0]) == "part")
            .map(|pair| text(&pair[1]).to_owned())
            .collect();
        Converter {
            source,
            tokens,
            parts,
            n_links: 0,
            errors: Vec::new(),
        }
    }

    fn error(&mut self, code: &'static str, span: Span, message: impl Into<String>, help: &str) {
        self.errors
            .push(Diagnostic::new(code, span, message).help(help));
    }

    /// Opens a chain of `n` links; how many of them there is room for beside the chains around it.
    fn link(&mut self, n: usize, span: Span, what: &str) -> usize {
        let room = MAX_CHAIN.saturating_sub(self.n_links);
        if n > room {
            let message = format!("more than {MAX_CHAIN} {what}, with what stands around them");
            self.error(
                "E004",
                span,
                message,
                "name a part of it: `let`, `fn`, `type`",
            );
        }
        self.n_links += n.min(room);
        n.min(room)
    }

    /// Closes a chain.
    fn unlink(&mut self, n_links: usize) {
        self.n_links -= n_links;
    }

    /// The pair's place without the blanks and comments pest counts into its end.
    fn span(&self, pair: &Pair<'_, Rule>) -> Span {
        let span = pair.as_span();
        let n_before = self
            .tokens
            .partition_point(|token| token.span.end <= span.end());
        let end = n_before
            .checked_sub(1)
            .map_or(span.end(), |idx| self.tokens[idx].span.end);
        let end = if end > span.start() { end } else { span.end() };
        Span {
            start: span.start(),
            end,
        }
    }

    fn name(&self, pair: &Pair<'_, Rule>) -> Name {
        let span = pair.as_span();
        Name {
            text: pair.as_str().to_owned(),
            span: Span {
                start: span.start(),
                end: span.end(),
            },
        }
    }

    /// The whole file.
    pub(super) fn file(&mut self, pair: Pair<'_, Rule>) -> File {
        let mut file = File::default();
        file.body.span = Span {
            start: 0,
            end: self.source.len(),
        };
        for entry in pair
            .into_inner()
            .filter(|pair| pair.as_rule() == Rule::entry)
        {
            let mut docs = Vec::new();
            let mut place = Span::default();
            for part in entry.into_inner() {
                match part.as_rule() {
                    Rule::doc => {
                        place = Span {
                            start: part.as_span().start(),
                            end: part.as_span().end(),
                        };
                        docs.push(doc_line(part.as_str()));
                    }
                    Rule::item => {
                        let span = self.span(&part);
                        let kind = self.item(inner(part));
                        file.items.push(Item {
                            docs: std::mem::take(&mut docs),
                            kind,
                            span,
                        });
                    }
                    _ => {
                        if !docs.is_empty() {
                            let message = "this `///` comment documents nothing";
                            let help = "`///` stands above an item or a field; use `//` here";
                            self.error("W208", place, message, help);
                        }
                        file.body.stmts.push(self.statement(part));
                    }
                }
            }
        }
        file
    }

    fn item(&mut self, pair: Pair<'_, Rule>) -> ItemKind {
        let rule = pair.as_rule();
        let mut parts = meaningful(pair.into_inner()).peekable();
        match rule {
            Rule::import => self.import(next(&mut parts)),
            Rule::model => {
                let name = self.plain_string(next(&mut parts), "a model's name");
                ItemKind::Model {
                    name,
                    options: self.with(parts.next()),
                }
            }
            Rule::budget => ItemKind::Budget {
                options: self.with(parts.next()),
            },
            Rule::input => {
                let name = self.name(&next(&mut parts));
                let ty = self.ty(next(&mut parts));
                ItemKind::Input {
                    name,
                    ty,
                    default: parts.next().map(|pair| self.expr(pair)),
                }
            }
            Rule::type_item => {
                let name = self.name(&next(&mut parts));
                ItemKind::Type {
                    name,
                    ty: self.ty_or_record(next(&mut parts)),
                }
            }
            Rule::tool => self.tool(parts),
            Rule::test_item => {
                let name = self.plain_string(next(&mut parts), "a test's name");
                let options = parts.next_if(|pair| pair.as_rule() == Rule::with);
                let options = self.with(options);
                ItemKind::Test {
                    name,
                    options,
                    body: self.block(next(&mut parts)),
                }
            }
            _ => {
                let name = self.name(&next(&mut parts));
                let params = self.params(next(&mut parts));
                let ret = parts.next_if(|pair| pair.as_rule() == Rule::result);
                let ret = ret.map(|pair| self.result(pair));
                let callable = Callable {
                    name,
                    params,
                    ret,
                    body: self.block(next(&mut parts)),
                };
                if rule == Rule::fn_item {
                    ItemKind::Fn(callable)
                } else {
                    ItemKind::Part(callable)
                }
            }
        }
    }

    fn import(&mut self, pair: Pair<'_, Rule>) -> ItemKind {
        let named = pair.as_rule() == Rule::import_names;
        let mut import = Import {
            names: Vec::new(),
            from: String::new(),
            alias: None,
        };
        for part in pair.into_inner() {
            match part.as_rule() {
                Rule::name if named => import.names.push(self.name(&part)),
                Rule::name => import.alias = Some(self.name(&part)),
                Rule::string => import.from = self.plain_string(part, "an import's file"),
                _ => {}
            }
        }
        ItemKind::Import(import)
    }

    fn tool<'i>(
        &mut self,
        mut parts: std::iter::Peekable<impl Iterator<Item = Pair<'i, Rule>>>,
    ) -> ItemKind {
        let name = self.name(&next(&mut parts));
        let params = self.params(next(&mut parts));
        let ret = parts
            .next_if(|pair| pair.as_rule() == Rule::result)
            .map(|pair| self.result(pair));
        let bound = inner(next(&mut parts));
        let binding = match bound.as_rule() {
            Rule::bind_run => {
                let list = bound
                    .into_inner()
                    .last()
                    .expect("`run` is followed by a list");
                Binding::Run(self.list(list))
            }
            Rule::bind_http => {
                let mut parts = bound.into_inner().skip(1);
                let method = self.name(&next(&mut parts));
                let url = self.template(next(&mut parts));
                Binding::Http {
                    method,
                    url,
                    options: self.with(parts.next()),
                }
            }
            Rule::bind_mcp => {
                let server = bound
                    .into_inner()
                    .last()
                    .expect("`mcp` is followed by a string");
                Binding::Mcp(self.plain_string(server, "a server's name"))
            }
            Rule::block => Binding::Block(self.block(bound)),
            _ => Binding::Host,
        };
        ItemKind::Tool(Tool {
            name,
            params,
            ret,
            binding,
        })
    }

    fn result(&mut self, pair: Pair<'_, Rule>) -> Type {
        let ty = pair
            .into_inner()
            .last()
            .expect("an arrow is followed by a type");
        self.ty(ty)
    }

    fn params(&mut self, pair: Pair<'_, Rule>) -> Vec<Param> {
        let params = pair
            .into_inner()
            .filter(|pair| pair.as_rule() == Rule::param);
        params
            .map(|param| {
                let mut parts = meaningful(param.into_inner());
                let name = self.name(&next(&mut parts));
                let ty = self.ty(next(&mut parts));
                Param {
                    name,
                    ty,
                    default: parts.next().map(|pair| self.expr(pair)),
                }
            })
            .collect()
    }

    /// The options of a `with` or of a parenthesis; none when it is absent.
    fn with(&mut self, pair: Option<Pair<'_, Rule>>) -> Vec<Opt> {
        let Some(pair) = pair else { return Vec::new() };
        let list = match pair.as_rule() {
            Rule::with => pair
                .into_inner()
                .last()
                .expect("`with` is followed by options"),
            _ => pair,
        };
        let options = list
            .into_inner()
            .filter(|pair| pair.as_rule() == Rule::option);
        options.map(|option| self.option(option)).collect()
    }

    fn option(&mut self, pair: Pair<'_, Rule>) -> Opt {
        let mut parts = meaningful(pair.into_inner());
        let name = self.name(&next(&mut parts));
        Opt {
            name,
            value: self.expr(next(&mut parts)),
        }
    }
}

/// A doc comment's text: without the marker and one space.
fn doc_line(text: &str) -> String {
    let text = text.trim_start_matches("///").trim_end_matches('\r');
    text.strip_prefix(' ').unwrap_or(text).to_owned()
}

/// The only child.
fn inner(pair: Pair<'_, Rule>) -> Pair<'_, Rule> {
    pair.into_inner()
        .next()
        .expect("the grammar gives this rule a child")
}

fn next<'i>(parts: &mut impl Iterator<Item = Pair<'i, Rule>>) -> Pair<'i, Rule> {
    parts.next().expect("the grammar requires this child")
}

/// Keywords and punctuation, which have rules for messages only.
fn is_marker(rule: Rule) -> bool {
    matches!(
        rule,
        Rule::colon
            | Rule::equals
            | Rule::comma
            | Rule::arrow
            | Rule::fat_arrow
            | Rule::open_paren
            | Rule::close_paren
            | Rule::open_brace
            | Rule::close_brace
            | Rule::close_bracket
            | Rule::kw_let
            | Rule::kw_var
            | Rule::kw_if
            | Rule::kw_else
            | Rule::kw_for
            | Rule::kw_in
            | Rule::kw_loop
            | Rule::kw_max
            | Rule::kw_match
            | Rule::kw_attempt
            | Rule::kw_retry
            | Rule::kw_return
            | Rule::kw_yield
            | Rule::kw_assert
            | Rule::kw_fail
            | Rule::kw_pin
            | Rule::kw_gen
            | Rule::kw_select
            | Rule::kw_fork
            | Rule::kw_best
            | Rule::kw_by
            | Rule::kw_fn
            | Rule::kw_part
            | Rule::kw_type
            | Rule::kw_tool
            | Rule::kw_import
            | Rule::kw_from
            | Rule::kw_as
            | Rule::kw_input
            | Rule::kw_model
            | Rule::kw_budget
            | Rule::kw_test
            | Rule::kw_run
            | Rule::kw_http
            | Rule::kw_mcp
            | Rule::kw_call
            | Rule::kw_schema
            | Rule::kw_grammar
            | Rule::kw_with
    )
}

/// The children that carry meaning.
fn meaningful(pairs: Pairs<'_, Rule>) -> impl Iterator<Item = Pair<'_, Rule>> {
    pairs.filter(|pair| !is_marker(pair.as_rule()))
}

//! Structural tags: free text in which constrained spans begin at triggers.
//!
//! They are a grammar whose terminals are scans ([`scan`]) and whole constraints: text up to a
//! trigger, the rest of a tag that begins so, and again; at the end text without a trigger.

pub(crate) mod scan;
#[cfg(test)]
mod tests;

use regex_syntax::hir::Hir;

use crate::cfg::expr::{Expr, Grammar, Rule};
use crate::cfg::terminal::Terminal;
use crate::tags::scan::Scan;
use crate::{Constraint, GrammarError, Limits};

/// A span within free text.
#[derive(Clone, Debug)]
pub struct StructuralTag {
    /// What it begins with; one of the triggers stands at its start.
    pub begin: String,
    /// What must follow.
    pub content: Constraint,
    /// What it ends with; may be empty.
    pub end: String,
}

/// Free text, valid UTF-8, with spans in it. As soon as the text holds a trigger, wherever that
/// ends, the rest of a tag that begins with the trigger must follow; then the text is free again.
#[derive(Clone, Debug, Default)]
pub struct StructuralTags {
    /// What turns free text into a tag. None of them may stand within another before its end.
    pub triggers: Vec<String>,
    /// The tags; each trigger begins one at least.
    pub tags: Vec<StructuralTag>,
    /// Fewest tags of an output.
    pub at_least: u32,
    /// Most tags of an output; text after the last holds no trigger.
    pub at_most: Option<u32>,
    /// Whether the output ends with its first tag.
    pub stop_after_first: bool,
    /// What an output may be instead, as a whole.
    pub or_else: Option<Constraint>,
}

impl StructuralTags {
    /// The grammar of the outputs.
    pub(crate) fn grammar(&self, limits: &Limits) -> Result<Grammar, GrammarError> {
        self.check_size(limits)?;
        self.check()?;
        let mut terminals = Vec::new();
        let mut add = |terminal: Terminal| {
            terminals.push(terminal);
            Expr::Terminal(terminals.len() - 1)
        };
        let scan = Scan::new(&self.triggers, limits)?;
        let mut calls = Vec::new();
        for (idx, trigger) in self.triggers.iter().enumerate() {
            let text = add(Terminal::Table(scan.until(idx)));
            let begun = self
                .tags
                .iter()
                .filter(|tag| tag.begin.starts_with(trigger.as_str()));
            let rests = begun.map(|tag| {
                Expr::Sequence(vec![
                    Expr::literal(&tag.begin[trigger.len()..]),
                    whole(&tag.content, &mut add),
                    Expr::literal(&tag.end),
                ])
            });
            calls.push(Expr::Sequence(vec![text, Expr::Choice(rests.collect())]));
        }
        let call = Expr::Choice(calls);
        let text = add(Terminal::Table(scan.free()));
        let mut options = Vec::new();
        if self.stop_after_first {
            options.push(call);
            if self.at_least == 0 {
                options.push(text);
            }
        } else {
            let calls = call.repeat(self.at_least, self.at_most);
            options.push(Expr::Sequence(vec![calls, text]));
        }
        if let Some(instead) = &self.or_else {
            options.push(whole(instead, &mut add));
        }
        let rule = Rule {
            body: Expr::Choice(options),
            is_token: false,
        };
        let mut grammar = Grammar::new(vec![rule], 0, terminals, None);
        grammar.merge();
        Ok(grammar)
    }

    fn check_size(&self, limits: &Limits) -> Result<(), GrammarError> {
        let tag_bytes = self.tags.iter().map(|tag| tag.begin.len() + tag.end.len());
        let n_bytes: usize = tag_bytes.chain(self.triggers.iter().map(String::len)).sum();
        let over = |limit, allowed| GrammarError::Limit {
            what: "the tags".into(),
            limit,
            allowed,
        };
        if n_bytes > limits.source_bytes {
            return Err(over("source_bytes", limits.source_bytes));
        }
        if self.triggers.len() > limits.parses {
            return Err(over("parses", limits.parses));
        }
        if self.tags.len() > limits.alternatives {
            return Err(over("alternatives", limits.alternatives));
        }
        Ok(())
    }

    fn check(&self) -> Result<(), GrammarError> {
        let refuse = |message: String| Err(GrammarError::Tags { message });
        for (idx, trigger) in self.triggers.iter().enumerate() {
            if trigger.is_empty() {
                return refuse(format!("trigger {idx} is empty"));
            }
            if self.triggers[..idx].contains(trigger) {
                return refuse(format!("the trigger {trigger:?} is given twice"));
            }
            if !self
                .tags
                .iter()
                .any(|tag| tag.begin.starts_with(trigger.as_str()))
            {
                return refuse(format!("no tag begins with the trigger {trigger:?}"));
            }
            let hides = |other: &&String| {
                let places = trigger.match_indices(other.as_str());
                places
                    .into_iter()
                    .any(|(at, _)| at + other.len() < trigger.len())
            };
            if let Some(other) = self.triggers.iter().find(hides) {
                let message = format!("the trigger {other:?} always comes before {trigger:?}");
                return refuse(message);
            }
        }
        let begins = |tag: &&StructuralTag| {
            let mut triggers = self.triggers.iter();
            !triggers.any(|trigger| tag.begin.starts_with(trigger.as_str()))
        };
        if let Some(tag) = self.tags.iter().find(begins) {
            return refuse(format!("the tag {:?} begins with no trigger", tag.begin));
        }
        let n_most = if self.stop_after_first {
            Some(1)
        } else {
            self.at_most
        };
        match n_most {
            Some(most) if most < self.at_least => {
                let least = self.at_least;
                refuse(format!(
                    "at least {least} tags are wanted, and at most {most}"
                ))
            }
            _ => Ok(()),
        }
    }
}

/// A constraint with its prefix.
fn whole(constraint: &Constraint, add: &mut impl FnMut(Terminal) -> Expr) -> Expr {
    let prefix = Expr::regular(Hir::literal(constraint.prefix().to_vec()));
    let content = add(Terminal::Nested(constraint.clone()));
    Expr::Sequence(vec![prefix, content])
}

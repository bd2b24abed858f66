//! Grammars as expressions, and the merging of their regular parts.
//!
//! A terminal costs a thread of the parser, a regex within it costs nothing. So whatever is regular
//! becomes one regex: terminals that name terminals, alternatives of terminals, and, where nothing
//! is ignored between terminals, sequences and repetitions too. Merging stops at a size and depth
//! that a regex's automaton takes easily; what is larger stays a rule, which means the same.

use regex_syntax::hir::{Hir, HirKind, Repetition};

use crate::cfg::terminal::{Terminal, literals};

/// States of a merged regex's automaton, roughly.
const MAX_WEIGHT: usize = 2_000;
/// Weight that merging may copy in all.
const MERGE_BUDGET: usize = 500_000;
/// Nesting of a merged regex.
const MAX_DEPTH: usize = 100;

/// What a rule stands for.
#[derive(Clone, Debug)]
pub(crate) enum Expr {
    Regular(Regular),
    /// Index into [`Grammar::rules`].
    Rule(usize),
    /// Index into [`Grammar::terminals`].
    Terminal(usize),
    Sequence(Vec<Expr>),
    Choice(Vec<Expr>),
    Repeat {
        body: Box<Expr>,
        min: u32,
        max: Option<u32>,
    },
}

/// A regex with what its automaton will cost.
#[derive(Clone, Debug)]
pub(crate) struct Regular {
    pub(crate) hir: Hir,
    weight: usize,
    depth: usize,
}

/// A named expression.
#[derive(Debug)]
pub(crate) struct Rule {
    pub(crate) body: Expr,
    /// Whether it is a terminal, within which nothing is ignored.
    pub(crate) is_token: bool,
}

/// A whole grammar.
#[derive(Debug)]
pub(crate) struct Grammar {
    pub(crate) rules: Vec<Rule>,
    pub(crate) start: usize,
    /// Terminals that are no regexes.
    pub(crate) terminals: Vec<Terminal>,
    /// What may stand, any number of times, before, between and after terminals.
    pub(crate) ignore: Option<Expr>,
    /// What merging may still copy.
    budget: usize,
}

impl Expr {
    pub(crate) fn regular(hir: Hir) -> Self {
        let (weight, depth) = measure(&hir);
        Self::Regular(Regular { hir, weight, depth })
    }

    pub(crate) fn literal(text: &str) -> Self {
        Self::regular(Hir::literal(text.as_bytes().to_vec()))
    }

    pub(crate) fn repeat(self, min: u32, max: Option<u32>) -> Self {
        let body = Box::new(self);
        Self::Repeat { body, min, max }
    }

    /// Calls `see` with the index of every rule that is mentioned.
    fn mentions(&self, see: &mut impl FnMut(usize)) {
        match self {
            Self::Regular(_) | Self::Terminal(_) => {}
            Self::Rule(rule) => see(*rule),
            Self::Sequence(parts) | Self::Choice(parts) => {
                parts.iter().for_each(|part| part.mentions(see));
            }
            Self::Repeat { body, .. } => body.mentions(see),
        }
    }
}

/// Roughly the automaton's states, and the nesting.
fn measure(hir: &Hir) -> (usize, usize) {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => (1, 1),
        HirKind::Literal(literal) => (literal.0.len(), 1),
        HirKind::Class(class) => {
            let n_ranges = match class {
                regex_syntax::hir::Class::Unicode(class) => class.ranges().len(),
                regex_syntax::hir::Class::Bytes(class) => class.ranges().len(),
            };
            (n_ranges + 2, 1)
        }
        HirKind::Repetition(repetition) => {
            let (weight, depth) = measure(&repetition.sub);
            let n_copies = repetition.max.unwrap_or(repetition.min).max(1) as usize;
            (weight.saturating_mul(n_copies).saturating_add(2), depth + 1)
        }
        HirKind::Capture(capture) => measure(&capture.sub),
        HirKind::Concat(parts) | HirKind::Alternation(parts) => {
            parts.iter().fold((1, 1), |(weight, depth), part| {
                let (part_weight, part_depth) = measure(part);
                (
                    weight.saturating_add(part_weight),
                    depth.max(part_depth + 1),
                )
            })
        }
    }
}

impl Grammar {
    pub(crate) fn new(
        rules: Vec<Rule>,
        start: usize,
        terminals: Vec<Terminal>,
        ignore: Option<Expr>,
    ) -> Self {
        Self {
            rules,
            start,
            terminals,
            ignore,
            budget: MERGE_BUDGET,
        }
    }

    /// The grammar of one terminal.
    pub(crate) fn of_terminal(terminal: Terminal) -> Self {
        let rule = Rule {
            body: Expr::Terminal(0),
            is_token: true,
        };
        Self::new(vec![rule], 0, vec![terminal], None)
    }

    /// Merges what is regular, from the rules that mention no others upward. Returns a terminal
    /// that contains itself, if there is one.
    pub(crate) fn merge(&mut self) -> Option<usize> {
        let mut users = vec![Vec::new(); self.rules.len()];
        let mut n_pending = vec![0_usize; self.rules.len()];
        for (idx, rule) in self.rules.iter().enumerate() {
            rule.body.mentions(&mut |mentioned| {
                users[mentioned].push(idx);
                n_pending[idx] += 1;
            });
        }
        let mut ready: Vec<usize> = (0..self.rules.len())
            .filter(|&idx| n_pending[idx] == 0)
            .collect();
        let mut is_done = vec![false; self.rules.len()];
        while let Some(idx) = ready.pop() {
            self.merge_rule(idx);
            is_done[idx] = true;
            for &user in &users[idx] {
                n_pending[user] -= 1;
                if n_pending[user] == 0 {
                    ready.push(user);
                }
            }
        }
        let recursive = is_done.iter().enumerate().filter(|(_, is_done)| !**is_done);
        for (idx, _) in recursive {
            if self.rules[idx].is_token {
                return Some(idx);
            }
            self.merge_rule(idx);
        }
        if let Some(ignore) = self.ignore.take() {
            self.ignore = Some(self.merged(ignore.repeat(0, None), true));
        }
        None
    }

    /// For each rule, whether the start rule needs it.
    pub(crate) fn needed(&self) -> Vec<bool> {
        let mut needed = vec![false; self.rules.len()];
        let mut stack = vec![self.start];
        if let Some(ignore) = &self.ignore {
            ignore.mentions(&mut |rule| stack.push(rule));
        }
        while let Some(rule) = stack.pop() {
            if !std::mem::replace(&mut needed[rule], true) {
                self.rules[rule].body.mentions(&mut |rule| stack.push(rule));
            }
        }
        needed
    }

    fn merge_rule(&mut self, idx: usize) {
        let placeholder = Expr::Sequence(Vec::new());
        let body = std::mem::replace(&mut self.rules[idx].body, placeholder);
        let adjoin = self.rules[idx].is_token || self.ignore.is_none();
        self.rules[idx].body = self.merged(body, adjoin);
    }

    /// The expression with its regular parts merged; `adjoin` says that nothing is ignored within.
    fn merged(&mut self, expr: Expr, adjoin: bool) -> Expr {
        match expr {
            Expr::Regular(_) | Expr::Terminal(_) => expr,
            Expr::Rule(rule) => match &self.rules[rule].body {
                Expr::Regular(regular) if regular.weight <= self.budget => {
                    self.budget -= regular.weight;
                    Expr::Regular(regular.clone())
                }
                _ => expr,
            },
            Expr::Sequence(parts) => {
                let parts = parts.into_iter().map(|part| self.merged(part, adjoin));
                if adjoin {
                    sequence(parts)
                } else {
                    single_or(parts.collect(), Expr::Sequence)
                }
            }
            Expr::Choice(parts) => choice(parts.into_iter().map(|part| self.merged(part, adjoin))),
            Expr::Repeat { body, min, max } => {
                let body = self.merged(*body, adjoin);
                match body {
                    Expr::Regular(regular) if adjoin && regular.can_repeat(min, max) => {
                        Expr::Regular(regular.repeated(min, max))
                    }
                    body => body.repeat(min, max),
                }
            }
        }
    }
}

impl Regular {
    fn can_repeat(&self, min: u32, max: Option<u32>) -> bool {
        let n_copies = max.unwrap_or(min).max(1) as usize;
        self.weight.saturating_mul(n_copies) <= MAX_WEIGHT && self.depth < MAX_DEPTH
    }

    fn repeated(self, min: u32, max: Option<u32>) -> Self {
        let n_copies = max.unwrap_or(min).max(1) as usize;
        Self {
            weight: self.weight * n_copies + 2,
            depth: self.depth + 1,
            hir: Hir::repetition(Repetition {
                min,
                max,
                greedy: true,
                sub: Box::new(self.hir),
            }),
        }
    }
}

/// A sequence whose neighbouring regexes are one.
fn sequence(parts: impl Iterator<Item = Expr>) -> Expr {
    let mut merged: Vec<Expr> = Vec::new();
    let mut run: Vec<Regular> = Vec::new();
    for part in parts {
        match part {
            Expr::Regular(regular) => {
                let weight: usize = run.iter().map(|part| part.weight).sum();
                if weight + regular.weight > MAX_WEIGHT || regular.depth >= MAX_DEPTH {
                    flush(&mut run, &mut merged, Hir::concat);
                }
                run.push(regular);
            }
            other => {
                flush(&mut run, &mut merged, Hir::concat);
                merged.push(other);
            }
        }
    }
    if merged.is_empty() && run.is_empty() {
        return Expr::regular(Hir::empty());
    }
    flush(&mut run, &mut merged, Hir::concat);
    single_or(merged, Expr::Sequence)
}

/// A choice whose regexes are one, but for its literals if they are many: those become a trie.
fn choice(parts: impl Iterator<Item = Expr>) -> Expr {
    let (regular, mut merged): (Vec<Expr>, Vec<Expr>) =
        parts.partition(|part| matches!(part, Expr::Regular(_)));
    let mut words: Vec<Regular> = Vec::new();
    let mut others: Vec<Regular> = Vec::new();
    for part in regular {
        match part {
            Expr::Regular(regular) if literals(&regular.hir).is_some() => words.push(regular),
            Expr::Regular(regular) => others.push(regular),
            _ => unreachable!("partitioned above"),
        }
    }
    let mut run: Vec<Regular> = Vec::new();
    let mut weight = 0;
    flush(&mut words, &mut merged, Hir::alternation);
    if !others.is_empty()
        && let Some(Expr::Regular(words)) = merged.pop_if(|last| is_light(last))
    {
        weight = words.weight;
        run.push(words);
    }
    for regular in others {
        if weight + regular.weight > MAX_WEIGHT || regular.depth >= MAX_DEPTH {
            flush(&mut run, &mut merged, Hir::alternation);
            weight = 0;
        }
        weight += regular.weight;
        run.push(regular);
    }
    flush(&mut run, &mut merged, Hir::alternation);
    single_or(merged, Expr::Choice)
}

fn is_light(expr: &Expr) -> bool {
    matches!(expr, Expr::Regular(regular) if regular.weight <= MAX_WEIGHT)
}

fn flush(run: &mut Vec<Regular>, merged: &mut Vec<Expr>, join: impl FnOnce(Vec<Hir>) -> Hir) {
    match run.len() {
        0 => {}
        1 => merged.extend(run.drain(..).map(Expr::Regular)),
        _ => {
            let weight = run.iter().map(|regular| regular.weight).sum();
            let depth = run.iter().map(|regular| regular.depth).max().unwrap_or(0) + 1;
            let hir = join(run.drain(..).map(|regular| regular.hir).collect());
            merged.push(Expr::Regular(Regular { hir, weight, depth }));
        }
    }
}

fn single_or(mut parts: Vec<Expr>, wrap: impl FnOnce(Vec<Expr>) -> Expr) -> Expr {
    match parts.len() {
        1 => parts.remove(0),
        _ => wrap(parts),
    }
}

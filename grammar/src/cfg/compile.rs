//! Rules as automata over terminals and rules.
//!
//! A *position* is a state of a rule's automaton, after Thompson's construction. Each has a cost,
//! the fewest bytes from it to the end of its rule, by Knuth's generalisation of Dijkstra's
//! algorithm; a position without one derives nothing and is never entered, which is what keeps
//! every parse live.
//!
//! Source: D. E. Knuth, "A generalization of Dijkstra's algorithm", IPL 6(1), 1977.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use regex_syntax::hir::Hir;

use crate::cfg::expr::{Expr, Grammar};
use crate::cfg::terminal::Terminal;
use crate::{GrammarError, Limits};

/// Index of a [`Position`].
pub(crate) type PositionId = u32;
/// Index of a rule.
pub(crate) type RuleId = u32;

/// The cost of what derives nothing. What would take more bytes than this counts as nothing too.
pub(crate) const UNREACHABLE: usize = u32::MAX as usize;

/// A state of a rule's automaton.
#[derive(Debug)]
pub(crate) enum Position {
    /// Any of these, without a byte.
    Split(Vec<PositionId>),
    /// A terminal, by its index.
    Terminal { terminal: u32, next: PositionId },
    /// A rule as a whole.
    Call { rule: RuleId, next: PositionId },
    /// The end of the rule.
    End,
}

/// A compiled grammar, but for its terminals.
#[derive(Debug)]
pub(crate) struct Graph {
    pub(crate) positions: Vec<Position>,
    /// The rule of each position. [n_positions]
    pub(crate) owners: Vec<RuleId>,
    /// Fewest bytes to the end of the rule. [n_positions]
    pub(crate) costs: Vec<usize>,
    /// The first position of each rule. [n_rules]
    pub(crate) starts: Vec<PositionId>,
    /// The rule that every output derives from.
    pub(crate) root: RuleId,
    /// Fewest bytes of each terminal. [n_terminals]
    pub(crate) terminal_costs: Vec<usize>,
}

impl Graph {
    /// Fewest bytes that `rule` derives.
    pub(crate) fn rule_cost(&self, rule: RuleId) -> usize {
        self.costs[self.starts[rule as usize] as usize]
    }

    /// Whether anything can be derived from the position.
    pub(crate) fn is_live(&self, position: PositionId) -> bool {
        self.costs[position as usize] < UNREACHABLE
    }
}

/// Compiles a grammar into its positions and its terminals.
pub(crate) fn compile(
    mut grammar: Grammar,
    limits: &Limits,
) -> Result<(Graph, Vec<Terminal>), GrammarError> {
    let mut compiler = Compiler {
        graph: Graph {
            positions: Vec::new(),
            owners: Vec::new(),
            costs: Vec::new(),
            starts: Vec::new(),
            root: grammar.rules.len() as RuleId,
            terminal_costs: Vec::new(),
        },
        terminals: Vec::new(),
        known: HashMap::new(),
        given: Vec::new(),
        is_token: grammar.rules.iter().map(|rule| rule.is_token).collect(),
        ignore: None,
        owner: grammar.rules.len() as RuleId,
        n_fixed_bytes: 0,
        limits,
    };
    for terminal in std::mem::take(&mut grammar.terminals) {
        let given = compiler.add_terminal(terminal)?;
        compiler.given.push(given);
    }
    // The root rule: what is ignored at the beginning, then the start rule.
    let end = compiler.add(Position::End)?;
    let call = compiler.expr(&Expr::Rule(grammar.start), end, true)?;
    let ignored = match &grammar.ignore {
        Some(ignore) => compiler.expr(ignore, call, true)?,
        None => call,
    };
    let needed = grammar.needed();
    compiler.ignore = grammar.ignore;
    for (idx, rule) in grammar.rules.iter().enumerate() {
        compiler.owner = idx as RuleId;
        let start = if needed[idx] {
            let end = compiler.add(Position::End)?;
            compiler.expr(&rule.body, end, rule.is_token)?
        } else {
            compiler.add(Position::Split(Vec::new()))?
        };
        compiler.graph.starts.push(start);
    }
    let mut graph = compiler.graph;
    graph.starts.push(ignored);
    graph.costs = costs(&graph);
    if !graph.is_live(ignored) {
        return Err(GrammarError::Empty {
            reason: "the grammar derives no text".into(),
        });
    }
    Ok((graph, compiler.terminals))
}

struct Compiler<'a> {
    graph: Graph,
    terminals: Vec<Terminal>,
    /// Regexes met so far with their terminals, by their spelling.
    known: HashMap<String, Vec<(Hir, Occurrence)>>,
    /// The terminals that are no regexes.
    given: Vec<Occurrence>,
    is_token: Vec<bool>,
    ignore: Option<Expr>,
    owner: RuleId,
    n_fixed_bytes: usize,
    limits: &'a Limits,
}

/// What stands for a terminal.
#[derive(Clone, Copy, Debug)]
enum Occurrence {
    Terminal(u32),
    /// It holds the empty string alone.
    Empty,
    /// It holds nothing.
    Nothing,
}

impl Compiler<'_> {
    fn add(&mut self, position: Position) -> Result<PositionId, GrammarError> {
        let id = self.graph.positions.len();
        if id >= self.limits.grammar_positions {
            return Err(GrammarError::Limit {
                what: "the grammar".into(),
                limit: "grammar_positions",
                allowed: self.limits.grammar_positions,
            });
        }
        self.graph.positions.push(position);
        self.graph.owners.push(self.owner);
        Ok(id as PositionId)
    }

    /// The first position of `expr` followed by `next`. Within a token nothing is ignored.
    fn expr(
        &mut self,
        expr: &Expr,
        next: PositionId,
        in_token: bool,
    ) -> Result<PositionId, GrammarError> {
        match expr {
            Expr::Regular(regular) => {
                let occurrence = self.regex(&regular.hir)?;
                self.terminal(occurrence, next, in_token)
            }
            Expr::Terminal(idx) => self.terminal(self.given[*idx], next, in_token),
            Expr::Rule(rule) => {
                let next = match self.is_token[*rule] && !in_token {
                    true => self.then_ignored(next)?,
                    false => next,
                };
                let rule = *rule as RuleId;
                self.add(Position::Call { rule, next })
            }
            Expr::Sequence(parts) => parts
                .iter()
                .rev()
                .try_fold(next, |next, part| self.expr(part, next, in_token)),
            Expr::Choice(parts) => {
                let options: Result<Vec<_>, _> = parts
                    .iter()
                    .map(|part| self.expr(part, next, in_token))
                    .collect();
                self.add(Position::Split(options?))
            }
            Expr::Repeat { body, min, max } => self.repeat(body, (*min, *max), next, in_token),
        }
    }

    fn repeat(
        &mut self,
        body: &Expr,
        (min, max): (u32, Option<u32>),
        next: PositionId,
        in_token: bool,
    ) -> Result<PositionId, GrammarError> {
        let mut first = next;
        match max {
            None => {
                let fork = self.add(Position::Split(Vec::new()))?;
                let entry = self.expr(body, fork, in_token)?;
                self.graph.positions[fork as usize] = Position::Split(vec![entry, next]);
                first = fork;
            }
            Some(max) => {
                for _ in min..max {
                    let entry = self.expr(body, first, in_token)?;
                    first = self.add(Position::Split(vec![entry, next]))?;
                }
            }
        }
        for _ in 0..min {
            first = self.expr(body, first, in_token)?;
        }
        Ok(first)
    }

    fn terminal(
        &mut self,
        occurrence: Occurrence,
        next: PositionId,
        in_token: bool,
    ) -> Result<PositionId, GrammarError> {
        match occurrence {
            Occurrence::Empty => Ok(next),
            Occurrence::Nothing => self.add(Position::Split(Vec::new())),
            Occurrence::Terminal(terminal) => {
                let next = if in_token {
                    next
                } else {
                    self.then_ignored(next)?
                };
                self.add(Position::Terminal { terminal, next })
            }
        }
    }

    /// What is ignored after a terminal, then `next`.
    fn then_ignored(&mut self, next: PositionId) -> Result<PositionId, GrammarError> {
        match self.ignore.take() {
            None => Ok(next),
            Some(ignore) => {
                let entry = self.expr(&ignore, next, true);
                self.ignore = Some(ignore);
                entry
            }
        }
    }

    fn regex(&mut self, hir: &Hir) -> Result<Occurrence, GrammarError> {
        let spelling = hir.to_string();
        if let Some(alike) = self.known.get(&spelling)
            && let Some((_, occurrence)) = alike.iter().find(|(known, _)| known == hir)
        {
            return Ok(*occurrence);
        }
        let occurrence = match Terminal::of_hir(hir, self.limits)? {
            Some(terminal) => self.add_terminal(terminal)?,
            None => Occurrence::Nothing,
        };
        let alike = self.known.entry(spelling).or_default();
        alike.push((hir.clone(), occurrence));
        Ok(occurrence)
    }

    fn add_terminal(&mut self, mut terminal: Terminal) -> Result<Occurrence, GrammarError> {
        if !terminal.is_more_than_empty()? {
            return Ok(Occurrence::Empty);
        }
        self.n_fixed_bytes += terminal.fixed_bytes();
        if self.n_fixed_bytes > self.limits.nfa_bytes {
            return Err(GrammarError::Limit {
                what: "the grammar's terminals".into(),
                limit: "nfa_bytes",
                allowed: self.limits.nfa_bytes,
            });
        }
        let idx = self.terminals.len() as u32;
        let cost = terminal.distance(&terminal.start());
        self.graph.terminal_costs.push(cost);
        self.terminals.push(terminal);
        Ok(Occurrence::Terminal(idx))
    }
}

/// Who waits for a position: the positions before it, and the rules it begins.
struct Waiting {
    before: Vec<Vec<PositionId>>,
    begins: Vec<Option<RuleId>>,
    calls: Vec<Vec<PositionId>>,
}

impl Waiting {
    fn new(graph: &Graph) -> Self {
        let mut waiting = Self {
            before: vec![Vec::new(); graph.positions.len()],
            begins: vec![None; graph.positions.len()],
            calls: vec![Vec::new(); graph.starts.len()],
        };
        for (id, position) in graph.positions.iter().enumerate() {
            let id = id as PositionId;
            match position {
                Position::Split(options) => options
                    .iter()
                    .for_each(|&next| waiting.before[next as usize].push(id)),
                Position::Terminal { next, .. } => waiting.before[*next as usize].push(id),
                Position::Call { rule, next } => {
                    waiting.before[*next as usize].push(id);
                    waiting.calls[*rule as usize].push(id);
                }
                Position::End => {}
            }
        }
        for (rule, &start) in graph.starts.iter().enumerate() {
            waiting.begins[start as usize] = Some(rule as RuleId);
        }
        waiting
    }
}

/// Fewest bytes from each position to the end of its rule. [n_positions]
fn costs(graph: &Graph) -> Vec<usize> {
    let waiting = Waiting::new(graph);
    let mut costs = vec![UNREACHABLE; graph.positions.len()];
    let mut settled = vec![false; graph.positions.len()];
    let mut queue: BinaryHeap<Reverse<(usize, PositionId)>> = graph
        .positions
        .iter()
        .enumerate()
        .filter(|(_, position)| matches!(position, Position::End))
        .map(|(id, _)| Reverse((0, id as PositionId)))
        .collect();
    while let Some(Reverse((cost, id))) = queue.pop() {
        if std::mem::replace(&mut settled[id as usize], true) {
            continue;
        }
        costs[id as usize] = cost;
        let called = waiting.begins[id as usize].map(|rule| &waiting.calls[rule as usize]);
        for &from in waiting.before[id as usize]
            .iter()
            .chain(called.into_iter().flatten())
        {
            let through = match &graph.positions[from as usize] {
                Position::Split(_) => cost,
                Position::Terminal { terminal, .. } => {
                    cost.saturating_add(graph.terminal_costs[*terminal as usize])
                }
                // Either half may be the later one to settle.
                Position::Call { rule, next } => {
                    let start = graph.starts[*rule as usize] as usize;
                    costs[start].saturating_add(costs[*next as usize])
                }
                Position::End => unreachable!("nothing follows an end"),
            };
            if through < UNREACHABLE && !settled[from as usize] {
                queue.push(Reverse((through, from)));
            }
        }
    }
    costs
}

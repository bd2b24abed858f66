//! What follows from the grammar alone: which terminals a rule can begin with, and what a rule
//! completes when it stands at the beginning of another.
//!
//! A rule that calls another at its very beginning, itself among them, needs no entry on any stack:
//! both begin at the same byte. So within the *corner* of a rule, all rules that can begin it,
//! calls are edges of a fixed graph, and left recursion is a cycle in it.
//!
//! Source: D. J. Rosenkrantz and P. M. Lewis, "Deterministic left corner parsing", SWAT 1970;
//! J. Aycock and R. N. Horspool, "Practical Earley parsing", The Computer Journal 45(6), 2002, for
//! rules that derive nothing.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};
use std::sync::Arc;

use crate::cfg::compile::{Graph, Position, PositionId, RuleId};

/// Entries of [`Corners::reaches`] after which it starts anew.
const MAX_REACHED: usize = 1 << 20;

/// Visits that a position of a new corner counts for.
const CORNER_VISITS: usize = 8;

/// The rules that can begin one rule.
#[derive(Debug)]
pub(crate) struct Corner {
    /// The terminals it can begin with.
    pub(crate) entries: Vec<PositionId>,
    /// Where a rule's completion leads: after its calls in this corner.
    parents: HashMap<RuleId, Vec<PositionId>>,
    /// Fewest bytes from a rule's completion to that of the corner's rule.
    lifts: HashMap<RuleId, usize>,
    n_positions: usize,
}

/// What can come next at a position without a byte.
#[derive(Debug, Default)]
pub(crate) struct Reached {
    pub(crate) terminals: Vec<PositionId>,
    pub(crate) calls: Vec<PositionId>,
    /// Whether the corner's own rule may end here.
    pub(crate) completes: bool,
}

/// The corners met so far.
#[derive(Debug, Default)]
pub(crate) struct Corners {
    corners: HashMap<RuleId, Arc<Corner>>,
    reaches: HashMap<(PositionId, RuleId), Arc<Reached>>,
    n_reached: usize,
    /// Positions of all corners together.
    pub(crate) n_held: usize,
    /// Positions visited since this was last set to 0.
    pub(crate) n_visited: usize,
}

impl Corner {
    fn new(graph: &Graph, root: RuleId) -> Self {
        let mut corner = Self {
            entries: Vec::new(),
            parents: HashMap::new(),
            lifts: HashMap::new(),
            n_positions: 0,
        };
        let mut seen = HashSet::new();
        let mut stack = vec![graph.starts[root as usize]];
        while let Some(id) = stack.pop() {
            if !graph.is_live(id) || !seen.insert(id) {
                continue;
            }
            match &graph.positions[id as usize] {
                Position::Split(options) => stack.extend(options),
                Position::Terminal { terminal, next } => {
                    corner.entries.push(id);
                    if graph.terminal_costs[*terminal as usize] == 0 {
                        stack.push(*next);
                    }
                }
                Position::Call { rule, next } => {
                    corner.parents.entry(*rule).or_default().push(*next);
                    stack.push(graph.starts[*rule as usize]);
                    if graph.rule_cost(*rule) == 0 {
                        stack.push(*next);
                    }
                }
                Position::End => {}
            }
        }
        corner.n_positions = seen.len();
        corner.lifts = corner.lifts(graph, root);
        corner
    }

    fn lifts(&self, graph: &Graph, root: RuleId) -> HashMap<RuleId, usize> {
        let mut begun_by: HashMap<RuleId, Vec<(RuleId, usize)>> = HashMap::new();
        for (&rule, parents) in &self.parents {
            for &next in parents {
                let owner = graph.owners[next as usize];
                let cost = graph.costs[next as usize];
                begun_by.entry(owner).or_default().push((rule, cost));
            }
        }
        let mut lifts = HashMap::new();
        let mut queue = BinaryHeap::from([Reverse((0_usize, root))]);
        while let Some(Reverse((lift, rule))) = queue.pop() {
            if lifts.contains_key(&rule) {
                continue;
            }
            lifts.insert(rule, lift);
            for &(begun, cost) in begun_by.get(&rule).into_iter().flatten() {
                queue.push(Reverse((lift.saturating_add(cost), begun)));
            }
        }
        lifts
    }

    fn lift(&self, rule: RuleId) -> usize {
        self.lifts.get(&rule).copied().unwrap_or(0)
    }
}

impl Corners {
    /// Fewest bytes from the completion of `rule`, in the corner of `root`, to that of `root`. The
    /// corner was made when `root` was entered.
    pub(crate) fn lift(&self, root: RuleId, rule: RuleId) -> usize {
        self.corners
            .get(&root)
            .map_or(0, |corner| corner.lift(rule))
    }

    /// The corner of `rule`.
    pub(crate) fn corner(&mut self, graph: &Graph, rule: RuleId) -> Arc<Corner> {
        if let Some(known) = self.corners.get(&rule) {
            return Arc::clone(known);
        }
        let corner = Arc::new(Corner::new(graph, rule));
        self.n_held += corner.n_positions;
        self.n_visited += CORNER_VISITS * corner.n_positions;
        self.corners.insert(rule, Arc::clone(&corner));
        corner
    }

    /// What can come next at `from`, in the corner of `root`.
    pub(crate) fn reach(&mut self, graph: &Graph, from: PositionId, root: RuleId) -> Arc<Reached> {
        if let Some(known) = self.reaches.get(&(from, root)) {
            return Arc::clone(known);
        }
        let corner = self.corner(graph, root);
        let mut reached = Reached::default();
        let mut seen = HashSet::new();
        let mut stack = vec![from];
        while let Some(id) = stack.pop() {
            if !graph.is_live(id) || !seen.insert(id) {
                continue;
            }
            match &graph.positions[id as usize] {
                Position::Split(options) => stack.extend(options),
                Position::Terminal { terminal, next } => {
                    reached.terminals.push(id);
                    if graph.terminal_costs[*terminal as usize] == 0 {
                        stack.push(*next);
                    }
                }
                Position::Call { rule, next } => {
                    reached.calls.push(id);
                    if graph.rule_cost(*rule) == 0 {
                        stack.push(*next);
                    }
                }
                Position::End => {
                    let rule = graph.owners[id as usize];
                    reached.completes |= rule == root;
                    stack.extend(corner.parents.get(&rule).into_iter().flatten());
                }
            }
        }
        self.n_visited += seen.len();
        self.n_reached += reached.terminals.len() + reached.calls.len() + 1;
        if self.n_reached > MAX_REACHED {
            self.reaches.clear();
            self.n_reached = 0;
        }
        let reached = Arc::new(reached);
        self.reaches.insert((from, root), Arc::clone(&reached));
        reached
    }
}

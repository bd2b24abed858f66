//! The recogniser: a byte moves every thread of an output on.
//!
//! A *thread* stands within one terminal, at one position of one open node. When its terminal may
//! end, what can come next is found at once, so that a state always holds a thread for every
//! terminal that the next byte may belong to. Within an operation positions and nodes are numbered
//! as *sites*, and what follows the ends of a set of sites is remembered, so that walking a
//! vocabulary costs little more than its terminals' automata.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use smallvec::SmallVec;

use crate::cfg::compile::{Graph, Position, PositionId, RuleId, compile};
use crate::cfg::corners::Corners;
use crate::cfg::expr::Grammar;
use crate::cfg::masks::CfgMasks;
use crate::cfg::node::{Node, Return, digest};
use crate::cfg::terminal::{Inner, Nested, Terminal};
use crate::{GrammarError, Limits};

/// Sites kept from one operation to the next.
const MAX_SITES: usize = 1 << 16;
/// Steps that moving one thread on counts for: it costs as much as this many visits of an NFA's
/// states, which is what `Limits::mask_steps` counts.
const THREAD_STEPS: usize = 32;
/// Corners that each position may lie in, on average.
const CORNERS: usize = 8;

/// A compiled grammar with its terminals' automata and the masks found so far.
#[derive(Debug)]
pub(crate) struct CfgLanguage {
    pub(crate) machine: Machine,
    pub(crate) masks: CfgMasks,
    start: Threads,
}

/// All that an output may be in the middle of; never empty unless it is complete. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Threads(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    threads: Vec<Thread>,
    is_complete: bool,
    id: u128,
}

#[derive(Clone, Debug)]
struct Thread {
    position: PositionId,
    node: Arc<Node>,
    inner: Inner,
}

impl Threads {
    /// Where the output stands within nested constraints.
    pub(crate) fn nested(&self) -> impl Iterator<Item = &Nested> {
        self.0
            .threads
            .iter()
            .filter_map(|thread| match &thread.inner {
                Inner::Flat(_) => None,
                Inner::Nested(nested) => Some(&**nested),
            })
    }
}

impl PartialEq for Threads {
    fn eq(&self, other: &Self) -> bool {
        let (left, right) = (self.0.threads.iter(), other.0.threads.iter());
        Arc::ptr_eq(&self.0, &other.0)
            || self.0.id == other.0.id && left.map(|t| &t.inner).eq(right.map(|t| &t.inner))
    }
}

impl Eq for Threads {}

impl Hash for Threads {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        self.0.id.hash(hasher);
    }
}

/// Index of a [`Site`].
pub(crate) type SiteId = u32;

/// A terminal's position in an open node.
#[derive(Debug)]
struct Site {
    position: PositionId,
    node: Arc<Node>,
    terminal: u32,
    /// Fewest bytes from the terminal's end to the output's.
    cost: usize,
    /// What follows the end of this site alone, once it was asked for.
    following: Option<Arc<Following>>,
}

/// [`Threads`] by sites, for the length of one operation.
#[derive(Clone, Debug, Default)]
pub(crate) struct Flat {
    /// By site and rank.
    threads: SmallVec<[(SiteId, Inner); 3]>,
    pub(crate) is_complete: bool,
}

/// What follows the ends of some sites.
#[derive(Debug)]
struct Following {
    sites: Vec<SiteId>,
    is_complete: bool,
}

/// Moves threads on.
#[derive(Debug)]
pub(crate) struct Machine {
    graph: Graph,
    corners: Corners,
    pub(crate) terminals: Vec<Terminal>,
    starts: Vec<Inner>,
    sites: Vec<Site>,
    site_ids: HashMap<(PositionId, u128), SiteId>,
    followings: HashMap<SmallVec<[SiteId; 2]>, Arc<Following>>,
    n_steps: usize,
    max_steps: usize,
    max_threads: usize,
    max_open: usize,
    max_bytes: usize,
    max_positions: usize,
}

impl CfgLanguage {
    pub(crate) fn new(grammar: Grammar, limits: &Limits) -> Result<Self, GrammarError> {
        let (graph, terminals) = compile(grammar, limits)?;
        let mut machine = Machine {
            starts: terminals.iter().map(Terminal::start).collect(),
            graph,
            corners: Corners::default(),
            terminals,
            sites: Vec::new(),
            site_ids: HashMap::new(),
            followings: HashMap::new(),
            n_steps: 0,
            max_steps: limits.mask_steps,
            max_threads: limits.grammar_threads,
            max_open: limits.open_values,
            max_bytes: limits.dfa_bytes,
            max_positions: limits.grammar_positions,
        };
        let start = machine.start()?;
        Ok(Self {
            start: machine.raise(&start),
            machine,
            masks: CfgMasks::new(limits.mask_bytes),
        })
    }

    /// The empty output.
    pub(crate) fn start(&self) -> Threads {
        self.start.clone()
    }

    /// Grants the work of one operation.
    pub(crate) fn refuel(&mut self) {
        self.machine.n_steps = 0;
        self.machine.terminals.iter_mut().for_each(Terminal::refuel);
        if self.machine.sites.len() > MAX_SITES || self.machine.followings.len() > MAX_SITES {
            self.machine.followings.clear();
            self.machine.site_ids.clear();
            self.machine.sites.clear();
        }
    }

    /// The threads after one more byte; `None` where no output goes on so.
    pub(crate) fn step(
        &mut self,
        threads: &Threads,
        byte: u8,
    ) -> Result<Option<Threads>, GrammarError> {
        let flat = self.machine.lower(threads);
        let next = self.machine.step(&flat, byte)?;
        Ok(next.map(|next| self.machine.raise(&next)))
    }

    /// Whether the output is derived by the grammar.
    pub(crate) fn is_complete(&self, threads: &Threads) -> bool {
        threads.0.is_complete
    }

    /// Fewest bytes to an output of the grammar.
    pub(crate) fn distance(&self, threads: &Threads) -> usize {
        if threads.0.is_complete {
            return 0;
        }
        let distance = |thread: &Thread| {
            let machine = &self.machine;
            let (terminal, next) = machine.terminal_at(thread.position);
            let within = machine.terminals[terminal as usize].distance(&thread.inner);
            within.saturating_add(machine.cost_from(next, &thread.node))
        };
        threads
            .0
            .threads
            .iter()
            .map(distance)
            .min()
            .unwrap_or(usize::MAX)
    }
}

impl Machine {
    fn start(&mut self) -> Result<Flat, GrammarError> {
        let root = self.graph.root;
        let mut sites = Vec::new();
        let node = Arc::new(Node::new(root, Vec::new(), true, |_| 0));
        self.enter(&node, &mut sites);
        let fits = sites.len() <= self.max_threads;
        self.check(fits, "grammar_threads", self.max_threads)?;
        let start = |&site: &SiteId| {
            let terminal = self.sites[site as usize].terminal;
            (site, self.starts[terminal as usize].clone())
        };
        Ok(Flat {
            threads: sites.iter().map(start).collect(),
            is_complete: self.graph.rule_cost(root) == 0,
        })
    }

    /// The threads by their sites.
    pub(crate) fn lower(&mut self, threads: &Threads) -> Flat {
        let mut flat = Flat {
            threads: SmallVec::new(),
            is_complete: threads.0.is_complete,
        };
        for thread in &threads.0.threads {
            let site = self.site(thread.position, &thread.node);
            flat.threads.push((site, thread.inner.clone()));
        }
        flat.threads
            .sort_by_key(|(site, inner)| (*site, inner.rank()));
        flat
    }

    fn raise(&self, flat: &Flat) -> Threads {
        let mut threads: Vec<Thread> = flat
            .threads
            .iter()
            .map(|(site, inner)| {
                let site = &self.sites[*site as usize];
                Thread {
                    position: site.position,
                    node: Arc::clone(&site.node),
                    inner: inner.clone(),
                }
            })
            .collect();
        threads.sort_by_key(|thread| (thread.position, thread.node.id, thread.inner.rank()));
        let id = digest(|hasher| {
            flat.is_complete.hash(hasher);
            for thread in &threads {
                (thread.position, thread.node.id, &thread.inner).hash(hasher);
            }
        });
        Threads(Arc::new(Shared {
            threads,
            is_complete: flat.is_complete,
            id,
        }))
    }

    /// For each thread its terminal's index, where it stands in it, and the fewest bytes from the
    /// terminal's end to the output's.
    pub(crate) fn parts(&self, flat: &Flat) -> Vec<(u32, Inner, usize)> {
        let part = |(site, inner): &(SiteId, Inner)| {
            let site = &self.sites[*site as usize];
            (site.terminal, inner.clone(), site.cost)
        };
        flat.threads.iter().map(part).collect()
    }

    /// The threads after one more byte; `None` if none is left and the output is not complete.
    pub(crate) fn step(&mut self, flat: &Flat, byte: u8) -> Result<Option<Flat>, GrammarError> {
        let mut next = Flat::default();
        let mut ended: SmallVec<[SiteId; 2]> = SmallVec::new();
        for (site, inner) in &flat.threads {
            let terminal = &mut self.terminals[self.sites[*site as usize].terminal as usize];
            if let Some(inner) = terminal.step(inner, byte)? {
                if terminal.is_complete(&inner) && ended.last() != Some(site) {
                    ended.push(*site);
                }
                next.threads.push((*site, inner));
            }
        }
        self.n_steps += THREAD_STEPS * (flat.threads.len() + 1);
        self.check(self.n_steps <= self.max_steps, "mask_steps", self.max_steps)?;
        if !ended.is_empty() {
            self.follow(ended, &mut next)?;
        }
        let place = |thread: &(SiteId, Inner)| (thread.0, thread.1.rank());
        if !next.threads.is_sorted_by(|a, b| place(a) < place(b)) {
            next.threads
                .sort_by_key(|(site, inner)| (*site, inner.rank()));
            next.threads.dedup();
        }
        let is_dead = next.threads.is_empty() && !next.is_complete;
        Ok((!is_dead).then_some(next))
    }

    /// Adds what follows the ends of some sites, which ascend.
    fn follow(
        &mut self,
        ended: SmallVec<[SiteId; 2]>,
        next: &mut Flat,
    ) -> Result<(), GrammarError> {
        let following = match *ended {
            [site] => match &self.sites[site as usize].following {
                Some(known) => Arc::clone(known),
                None => {
                    let following = Arc::new(self.following(&ended)?);
                    self.sites[site as usize].following = Some(Arc::clone(&following));
                    following
                }
            },
            _ => match self.followings.get(&ended) {
                Some(known) => Arc::clone(known),
                None => {
                    let following = Arc::new(self.following(&ended)?);
                    self.followings.insert(ended, Arc::clone(&following));
                    following
                }
            },
        };
        next.is_complete |= following.is_complete;
        for &site in &following.sites {
            let terminal = self.sites[site as usize].terminal;
            next.threads
                .push((site, self.starts[terminal as usize].clone()));
        }
        let n_threads = next.threads.len();
        self.check(
            n_threads <= self.max_threads,
            "grammar_threads",
            self.max_threads,
        )
    }

    fn following(&mut self, ended: &[SiteId]) -> Result<Following, GrammarError> {
        let mut following = Following {
            sites: Vec::new(),
            is_complete: false,
        };
        let mut due: Vec<Return> = Vec::new();
        for &site in ended {
            let site = &self.sites[site as usize];
            let (_, position) = self.terminal_at(site.position);
            let node = Arc::clone(&site.node);
            due.push(Return { position, node });
        }
        let mut seen = HashSet::new();
        let mut calls: BTreeMap<RuleId, (Vec<Return>, bool)> = BTreeMap::new();
        while let Some(Return { position, node }) = due.pop() {
            if !seen.insert((position, node.id)) {
                continue;
            }
            self.n_steps += THREAD_STEPS;
            self.charge()?;
            let reached = self.corners.reach(&self.graph, position, node.rule);
            for &terminal in &reached.terminals {
                let site = self.site(terminal, &node);
                following.sites.push(site);
            }
            for &call in &reached.calls {
                self.call(call, &node, &mut calls);
            }
            if reached.completes {
                following.is_complete |= node.accepts;
                due.extend(node.returns.iter().cloned());
            }
        }
        for (rule, (returns, accepts)) in calls {
            self.n_steps += THREAD_STEPS * returns.len();
            let node = Node::new(rule, returns, accepts, |to| {
                self.cost_from(to.position, &to.node)
            });
            self.check(node.depth <= self.max_open, "open_values", self.max_open)?;
            let fits = node.returns.len() <= self.max_threads;
            self.check(fits, "grammar_threads", self.max_threads)?;
            self.enter(&Arc::new(node), &mut following.sites);
            self.charge()?;
        }
        following.sites.sort_unstable();
        following.sites.dedup();
        Ok(following)
    }

    /// Notes a call from `node`. Where nothing is left to do after it but to return, the call
    /// returns there itself.
    fn call(
        &mut self,
        call: PositionId,
        node: &Arc<Node>,
        calls: &mut BTreeMap<RuleId, (Vec<Return>, bool)>,
    ) {
        let Position::Call { rule, next } = self.graph.positions[call as usize] else {
            unreachable!("only calls are called")
        };
        let after = self.corners.reach(&self.graph, next, node.rule);
        let (returns, accepts) = calls.entry(rule).or_default();
        if after.terminals.is_empty() && after.calls.is_empty() {
            returns.extend(node.returns.iter().cloned());
            *accepts |= node.accepts;
        } else {
            let node = Arc::clone(node);
            returns.push(Return {
                position: next,
                node,
            });
        }
    }

    /// Adds the sites that a node begins with.
    fn enter(&mut self, node: &Arc<Node>, sites: &mut Vec<SiteId>) {
        let corner = self.corners.corner(&self.graph, node.rule);
        for &position in &corner.entries {
            let site = self.site(position, node);
            sites.push(site);
        }
    }

    fn site(&mut self, position: PositionId, node: &Arc<Node>) -> SiteId {
        if let Some(&known) = self.site_ids.get(&(position, node.id)) {
            return known;
        }
        let id = self.sites.len() as SiteId;
        let (terminal, next) = self.terminal_at(position);
        let cost = self.cost_from(next, node);
        self.sites.push(Site {
            position,
            node: Arc::clone(node),
            terminal,
            cost,
            following: None,
        });
        self.site_ids.insert((position, node.id), id);
        id
    }

    fn terminal_at(&self, position: PositionId) -> (u32, PositionId) {
        match self.graph.positions[position as usize] {
            Position::Terminal { terminal, next } => (terminal, next),
            _ => unreachable!("a thread stands within a terminal"),
        }
    }

    /// Fewest bytes from a position in a node to the output's end.
    fn cost_from(&self, position: PositionId, node: &Node) -> usize {
        let rule = self.graph.owners[position as usize];
        let lift = self.corners.lift(node.rule, rule);
        self.graph.costs[position as usize]
            .saturating_add(lift)
            .saturating_add(node.cost)
    }

    /// Fewest bytes to the output's end.
    pub(crate) fn distance(&self, flat: &Flat) -> usize {
        if flat.is_complete {
            return 0;
        }
        let distance = |(site, inner): &(SiteId, Inner)| {
            let site = &self.sites[*site as usize];
            let within = self.terminals[site.terminal as usize].distance(inner);
            within.saturating_add(site.cost)
        };
        flat.threads
            .iter()
            .map(distance)
            .min()
            .unwrap_or(usize::MAX)
    }

    /// Counts what was found out about the grammar on the way.
    fn charge(&mut self) -> Result<(), GrammarError> {
        self.n_steps += THREAD_STEPS * std::mem::take(&mut self.corners.n_visited);
        self.check(self.n_steps <= self.max_steps, "mask_steps", self.max_steps)?;
        let fits = self.corners.n_held <= CORNERS * self.max_positions;
        self.check(fits, "grammar_positions", self.max_positions)
    }

    /// An error if the terminals' automata together have grown too large.
    pub(crate) fn check_memory(&self) -> Result<(), GrammarError> {
        let n_bytes: usize = self.terminals.iter().map(Terminal::built_bytes).sum();
        self.check(n_bytes <= self.max_bytes, "dfa_bytes", self.max_bytes)
    }

    fn check(&self, holds: bool, limit: &'static str, allowed: usize) -> Result<(), GrammarError> {
        if holds {
            return Ok(());
        }
        Err(GrammarError::Limit {
            what: "the output's parse".into(),
            limit,
            allowed,
        })
    }
}

//! Names in sight and what is known to be assigned.
//!
//! `let`s belong to their block; generations belong to their whole function or branch, because what was generated stays
//! in the conversation. Whether a generation is assigned depends on the path: the flow is a stack of layers, each with
//! the changes since a branching began, so that branching costs what it changes and no more.

use std::collections::{HashMap, HashSet};

use super::ty::Ty;
use crate::ast::Span;

/// What bound a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BindingKind {
    Let,
    Var,
    Param,
    /// The name of a `for`, a fork, a comprehension, an arm or a retry.
    Local,
    Gen,
    Select,
}

pub(super) type BindingId = usize;

/// A name's binding.
#[derive(Debug)]
pub(super) struct Binding {
    pub(super) name: String,
    pub(super) kind: BindingKind,
    pub(super) ty: Ty,
    pub(super) span: Span,
    pub(super) is_used: bool,
    /// How many branches (`fork`, `best`) were open around it.
    pub(super) branch: usize,
}

/// Changes since a branching began.
#[derive(Debug, Default)]
pub(super) struct Layer {
    /// Generations: assigned on every path, or only on some.
    assigned: HashMap<BindingId, bool>,
    /// Whether the end is not reached: returned, failed, left.
    pub(super) is_dead: bool,
}

/// A loop around the place.
#[derive(Debug)]
struct Loop {
    base: usize,
    /// What is assigned wherever a `break` was met; none before the first.
    at_breaks: Option<HashSet<BindingId>>,
    n_breaks: usize,
}

/// The most `break`s of one loop that are told apart.
const MAX_BREAKS: usize = 32;

/// The names of one function, part or file.
#[derive(Debug)]
pub(super) struct Scopes {
    pub(super) bindings: Vec<Binding>,
    blocks: Vec<HashMap<String, BindingId>>,
    /// Generations by name, one map a branch.
    generations: Vec<HashMap<String, BindingId>>,
    /// Where each branch's own blocks begin.
    branch_blocks: Vec<usize>,
    layers: Vec<Layer>,
    loops: Vec<Loop>,
}

impl Scopes {
    pub(super) fn new() -> Scopes {
        Scopes {
            bindings: Vec::new(),
            blocks: vec![HashMap::new()],
            generations: vec![HashMap::new()],
            branch_blocks: vec![0],
            layers: vec![Layer::default()],
            loops: Vec::new(),
        }
    }

    /// How many branches are open.
    pub(super) fn branch(&self) -> usize {
        self.branch_blocks.len() - 1
    }

    pub(super) fn enter_block(&mut self) {
        self.blocks.push(HashMap::new());
    }

    pub(super) fn leave_block(&mut self) {
        self.blocks.pop();
    }

    /// Opens a branch; with generations of its own, or (`best`) with those around it.
    pub(super) fn enter_branch(&mut self, own_generations: bool) {
        self.branch_blocks.push(self.blocks.len());
        self.enter_block();
        if own_generations {
            self.generations.push(HashMap::new());
        }
    }

    pub(super) fn leave_branch(&mut self, own_generations: bool) {
        self.branch_blocks.pop();
        let block = self.blocks.pop().unwrap_or_default();
        if own_generations {
            self.generations.pop();
        } else if let Some(around) = self.blocks.last_mut() {
            // The winner's names go on with its context.
            around.extend(block);
        }
    }

    fn add(&mut self, name: &str, kind: BindingKind, ty: Ty, span: Span) -> BindingId {
        let branch = self.branch();
        self.bindings.push(Binding {
            name: name.to_owned(),
            kind,
            ty,
            span,
            is_used: false,
            branch,
        });
        self.bindings.len() - 1
    }

    /// Binds a name in the innermost block; the binding it collides with.
    pub(super) fn bind(
        &mut self,
        name: &str,
        kind: BindingKind,
        ty: Ty,
        span: Span,
    ) -> Option<BindingId> {
        let generated = self
            .generations
            .last()
            .and_then(|names| names.get(name))
            .copied();
        let id = self.add(name, kind, ty, span);
        let block = self.blocks.last_mut().expect("a scope has a block");
        block.insert(name.to_owned(), id).or(generated)
    }

    /// The binding of a name in one of this branch's blocks.
    pub(super) fn find_in_branch(&self, name: &str) -> Option<BindingId> {
        let from = self.branch_blocks.last().copied().unwrap_or_default();
        self.blocks[from..]
            .iter()
            .rev()
            .find_map(|block| block.get(name))
            .copied()
    }

    /// Binds a generation; the earlier one of the name in this branch, and whether some path has assigned it.
    pub(super) fn bind_generation(
        &mut self,
        name: &str,
        kind: BindingKind,
        ty: Ty,
        span: Span,
    ) -> Option<(BindingId, bool)> {
        let earlier = self
            .generations
            .last()
            .and_then(|names| names.get(name))
            .copied();
        let Some(id) = earlier else {
            let id = self.add(name, kind, ty, span);
            self.generations
                .last_mut()
                .expect("a scope has a branch")
                .insert(name.to_owned(), id);
            self.assign(id);
            return None;
        };
        let was_assigned = self.status(id).is_some();
        let binding = &mut self.bindings[id];
        binding.ty = std::mem::replace(&mut binding.ty, Ty::Any).or(ty);
        self.assign(id);
        Some((id, was_assigned))
    }

    fn assign(&mut self, id: BindingId) {
        self.layers
            .last_mut()
            .expect("a scope has a layer")
            .assigned
            .insert(id, true);
    }

    /// Whether a generation is assigned here: on every path, on some, on none.
    pub(super) fn status(&self, id: BindingId) -> Option<bool> {
        self.layers
            .iter()
            .rev()
            .find_map(|layer| layer.assigned.get(&id))
            .copied()
    }

    /// The binding a name has here.
    pub(super) fn find(&self, name: &str) -> Option<BindingId> {
        let named = self
            .blocks
            .iter()
            .rev()
            .find_map(|block| block.get(name))
            .copied();
        named.or_else(|| {
            self.generations
                .iter()
                .rev()
                .find_map(|names| names.get(name))
                .copied()
        })
    }

    /// The names in sight.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.blocks
            .iter()
            .chain(&self.generations)
            .flat_map(|names| names.keys().map(String::as_str))
    }

    /// Whether the place is reached.
    pub(super) fn is_dead(&self) -> bool {
        self.layers.last().is_some_and(|layer| layer.is_dead)
    }

    /// The path ends here.
    pub(super) fn end_path(&mut self) {
        self.layers.last_mut().expect("a scope has a layer").is_dead = true;
    }

    pub(super) fn begin(&mut self) {
        self.layers.push(Layer::default());
    }

    pub(super) fn end(&mut self) -> Layer {
        self.layers.pop().expect("every end has its begin")
    }

    /// Goes on after alternatives of which one was taken.
    pub(super) fn merge(&mut self, alternatives: &[Layer]) {
        let live: Vec<&Layer> = alternatives.iter().filter(|layer| !layer.is_dead).collect();
        if live.is_empty() {
            self.end_path();
            return;
        }
        let mut changed: Vec<BindingId> = live
            .iter()
            .flat_map(|layer| layer.assigned.keys().copied())
            .collect();
        changed.sort_unstable();
        changed.dedup();
        for id in changed {
            let before = self.status(id) == Some(true);
            let everywhere = live
                .iter()
                .all(|layer| layer.assigned.get(&id) == Some(&true));
            let top = self.layers.last_mut().expect("a scope has a layer");
            top.assigned.insert(id, before || everywhere);
        }
    }

    pub(super) fn enter_loop(&mut self) {
        self.loops.push(Loop {
            base: self.layers.len(),
            at_breaks: None,
            n_breaks: 0,
        });
        self.begin();
    }

    /// Ends a loop; `runs` says that its body runs at least once.
    pub(super) fn leave_loop(&mut self, runs: bool) {
        let around = self.loops.pop().expect("every loop left was entered");
        let mut body = self.end();
        let reaches_end = !body.is_dead;
        if let Some(at_breaks) = around.at_breaks {
            for (id, definite) in &mut body.assigned {
                *definite = at_breaks.contains(id) && (*definite || !reaches_end);
            }
            body.is_dead = false;
        }
        let mut alternatives = vec![body];
        if !runs {
            alternatives.push(Layer::default());
        }
        self.merge(&alternatives);
    }

    /// Whether a loop is open in this branch.
    pub(super) fn in_loop(&self) -> bool {
        !self.loops.is_empty()
    }

    /// Loops around a branch are out of its reach; gives them back to `restore_loops`.
    pub(super) fn hide_loops(&mut self) -> Hidden {
        Hidden(std::mem::take(&mut self.loops))
    }

    pub(super) fn restore_loops(&mut self, hidden: Hidden) {
        self.loops = hidden.0;
    }

    /// A `break`.
    pub(super) fn note_break(&mut self) {
        let Some(around) = self.loops.last_mut() else {
            return;
        };
        around.n_breaks += 1;
        let here: HashSet<BindingId> = if around.n_breaks > MAX_BREAKS {
            HashSet::new()
        } else {
            let layers = &self.layers[around.base..];
            let ids = layers.iter().flat_map(|layer| layer.assigned.iter());
            ids.filter(|(_, definite)| **definite)
                .map(|(id, _)| *id)
                .collect()
        };
        around.at_breaks = Some(match around.at_breaks.take() {
            None => here,
            Some(before) => before.intersection(&here).copied().collect(),
        });
    }
}

/// Loops put out of reach.
pub(super) struct Hidden(Vec<Loop>);

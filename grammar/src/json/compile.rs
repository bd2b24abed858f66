//! From schemas to shapes: every place that an output can reach, pruned of what nothing satisfies.
//!
//! A place is named by the set of schemas that hold there, so recursion closes on itself. Its
//! shapes are drafted first; then the fewest bytes of a value are found for every place as a least
//! fixpoint, which leaves an endless cost where no finite value exists; then the drafts are
//! finished without those.

use std::collections::HashMap;

use serde_json::Value;

use crate::json::escape;
use crate::json::expand::{Conjunction, Expander};
use crate::json::number::{Number, NumberShape};
use crate::json::schema::{Bounds, Schema, SchemaId, Schemas, refuse, types};
use crate::json::shape::{
    ArrayShape, NEVER, Node, NodeId, ObjectShape, Property, Shape, ShapeId, Tables,
};
use crate::json::string::StringShape;
use crate::json::validate::Validator;
use crate::literals::LiteralTrie;
use crate::regex::dfa::{Dfa, DfaState};
use crate::regex::syntax;
use crate::{GrammarError, Limits};

/// Compiles a schema to its tables and the automata of its patterns.
pub(crate) fn compile(root: &Value, limits: &Limits) -> Result<(Tables, Vec<Dfa>), GrammarError> {
    let schemas = Schemas::new(root, limits)?;
    let mut compiler = Compiler {
        schemas: &schemas,
        expander: Expander::new(&schemas, limits),
        patterns: Patterns {
            limits: limits.clone(),
            dfas: Vec::new(),
            known: HashMap::new(),
        },
        places: HashMap::new(),
        pending: Vec::new(),
        drafts: Vec::new(),
        draft_ids: HashMap::new(),
        strings: HashMap::new(),
        nodes: Vec::new(),
    };
    let root = compiler.place(vec![0]);
    while let Some((node, ids)) = compiler.pending.pop() {
        compiler.draft_place(node, &ids)?;
        if compiler.nodes.len() > limits.schema_nodes {
            return Err(GrammarError::Limit {
                what: "the schema with its combinations".into(),
                limit: "schema_nodes",
                allowed: limits.schema_nodes,
            });
        }
    }
    compiler.finish(root)
}

/// The automata of the patterns met so far.
pub(crate) struct Patterns {
    limits: Limits,
    pub(crate) dfas: Vec<Dfa>,
    /// `None` for a pattern that no string matches.
    known: HashMap<String, Option<(u32, DfaState)>>,
}

impl Patterns {
    /// The automaton of `pattern`, which stands at `pointer`.
    pub(crate) fn get(
        &mut self,
        pattern: &str,
        pointer: &str,
    ) -> Result<Option<(u32, DfaState)>, GrammarError> {
        if let Some(&known) = self.known.get(pattern) {
            return Ok(known);
        }
        let at = format!("{pointer}/pattern");
        let built = syntax::parse(pattern, &self.limits)
            .and_then(|hir| Dfa::new(&escape::search(&hir), &self.limits));
        let found = match built {
            Ok((dfa, start)) => {
                self.limits.nfa_bytes = self.limits.nfa_bytes.saturating_sub(dfa.nfa_bytes());
                self.dfas.push(dfa);
                Some((self.dfas.len() as u32 - 1, start))
            }
            Err(GrammarError::Empty { .. }) => None,
            Err(error @ GrammarError::Regex { .. }) => return Err(refuse(&at, &error.to_string())),
            Err(GrammarError::Limit { limit, allowed, .. }) => {
                return Err(GrammarError::Limit {
                    what: format!("#{at}"),
                    limit,
                    allowed,
                });
            }
            Err(error) => return Err(error),
        };
        self.known.insert(pattern.to_owned(), found);
        Ok(found)
    }
}

/// A shape whose places are not pruned yet.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Draft {
    Literals(Vec<Vec<u8>>),
    String {
        pattern: Option<(u32, DfaState)>,
        min: u32,
        max: Option<u32>,
    },
    Number(NumberShape),
    Array {
        prefix: Vec<NodeId>,
        rest: NodeId,
        min: u32,
        max: Option<u32>,
    },
    Object {
        members: Vec<Member>,
        additional: NodeId,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Member {
    name: String,
    node: NodeId,
    required: bool,
}

struct Compiler<'a> {
    schemas: &'a Schemas<'a>,
    expander: Expander<'a>,
    patterns: Patterns,
    places: HashMap<Vec<SchemaId>, NodeId>,
    pending: Vec<(NodeId, Vec<SchemaId>)>,
    drafts: Vec<Draft>,
    draft_ids: HashMap<Draft, ShapeId>,
    /// Satisfiable string drafts, finished.
    strings: HashMap<ShapeId, StringShape>,
    /// Drafts of each place. [n_nodes]
    nodes: Vec<Vec<ShapeId>>,
}

impl Compiler<'_> {
    fn place(&mut self, mut ids: Vec<SchemaId>) -> NodeId {
        ids.sort_unstable();
        ids.dedup();
        if let Some(&node) = self.places.get(&ids) {
            return node;
        }
        let node = self.nodes.len() as NodeId;
        self.nodes.push(Vec::new());
        self.places.insert(ids.clone(), node);
        self.pending.push((node, ids));
        node
    }

    fn draft_place(&mut self, node: NodeId, ids: &[SchemaId]) -> Result<(), GrammarError> {
        let mut literals = Vec::new();
        let mut shapes = Vec::new();
        for conjunction in self.expander.expand(ids)? {
            self.draft_conjunction(&conjunction, &mut literals, &mut shapes)?;
        }
        if !literals.is_empty() {
            shapes.push(self.intern(Draft::Literals(literals))?);
        }
        shapes.sort_unstable();
        shapes.dedup();
        self.nodes[node as usize] = shapes;
        Ok(())
    }

    fn draft_conjunction(
        &mut self,
        conjunction: &Conjunction,
        literals: &mut Vec<Vec<u8>>,
        shapes: &mut Vec<ShapeId>,
    ) -> Result<(), GrammarError> {
        let schemas = self.schemas;
        let parts: Vec<&Schema> = conjunction.iter().map(|&id| schemas.get(id)).collect();
        if let Some(values) = parts.iter().find_map(|part| part.values.as_ref()) {
            let mut validator = Validator::new(schemas, &mut self.patterns);
            for value in values.iter() {
                if validator.all(value, conjunction)? {
                    literals.push(value.to_string().into_bytes());
                }
            }
            return Ok(());
        }
        let allowed = parts
            .iter()
            .fold(types::ALL, |types, part| types & part.types);
        if allowed & types::NULL != 0 {
            literals.push(b"null".to_vec());
        }
        if allowed & types::BOOLEAN != 0 {
            literals.extend([b"true".to_vec(), b"false".to_vec()]);
        }
        if allowed & types::STRING != 0 {
            let draft = self.draft_string(&parts)?;
            shapes.extend(draft.map(|draft| self.intern(draft)).transpose()?);
        }
        if allowed & types::INTEGER != 0 {
            let draft = draft_number(&parts, allowed & types::FRACTION == 0)?;
            shapes.push(self.intern(draft)?);
        }
        if allowed & types::ARRAY != 0 {
            let draft = self.draft_array(&parts);
            shapes.push(self.intern(draft)?);
        }
        if allowed & types::OBJECT != 0 {
            let draft = self.draft_object(&parts);
            shapes.push(self.intern(draft)?);
        }
        Ok(())
    }

    fn draft_string(&mut self, parts: &[&Schema]) -> Result<Option<Draft>, GrammarError> {
        let length = parts
            .iter()
            .fold(Bounds::default(), |all, part| all.and(part.length));
        let mut found: Option<&str> = None;
        let mut pattern = None;
        for part in parts {
            let Some(text) = part.pattern.as_deref() else {
                continue;
            };
            if found.is_some_and(|found| found != text) {
                let message = "two patterns that hold together are not supported";
                return Err(refuse(&format!("{}/pattern", part.pointer), message));
            }
            found = Some(text);
            pattern = self.patterns.get(text, &part.pointer)?;
            if pattern.is_none() {
                return Ok(None);
            }
        }
        Ok(Some(Draft::String {
            pattern,
            min: length.min,
            max: length.max,
        }))
    }

    fn draft_array(&mut self, parts: &[&Schema]) -> Draft {
        let bounds = parts
            .iter()
            .fold(Bounds::default(), |all, part| all.and(part.n_items));
        let n_prefix = parts
            .iter()
            .map(|part| part.prefix_items.len())
            .max()
            .unwrap_or(0);
        let mut prefix = Vec::with_capacity(n_prefix);
        for idx in 0..n_prefix {
            let here = |part: &&Schema| part.prefix_items.get(idx).copied().or(part.items);
            prefix.push(self.place(parts.iter().filter_map(here).collect()));
        }
        let rest = self.place(parts.iter().filter_map(|part| part.items).collect());
        Draft::Array {
            prefix,
            rest,
            min: bounds.min,
            max: bounds.max,
        }
    }

    fn draft_object(&mut self, parts: &[&Schema]) -> Draft {
        let mut order: Vec<&str> = Vec::new();
        let mut required: HashMap<&str, bool> = HashMap::new();
        for part in parts {
            for (name, _) in &part.properties {
                required.entry(name).or_insert_with(|| {
                    order.push(name);
                    false
                });
            }
        }
        for name in parts.iter().flat_map(|part| &part.required) {
            required.entry(name).or_insert_with(|| {
                order.push(name);
                true
            });
            required.insert(name, true);
        }
        let declared: Vec<HashMap<&str, SchemaId>> = parts
            .iter()
            .map(|part| {
                part.properties
                    .iter()
                    .map(|(name, id)| (name.as_str(), *id))
                    .collect()
            })
            .collect();
        let mut members = Vec::with_capacity(order.len());
        for name in order {
            let here = |(part, declared): (&&Schema, &HashMap<&str, SchemaId>)| {
                declared.get(name).copied().or(part.additional)
            };
            let node = self.place(parts.iter().zip(&declared).filter_map(here).collect());
            members.push(Member {
                name: name.to_owned(),
                node,
                required: required[name],
            });
        }
        let additional = self.place(parts.iter().filter_map(|part| part.additional).collect());
        Draft::Object {
            members,
            additional,
        }
    }

    fn intern(&mut self, draft: Draft) -> Result<ShapeId, GrammarError> {
        if let Some(&id) = self.draft_ids.get(&draft) {
            return Ok(id);
        }
        let id = self.drafts.len() as ShapeId;
        if let Draft::String { pattern, min, max } = draft {
            let Patterns { limits, dfas, .. } = &mut self.patterns;
            let dfa = pattern.map(|(pattern, _)| &mut dfas[pattern as usize]);
            let shape = StringShape::new(pattern, dfa, (min, max), limits)?;
            limits.length_cells -= shape.as_ref().map_or(0, StringShape::n_cells);
            self.strings.extend(shape.map(|shape| (id, shape)));
        }
        self.draft_ids.insert(draft.clone(), id);
        self.drafts.push(draft);
        Ok(id)
    }

    fn finish(mut self, root: NodeId) -> Result<(Tables, Vec<Dfa>), GrammarError> {
        let (node_costs, draft_costs) = self.costs();
        if node_costs[root as usize] == NEVER {
            return Err(GrammarError::Empty {
                reason: "no finite value satisfies the schema".into(),
            });
        }
        let nodes = self.nodes.iter().zip(&node_costs).map(|(drafts, &cost)| {
            let live = drafts
                .iter()
                .filter(|&&draft| draft_costs[draft as usize] != NEVER);
            Node {
                shapes: live.copied().collect(),
                cost,
            }
        });
        let nodes = nodes.collect();
        let mut shapes = Vec::with_capacity(self.drafts.len());
        for (id, draft) in std::mem::take(&mut self.drafts).into_iter().enumerate() {
            shapes.push(match draft {
                Draft::String { .. } => match self.strings.remove(&(id as ShapeId)) {
                    Some(shape) => Shape::String(shape),
                    None => Shape::Literals(LiteralTrie::new::<&[u8]>(&[])),
                },
                Draft::Literals(literals) => Shape::Literals(LiteralTrie::new(&literals)),
                Draft::Number(shape) => Shape::Number(shape),
                Draft::Array {
                    prefix,
                    rest,
                    min,
                    max,
                } => Shape::Array(finish_array(prefix, rest, (min, max), &node_costs)),
                Draft::Object {
                    members,
                    additional,
                } => Shape::Object(finish_object(members, additional, &node_costs)),
            });
        }
        Ok((
            Tables {
                nodes,
                shapes,
                root,
            },
            self.patterns.dfas,
        ))
    }

    /// Fewest bytes of a value, for each place and each draft.
    fn costs(&self) -> (Vec<usize>, Vec<usize>) {
        let fixed: Vec<Option<usize>> = (0..self.drafts.len()).map(|id| self.fixed(id)).collect();
        let mut nodes = vec![NEVER; self.nodes.len()];
        let mut drafts: Vec<usize> = fixed.iter().map(|cost| cost.unwrap_or(NEVER)).collect();
        // Later places lie mostly within earlier ones, so going backwards settles most of them in a
        // few rounds.
        loop {
            let mut changed = false;
            for (id, draft) in self.drafts.iter().enumerate().rev() {
                if fixed[id].is_none() {
                    drafts[id] = draft.cost(&nodes);
                }
            }
            for (node, shapes) in self.nodes.iter().enumerate() {
                let cost = shapes
                    .iter()
                    .map(|&id| drafts[id as usize])
                    .min()
                    .unwrap_or(NEVER);
                changed |= cost != nodes[node];
                nodes[node] = cost;
            }
            if !changed {
                return (nodes, drafts);
            }
        }
    }

    /// The cost of a draft without places.
    fn fixed(&self, id: usize) -> Option<usize> {
        match &self.drafts[id] {
            Draft::Literals(literals) => literals.iter().map(Vec::len).min(),
            Draft::Number(shape) => Some(shape.distance(Number::START)),
            Draft::String { .. } => {
                let cost = |s: &StringShape| s.distance(&s.open(), &self.patterns.dfas) + 2;
                Some(self.strings.get(&(id as ShapeId)).map_or(NEVER, cost))
            }
            Draft::Array { .. } | Draft::Object { .. } => None,
        }
    }
}

impl Draft {
    fn cost(&self, nodes: &[usize]) -> usize {
        match self {
            Self::Array {
                prefix,
                rest,
                min,
                max,
            } => {
                if max.is_some_and(|max| max < *min) {
                    return NEVER;
                }
                let n_prefix = prefix.len().min(*min as usize);
                let items = prefix[..n_prefix].iter().map(|&node| nodes[node as usize]);
                let n_rest = *min as usize - n_prefix;
                let rest = if n_rest == 0 {
                    0
                } else {
                    nodes[*rest as usize]
                };
                let sum = items.fold(rest.saturating_mul(n_rest), usize::saturating_add);
                sum.saturating_add(2 + (*min as usize).saturating_sub(1))
            }
            Self::Object { members, .. } => {
                let required = members.iter().filter(|member| member.required);
                let costs = required.map(|m| {
                    nodes[m.node as usize].saturating_add(spelled_name(&m.name).len() + 4)
                });
                match costs.fold(0, usize::saturating_add) {
                    0 => 2,
                    sum => sum.saturating_add(1),
                }
            }
            _ => NEVER,
        }
    }
}

fn draft_number(parts: &[&Schema], integer: bool) -> Result<Draft, GrammarError> {
    let lowest = parts.iter().filter_map(|part| part.lowest).max();
    let highest = parts.iter().filter_map(|part| part.highest).min();
    let mut multiples = parts
        .iter()
        .flat_map(|part| part.multiples.iter().map(move |m| (m, part)));
    let first = multiples.next().map(|(multiple, _)| *multiple);
    if let Some((_, part)) = multiples.find(|(multiple, _)| Some(**multiple) != first) {
        let message = "two values of `multipleOf` that hold together are not supported";
        return Err(refuse(&format!("{}/multipleOf", part.pointer), message));
    }
    Ok(Draft::Number(NumberShape::new(
        integer, lowest, highest, first,
    )))
}

/// A property's name as it is written, without its quotes.
fn spelled_name(name: &str) -> Vec<u8> {
    let quoted = Value::from(name).to_string();
    quoted.as_bytes()[1..quoted.len() - 1].to_vec()
}

fn finish_array(
    mut prefix: Vec<NodeId>,
    rest: NodeId,
    (min, max): (u32, Option<u32>),
    costs: &[usize],
) -> ArrayShape {
    let cost = |node: NodeId| costs[node as usize];
    let n_live = prefix
        .iter()
        .take_while(|&&node| cost(node) != NEVER)
        .count();
    let rest = Some(rest).filter(|&node| n_live == prefix.len() && cost(node) != NEVER);
    prefix.truncate(n_live);
    let mut shape = ArrayShape {
        costs: vec![0; n_live + 1],
        rest_cost: rest.map_or(NEVER, cost),
        prefix,
        rest,
        min,
        max,
    };
    for idx in (0..n_live.min(min as usize)).rev() {
        shape.costs[idx] = shape.costs[idx + 1].saturating_add(1 + cost(shape.prefix[idx]));
    }
    shape
}

fn finish_object(members: Vec<Member>, additional: NodeId, costs: &[usize]) -> ObjectShape {
    let cost = |node: NodeId| costs[node as usize];
    let (live, dead): (Vec<Member>, Vec<Member>) = members
        .into_iter()
        .partition(|member| cost(member.node) != NEVER);
    let names: Vec<Vec<u8>> = live
        .iter()
        .chain(&dead)
        .map(|member| spelled_name(&member.name))
        .collect();
    let n_properties = live.len();
    let mut shape = ObjectShape {
        names: LiteralTrie::new(&names),
        additional: Some(additional).filter(|&node| cost(node) != NEVER),
        next_required: vec![n_properties as u32; n_properties + 1],
        required_costs: vec![0; n_properties + 1],
        member_costs: vec![NEVER; n_properties + 1],
        properties: Vec::with_capacity(n_properties),
    };
    for (member, name) in live.iter().zip(&names) {
        shape.properties.push(Property {
            node: member.node,
            required: member.required,
            n_name_bytes: name.len(),
        });
    }
    for (idx, property) in shape.properties.iter().enumerate().rev() {
        let member = cost(property.node).saturating_add(property.n_name_bytes + 3);
        let after = shape.required_costs[idx + 1];
        let chosen = member.saturating_add(after);
        (
            shape.next_required[idx],
            shape.required_costs[idx],
            shape.member_costs[idx],
        ) = if property.required {
            (idx as u32, chosen.saturating_add(1), chosen)
        } else {
            (
                shape.next_required[idx + 1],
                after,
                chosen.min(shape.member_costs[idx + 1]),
            )
        };
    }
    shape
}

//! Drafts pruned and finished, once the fewest bytes of every place are known.

use std::sync::Arc;

use foldhash::{HashMap, HashSet};

use crate::GrammarError;
use crate::bytes::ByteSet;
use crate::json::compile::{Compiler, NameId, Names, unspelled};
use crate::json::draft::{Draft, DraftMember, DraftOthers};
use crate::json::form::Bounds;
use crate::json::naming::NameSets;
use crate::json::number::Number;
use crate::json::object::{OTHER_NAME_BYTES, ObjectShape, Property};
use crate::json::shape::{
    ArrayShape, Literals, NEVER, Node, NodeId, Others, Shape, ShapeId, Tables,
};
use crate::json::string::StringShape;
use crate::json::text::BOUNDARY;
use crate::literals::LiteralTrie;

/// Bytes of a name that must match patterns, as far as is known beforehand.
const MATCHING_NAME_BYTES: usize = 24;
/// Names of an automaton that are listed, and the bytes of one.
const MAX_LISTED: usize = 64;
const MAX_LISTED_BYTES: usize = 64;

/// The tables of what was drafted.
pub(crate) fn finish(compiler: &mut Compiler<'_>, root: NodeId) -> Result<Tables, GrammarError> {
    let drafts = std::mem::take(&mut compiler.drafts);
    let (costs, draft_costs) = all_costs(compiler, &drafts);
    if costs[root as usize] == NEVER {
        return Err(GrammarError::Empty {
            reason: "no finite value satisfies the schema".into(),
        });
    }
    let nodes = compiler.nodes.iter().zip(&costs).map(|(choices, &cost)| {
        let live = choices
            .iter()
            .filter(|&&(draft, _)| draft_costs[draft as usize] != NEVER);
        let first = live
            .clone()
            .map(|&(draft, _)| first_bytes(&drafts[draft as usize]));
        Node {
            shapes: live.copied().collect(),
            cost,
            first: first.fold(ByteSet::default(), ByteSet::union),
        }
    });
    let nodes: Vec<Node> = nodes.collect();
    let values = values(&nodes, &drafts);
    compiler.draft_ids.clear();
    let mut tries = Tries::default();
    let mut shapes = Vec::with_capacity(drafts.len());
    for (id, draft) in drafts.into_iter().enumerate() {
        let id = id as ShapeId;
        shapes.push(finish_draft(
            compiler,
            (id, Arc::unwrap_or_clone(draft)),
            &costs,
            &values,
            &mut tries,
        )?);
    }
    Ok(Tables {
        nodes,
        shapes,
        guards: std::mem::take(&mut compiler.guards),
        root,
    })
}

/// The bytes that a value may begin with.
fn first_bytes(draft: &Draft) -> ByteSet {
    match draft {
        Draft::Literals(values) => values.iter().filter_map(|v| v.0.first().copied()).collect(),
        Draft::String { .. } => ByteSet::of(b"\""),
        Draft::Number(_) => ByteSet::of(b"-0123456789"),
        Draft::Array { .. } => ByteSet::of(b"["),
        Draft::Object { .. } => ByteSet::of(b"{"),
    }
}

fn finish_draft(
    compiler: &mut Compiler<'_>,
    (id, draft): (ShapeId, Draft),
    costs: &[usize],
    values: &[Values],
    tries: &mut Tries,
) -> Result<Shape, GrammarError> {
    Ok(match draft {
        Draft::String { .. } => match compiler.strings.remove(&id) {
            Some(shape) => Shape::String(shape),
            None => Shape::Literals(literals(Vec::new())),
        },
        Draft::Literals(values) => Shape::Literals(literals(values)),
        Draft::Number(shape) => Shape::Number(shape),
        Draft::Array { .. } => {
            let mut shape = array(&draft).expect("an array");
            // Different items run out with their values. Where a `contains` has a maximum, the first place is of the
            // others alone; else it is of all.
            let is_parted = shape.contains.iter().any(|bounds| bounds.max.is_some());
            let of_all = if is_parted {
                &shape.rest
            } else {
                &shape.rest[..1]
            };
            let each = of_all.iter().map(|&node| values[node as usize].n_all);
            let n_values = each.sum::<Option<u32>>();
            let mut places = shape.prefix.iter().flatten().chain(&shape.rest);
            shape.excludes =
                shape.different && places.any(|&node| values[node as usize].are_listed);
            if let (true, Some(n)) = (shape.different && shape.prefix.is_empty(), n_values) {
                shape.bounds.max = Some(shape.bounds.max.map_or(n, |max| max.min(n)));
            }
            Shape::Array(shape)
        }
        Draft::Object {
            mut members,
            others,
            bounds,
        } => {
            let mut others = finish_others(compiler, others, costs)?;
            if let Some(listed) = listed(compiler, &others)? {
                // So few names run out, and then none may be begun. The declared ones are not among
                // the others.
                let declared: HashSet<_> = members.iter().map(|m| m.name).collect();
                let is_other = |m: &DraftMember| !declared.contains(&m.name);
                members.extend(listed.into_iter().filter(is_other));
                others = Others::None;
            }
            Shape::Object(object((members, others, bounds), costs, compiler, tries))
        }
    })
}

/// The tries of objects' names: alternatives mostly have the same.
#[derive(Default)]
struct Tries(HashMap<Vec<NameId>, Arc<LiteralTrie>>);

impl Tries {
    fn of(&mut self, list: Vec<NameId>, names: &Names) -> Arc<LiteralTrie> {
        let made = self.0.entry(list).or_insert_with_key(|list| {
            let spelled: Vec<&[u8]> = list.iter().map(|&name| names.spelled(name)).collect();
            Arc::new(LiteralTrie::new(&spelled))
        });
        Arc::clone(made)
    }
}

fn literals(values: Vec<(Vec<u8>, u64)>) -> Literals {
    let (texts, hashes): (Vec<Vec<u8>>, Vec<u64>) = values.into_iter().unzip();
    Literals {
        trie: LiteralTrie::new(&texts),
        hashes,
    }
}

/// The values of a place.
struct Values {
    /// How many, where all are listed.
    n_all: Option<u32>,
    /// Whether some are listed.
    are_listed: bool,
}

fn values(nodes: &[Node], drafts: &[Arc<Draft>]) -> Vec<Values> {
    let of = |node: &Node| {
        let each = node.shapes.iter();
        let n_listed = each.map(|&(shape, _)| match &*drafts[shape as usize] {
            Draft::Literals(values) => Some(values.len() as u32),
            _ => None,
        });
        Values {
            n_all: n_listed.clone().sum(),
            are_listed: n_listed.flatten().next().is_some(),
        }
    };
    nodes.iter().map(of).collect()
}

/// Fewest bytes of a value, for each place and each draft.
fn all_costs(compiler: &Compiler<'_>, drafts: &[Arc<Draft>]) -> (Vec<usize>, Vec<usize>) {
    let fixed: Vec<Option<usize>> = (0..drafts.len())
        .map(|id| fixed(compiler, drafts, id))
        .collect();
    let arrays: Vec<Option<ArrayShape>> = drafts.iter().map(|draft| array(draft)).collect();
    let mut nodes = vec![NEVER; compiler.nodes.len()];
    let mut costs: Vec<usize> = fixed.iter().map(|cost| cost.unwrap_or(NEVER)).collect();
    // Later places lie mostly within earlier ones, so going backwards settles most of them in a
    // few rounds.
    loop {
        let mut changed = false;
        for (id, draft) in drafts.iter().enumerate().rev() {
            if fixed[id].is_none() {
                costs[id] = draft_cost(draft, arrays[id].as_ref(), &nodes, &compiler.names);
            }
        }
        for (node, choices) in compiler.nodes.iter().enumerate() {
            let each = choices.iter().map(|&(id, _)| costs[id as usize]);
            let cost = each.min().unwrap_or(NEVER);
            changed |= cost != nodes[node];
            nodes[node] = cost;
        }
        if !changed {
            return (nodes, costs);
        }
    }
}

/// The cost of a draft without places.
fn fixed(compiler: &Compiler<'_>, drafts: &[Arc<Draft>], id: usize) -> Option<usize> {
    match &*drafts[id] {
        Draft::Literals(values) => values.iter().map(|(text, _)| text.len()).min(),
        Draft::Number(shape) => Some(shape.distance(Number::START)),
        Draft::String { .. } => {
            let automata = &compiler.schemas.patterns.automata;
            let cost = |s: &StringShape| s.distance(&s.open(), automata) + 2;
            Some(compiler.strings.get(&(id as ShapeId)).map_or(NEVER, cost))
        }
        Draft::Array { .. } | Draft::Object { .. } => None,
    }
}

/// The names of an automaton as members, if they are few.
fn listed(
    compiler: &mut Compiler<'_>,
    others: &Others,
) -> Result<Option<Vec<DraftMember>>, GrammarError> {
    let Others::Matching {
        automaton,
        start,
        places,
        runs_out: true,
    } = others
    else {
        return Ok(None);
    };
    let automaton = &mut compiler.schemas.patterns.automata[*automaton as usize];
    let mut members = Vec::new();
    let mut open = vec![(Vec::new(), BOUNDARY, *start)];
    while let Some((name, text, state)) = open.pop() {
        if name.len() > MAX_LISTED_BYTES || open.len() + members.len() > MAX_LISTED {
            return Ok(None);
        }
        if text == BOUNDARY && automaton.is_accepting(state) {
            let node = places[&automaton.marks(state)];
            members.push(DraftMember {
                name: compiler.names.add(&unspelled(&name)),
                node,
                required: false,
                needs: Vec::new(),
            });
        }
        for byte in 0..=u8::MAX {
            let Some(text) = text.step_canonical(byte) else {
                continue;
            };
            if let Some(state) = automaton.step(state, byte)? {
                let longer = name.iter().copied().chain([byte]).collect();
                open.push((longer, text, state));
            }
        }
    }
    members.sort_unstable_by_key(|member| compiler.names.spelled(member.name));
    Ok(Some(members))
}

/// The shape of an array, before anything is pruned.
fn array(draft: &Draft) -> Option<ArrayShape> {
    match draft {
        Draft::Array {
            prefix,
            rest,
            bounds,
            contains,
            different,
        } => Some(ArrayShape {
            prefix: prefix.clone(),
            rest: rest.clone(),
            bounds: *bounds,
            contains: contains.clone(),
            different: *different,
            excludes: false,
        }),
        _ => None,
    }
}

fn draft_cost(draft: &Draft, array: Option<&ArrayShape>, nodes: &[usize], names: &Names) -> usize {
    if let Some(shape) = array {
        return array_cost(shape, nodes);
    }
    match draft {
        Draft::Object {
            members,
            others,
            bounds,
        } => object_cost((members, others, *bounds), nodes, names),
        _ => NEVER,
    }
}

fn array_cost(shape: &ArrayShape, nodes: &[usize]) -> usize {
    let (bounds, contains) = (shape.bounds, &shape.contains);
    if bounds.is_empty() || contains.iter().any(|bounds| bounds.is_empty()) {
        return NEVER;
    }
    let n_contained: u32 = contains.iter().map(|bounds| bounds.min).sum();
    if contains.len() == 1 && bounds.max.is_some_and(|max| n_contained > max) {
        return NEVER;
    }
    let rest = shape.cost_after(0, &[], &|node| nodes[node as usize]);
    let has_items = bounds.min > 0 || n_contained > 0;
    rest.saturating_add(1 - usize::from(has_items))
}

/// Fewest bytes of an object: what must come, and the cheapest members that fill it up.
fn object_cost(
    (members, others, bounds): (&[DraftMember], &DraftOthers, Bounds),
    nodes: &[usize],
    names: &Names,
) -> usize {
    let member =
        |m: &DraftMember| nodes[m.node as usize].saturating_add(names.spelled(m.name).len() + 4);
    let mut due: Vec<bool> = members.iter().map(|m| m.required).collect();
    for m in members.iter().filter(|m| m.required) {
        m.needs.iter().for_each(|&need| due[need as usize] = true);
    }
    let costs = members.iter().zip(&due).filter(|&(_, &due)| due);
    let required = costs.map(|(m, _)| member(m)).fold(0, usize::saturating_add);
    let n_due = due.iter().filter(|&&due| due).count() as u32;
    if required == NEVER || bounds.is_empty() || bounds.max.is_some_and(|max| n_due > max) {
        return NEVER;
    }
    let n_more = bounds.min.saturating_sub(n_due) as usize;
    let mut filling = 0;
    if n_more > 0 {
        let optional = members.iter().zip(&due).filter(|&(_, &due)| !due);
        let mut costs: Vec<usize> = optional.map(|(m, _)| member(m)).collect();
        costs.sort_unstable();
        let other = other_cost(others, nodes).saturating_add(OTHER_NAME_BYTES + 4);
        filling = (0..n_more)
            .map(|n| costs.get(n).copied().unwrap_or(NEVER).min(other))
            .fold(0, usize::saturating_add);
    }
    let has_members = n_due > 0 || n_more > 0;
    let all = required.saturating_add(filling);
    all.saturating_add(2 - usize::from(has_members))
}

/// Fewest bytes of the value of a name that is not declared, and of what its name must have.
fn other_cost(others: &DraftOthers, nodes: &[usize]) -> usize {
    match others {
        DraftOthers::None => NEVER,
        DraftOthers::Any(node) => nodes[*node as usize],
        DraftOthers::Matching { places, .. } => {
            let nearest = places.iter().map(|&(_, node)| nodes[node as usize]).min();
            nearest.unwrap_or(NEVER).saturating_add(MATCHING_NAME_BYTES)
        }
    }
}

fn finish_others(
    compiler: &mut Compiler<'_>,
    others: DraftOthers,
    costs: &[usize],
) -> Result<Others, GrammarError> {
    let is_live = |node: NodeId| costs[node as usize] != NEVER;
    match others {
        DraftOthers::None => Ok(Others::None),
        DraftOthers::Any(node) => Ok(if is_live(node) {
            Others::Any(node)
        } else {
            Others::None
        }),
        DraftOthers::Matching {
            patterns,
            places,
            complete,
            names,
        } => {
            let (live, dead): (Vec<_>, Vec<_>) =
                places.into_iter().partition(|&(_, node)| is_live(node));
            let Some(&(_, node)) = live.first() else {
                return Ok(Others::None);
            };
            let told_apart = live.iter().any(|&(_, other)| other != node);
            let (live_sets, dead): (Vec<u64>, Vec<u64>) = (
                live.iter().map(|&(set, _)| set).collect(),
                dead.iter().map(|&(set, _)| set).collect(),
            );
            let sets = NameSets {
                patterns,
                live: live_sets,
                dead: complete.then_some(dead),
                told_apart,
                tests: names,
            };
            let Some(names) = compiler.schemas.patterns.names(&sets)? else {
                return Ok(Others::None);
            };
            Ok(Others::Matching {
                runs_out: names.runs_out,
                automaton: names.id,
                start: names.start,
                // Without marks no set is told from the empty one.
                places: match told_apart {
                    true => live.into_iter().collect(),
                    false => HashMap::from_iter([(0, node)]),
                },
            })
        }
    }
}

fn object(
    (members, others, bounds): (Vec<DraftMember>, Others, Bounds),
    costs: &[usize],
    compiler: &Compiler<'_>,
    tries: &mut Tries,
) -> ObjectShape {
    let cost = |node: NodeId| costs[node as usize];
    let is_dead = |m: &DraftMember| {
        cost(m.node) == NEVER
            || m.needs
                .iter()
                .any(|&need| cost(members[need as usize].node) == NEVER)
    };
    let dead: Vec<bool> = members.iter().map(is_dead).collect();
    // Those that can occur come first; each keeps its order.
    let mut order: Vec<usize> = (0..members.len()).collect();
    order.sort_by_key(|&idx| dead[idx]);
    let mut new_idx = vec![0; members.len()];
    for (new, &old) in order.iter().enumerate() {
        new_idx[old] = new as u32;
    }
    let names: Vec<NameId> = order.iter().map(|&idx| members[idx].name).collect();
    let n_bytes = |name: NameId| compiler.names.spelled(name).len();
    let live = order.iter().zip(&names).filter(|&(&idx, _)| !dead[idx]);
    let properties: Vec<Property> = live
        .map(|(&idx, &name)| Property {
            node: members[idx].node,
            required: members[idx].required,
            needs: members[idx]
                .needs
                .iter()
                .map(|&need| new_idx[need as usize])
                .collect(),
            n_name_bytes: n_bytes(name),
            cost: cost(members[idx].node).saturating_add(n_bytes(name) + 4),
        })
        .collect();
    let other_cost = match &others {
        Others::None => NEVER,
        Others::Any(node) => cost(*node),
        Others::Matching { places, .. } => {
            let nearest = places.values().map(|&node| cost(node)).min();
            nearest.unwrap_or(NEVER).saturating_add(MATCHING_NAME_BYTES)
        }
    };
    ObjectShape {
        has_dependents: properties.iter().any(|property| !property.needs.is_empty()),
        names: tries.of(names, &compiler.names),
        properties,
        others,
        other_cost,
        bounds,
        ordered: compiler.ordered,
    }
}

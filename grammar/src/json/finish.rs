//! Drafts pruned and finished, once the fewest bytes of every place are known.

use std::collections::HashMap;

use crate::GrammarError;
use crate::json::compile::{Compiler, spelled_name};
use crate::json::draft::{Draft, DraftMember, DraftOthers};
use crate::json::form::Bounds;
use crate::json::number::Number;
use crate::json::object::{ObjectShape, Property};
use crate::json::shape::{
    ArrayShape, Literals, NEVER, Node, NodeId, Others, Shape, ShapeId, Tables,
};
use crate::json::string::StringShape;
use crate::literals::LiteralTrie;

/// Bytes of a name that must match patterns, as far as is known beforehand.
const MATCHING_NAME_BYTES: usize = 24;

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
        Node {
            shapes: live.copied().collect(),
            cost,
        }
    });
    let nodes: Vec<Node> = nodes.collect();
    let values = numbers_of_values(&nodes, &drafts);
    let mut shapes = Vec::with_capacity(drafts.len());
    for (id, draft) in drafts.into_iter().enumerate() {
        shapes.push(match draft {
            Draft::String { .. } => match compiler.strings.remove(&(id as ShapeId)) {
                Some(shape) => Shape::String(shape),
                None => Shape::Literals(literals(Vec::new())),
            },
            Draft::Literals(values) => Shape::Literals(literals(values)),
            Draft::Number(shape) => Shape::Number(shape),
            Draft::Array {
                prefix,
                rest,
                mut bounds,
                contains,
                different,
            } => {
                if let (true, Some(n)) = (different && prefix.is_empty(), values[rest[0] as usize])
                {
                    bounds.max = Some(bounds.max.map_or(n, |max| max.min(n)));
                }
                Shape::Array(ArrayShape {
                    prefix,
                    rest,
                    bounds,
                    contains,
                    different,
                })
            }
            Draft::Object {
                members,
                others,
                bounds,
            } => {
                let others = finish_others(compiler, others, &costs)?;
                let parts = (members, others, bounds);
                Shape::Object(object(parts, &costs, compiler.ordered))
            }
        });
    }
    Ok(Tables {
        nodes,
        shapes,
        guards: std::mem::take(&mut compiler.guards),
        root,
    })
}

fn literals(values: Vec<(Vec<u8>, u64)>) -> Literals {
    let (texts, hashes): (Vec<Vec<u8>>, Vec<u64>) = values.into_iter().unzip();
    Literals {
        trie: LiteralTrie::new(&texts),
        hashes,
    }
}

/// How many values each place has, where they are listed.
fn numbers_of_values(nodes: &[Node], drafts: &[Draft]) -> Vec<Option<u32>> {
    let listed = |node: &Node| {
        let each = node
            .shapes
            .iter()
            .map(|&(shape, _)| match &drafts[shape as usize] {
                Draft::Literals(values) => Some(values.len() as u32),
                _ => None,
            });
        each.sum::<Option<u32>>()
    };
    nodes.iter().map(listed).collect()
}

/// Fewest bytes of a value, for each place and each draft.
fn all_costs(compiler: &Compiler<'_>, drafts: &[Draft]) -> (Vec<usize>, Vec<usize>) {
    let fixed: Vec<Option<usize>> = (0..drafts.len())
        .map(|id| fixed(compiler, drafts, id))
        .collect();
    let mut nodes = vec![NEVER; compiler.nodes.len()];
    let mut costs: Vec<usize> = fixed.iter().map(|cost| cost.unwrap_or(NEVER)).collect();
    // Later places lie mostly within earlier ones, so going backwards settles most of them in a
    // few rounds.
    loop {
        let mut changed = false;
        for (id, draft) in drafts.iter().enumerate().rev() {
            if fixed[id].is_none() {
                costs[id] = draft_cost(draft, &nodes, compiler.ordered);
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
fn fixed(compiler: &Compiler<'_>, drafts: &[Draft], id: usize) -> Option<usize> {
    match &drafts[id] {
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

fn draft_cost(draft: &Draft, nodes: &[usize], ordered: bool) -> usize {
    let cost = |node: NodeId| nodes[node as usize];
    match draft {
        Draft::Array {
            prefix,
            rest,
            bounds,
            contains,
            different,
        } => {
            if bounds.is_empty() || contains.iter().any(|bounds| bounds.is_empty()) {
                return NEVER;
            }
            let shape = ArrayShape {
                prefix: prefix.clone(),
                rest: rest.clone(),
                bounds: *bounds,
                contains: contains.clone(),
                different: *different,
            };
            let n_contained: u32 = contains.iter().map(|bounds| bounds.min).sum();
            if contains.len() == 1 && bounds.max.is_some_and(|max| n_contained > max) {
                return NEVER;
            }
            let rest = shape.cost_after(0, &[], &cost);
            let has_items = bounds.min > 0 || n_contained > 0;
            rest.saturating_add(1 - usize::from(has_items))
        }
        Draft::Object {
            members,
            others,
            bounds,
        } => {
            let others = match others {
                DraftOthers::None => Others::None,
                DraftOthers::Any(node) if cost(*node) == NEVER => Others::None,
                DraftOthers::Any(node) => Others::Any(*node),
                DraftOthers::Matching { places, .. } => {
                    let nearest = places.iter().min_by_key(|&&(_, node)| cost(node));
                    match nearest {
                        Some(&(_, node)) if cost(node) != NEVER => Others::Any(node),
                        _ => Others::None,
                    }
                }
            };
            let is_dead = |m: &DraftMember| cost(m.node) == NEVER;
            let needs_dead =
                |m: &DraftMember| m.needs.iter().any(|&need| is_dead(&members[need as usize]));
            if members
                .iter()
                .any(|m| m.required && (is_dead(m) || needs_dead(m)))
            {
                return NEVER;
            }
            object((members.clone(), others, *bounds), nodes, ordered).whole_cost()
        }
        _ => NEVER,
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
            names,
        } => {
            let live = places.into_iter().filter(|&(_, node)| is_live(node));
            let places: HashMap<u64, NodeId> = live.collect();
            let accepted = places.keys().copied().collect();
            let found = compiler
                .schemas
                .patterns
                .names(&patterns, names.as_deref(), accepted)?;
            Ok(match found {
                None => Others::None,
                Some((automaton, start)) => Others::Matching {
                    automaton,
                    start,
                    places,
                },
            })
        }
    }
}

fn object(
    (members, others, bounds): (Vec<DraftMember>, Others, Bounds),
    costs: &[usize],
    ordered: bool,
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
    let names: Vec<Vec<u8>> = order
        .iter()
        .map(|&idx| spelled_name(&members[idx].name))
        .collect();
    let live = order.iter().zip(&names).filter(|&(&idx, _)| !dead[idx]);
    let properties: Vec<Property> = live
        .map(|(&idx, name)| Property {
            node: members[idx].node,
            required: members[idx].required,
            needs: members[idx]
                .needs
                .iter()
                .map(|&need| new_idx[need as usize])
                .collect(),
            n_name_bytes: name.len(),
            cost: cost(members[idx].node).saturating_add(name.len() + 4),
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
        names: LiteralTrie::new(&names),
        properties,
        others,
        other_cost,
        bounds,
        ordered,
    }
}

//! Drafts pruned and finished, once the fewest bytes of every place are known.

use std::sync::Arc;

use foldhash::{HashMap, HashSet};

use crate::GrammarError;
use crate::bytes::ByteSet;
use crate::json::alternatives::Places;
use crate::json::compile::{Choice, Compiler, NameId, Names, unspelled};
use crate::json::draft::{Draft, DraftMember, DraftObject, DraftOthers, DraftSet};
use crate::json::frame::Other;
use crate::json::members::is_final;
use crate::json::naming::{NameAutomaton, NameSets};
use crate::json::number::Number;
use crate::json::object::{Exception, OTHER_NAME_BYTES, ObjectShape, Property};
use crate::json::shape::{
    ArrayShape, Literals, NEVER, Node, NodeId, Others, Shape, ShapeId, Tables,
};
use crate::json::string::StringShape;
use crate::json::text::BOUNDARY;
use crate::literals::LiteralTrie;

/// By so many bytes a name that must match patterns may be longer than the shortest one, which may have come.
const LONGER_NAME_BYTES: usize = 24;
/// Names of an automaton that are listed, and the bytes of one.
const MAX_LISTED: usize = 64;
const MAX_LISTED_BYTES: usize = 64;

/// What was drafted, without what nothing satisfies, and its alternatives merged.
fn places(compiler: &mut Compiler<'_>) -> Places {
    let drafts = std::mem::take(&mut compiler.drafts).into_values();
    let (costs, draft_costs) = all_costs(compiler, &drafts);
    let mut nodes = std::mem::take(&mut compiler.nodes);
    let is_live = |&(draft, _): &Choice| draft_costs[draft as usize] != NEVER;
    nodes.iter_mut().for_each(|choices| choices.retain(is_live));
    let mut places = Places {
        nodes,
        costs,
        drafts,
    };
    places.merge(compiler.ordered);
    places
}

/// The tables of what was drafted.
pub(crate) fn finish(compiler: &mut Compiler<'_>, root: NodeId) -> Result<Tables, GrammarError> {
    let places = places(compiler);
    let is_used = places.used(root);
    let Places {
        nodes,
        costs,
        drafts,
    } = places;
    if costs[root as usize] == NEVER {
        return Err(GrammarError::Empty {
            reason: "no finite value satisfies the schema".into(),
        });
    }
    let nodes = nodes.into_iter().zip(&costs).map(|(choices, &cost)| {
        let each = choices.iter();
        let first = each.map(|&(draft, _)| first_bytes(&drafts[draft as usize]));
        Node {
            first: first.fold(ByteSet::default(), ByteSet::union),
            shapes: choices,
            cost,
        }
    });
    let nodes: Vec<Node> = nodes.collect();
    let values = values(&nodes, &drafts);
    let mut objects = Objects {
        tries: HashMap::default(),
        exceptions: Vec::new(),
        n_drafts: drafts.len(),
    };
    let mut shapes = Vec::with_capacity(drafts.len());
    for (id, draft) in drafts.into_iter().enumerate() {
        if !is_used[id] {
            shapes.push(Shape::Literals(literals(Vec::new())));
            continue;
        }
        let id = id as ShapeId;
        shapes.push(finish_draft(
            compiler,
            (id, Arc::unwrap_or_clone(draft)),
            &costs,
            &values,
            &mut objects,
        )?);
    }
    shapes.extend(objects.exceptions.into_iter().map(Shape::Object));
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
        Draft::Object(_) => ByteSet::of(b"{"),
    }
}

fn finish_draft(
    compiler: &mut Compiler<'_>,
    (id, draft): (ShapeId, Draft),
    costs: &[usize],
    values: &[Values],
    objects: &mut Objects,
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
        Draft::Object(object) => {
            Shape::Object(finish_object(compiler, (id, object), costs, objects)?)
        }
    })
}

/// What objects share.
struct Objects {
    /// Of names: alternatives mostly have the same.
    tries: HashMap<Vec<NameId>, Arc<LiteralTrie>>,
    /// The shapes of members that are exceptions, which come after those of the drafts.
    exceptions: Vec<ObjectShape>,
    n_drafts: usize,
}

impl Objects {
    fn trie(&mut self, list: Vec<NameId>, names: &Names) -> Arc<LiteralTrie> {
        let made = self.tries.entry(list).or_insert_with_key(|list| {
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
        ..
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
        Draft::Object(object) => object_cost(object, nodes, names),
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
fn object_cost(object: &DraftObject, nodes: &[usize], names: &Names) -> usize {
    let DraftObject {
        members, bounds, ..
    } = object;
    let member = |m: &DraftMember| member_cost(m, m.node, nodes, names);
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
    let Some((exception, n_exceptions, beside)) = exception_cost(object, &due, nodes, names) else {
        return NEVER;
    };
    let n_due = n_due + n_exceptions;
    let n_more = bounds.min.saturating_sub(n_due) as usize;
    let mut filling = 0;
    if n_more > 0 {
        let optional = members.iter().zip(&due).enumerate();
        let optional = optional.filter(|&(idx, (_, &due))| !due && beside != Some(idx));
        let mut costs: Vec<usize> = optional.map(|(_, (m, _))| member(m)).collect();
        costs.sort_unstable();
        let other = other_member_cost(&object.others, nodes);
        filling = (0..n_more)
            .map(|n| costs.get(n).copied().unwrap_or(NEVER).min(other))
            .fold(0, usize::saturating_add);
    }
    let has_members = n_due > 0 || n_more > 0;
    let all = required.saturating_add(exception).saturating_add(filling);
    all.saturating_add(2 - usize::from(has_members))
}

/// Fewest bytes of a declared member with a value of this place, with a comma.
fn member_cost(m: &DraftMember, node: NodeId, nodes: &[usize], names: &Names) -> usize {
    nodes[node as usize].saturating_add(names.spelled(m.name).len() + 4)
}

/// The same of one that is not declared.
fn other_member_cost(others: &DraftOthers, nodes: &[usize]) -> usize {
    other_cost(others, nodes).saturating_add(OTHER_NAME_BYTES + 4)
}

/// The cheapest exception: its bytes and members beyond those that are due, and which member it is, if a declared one.
/// `None` if none fits.
fn exception_cost(
    object: &DraftObject,
    due: &[bool],
    nodes: &[usize],
    names: &Names,
) -> Option<(usize, u32, Option<usize>)> {
    let Some(exception) = &object.exception else {
        return Some((0, 0, None));
    };
    let declared = object.members.iter().zip(&exception.nodes).enumerate();
    let declared = declared.map(|(idx, (m, &node))| {
        let cost = member_cost(m, node, nodes, names);
        match due[idx] && cost != NEVER {
            true => (
                cost.saturating_sub(member_cost(m, m.node, nodes, names)),
                0,
                Some(idx),
            ),
            false => (cost, 1, Some(idx)),
        }
    });
    let n_due = due.iter().filter(|&&due| due).count() as u32;
    let fits = |n_more| object.bounds.max.is_none_or(|max| n_due + n_more <= max);
    declared
        .chain([(other_member_cost(&exception.others, nodes), 1, None)])
        .filter(|&(cost, n_more, _)| cost != NEVER && fits(n_more))
        .min_by_key(|&(cost, ..)| cost)
}

/// Fewest bytes of the value of a name that is not declared, and of what its name must have.
fn other_cost(others: &DraftOthers, nodes: &[usize]) -> usize {
    match others {
        DraftOthers::None => NEVER,
        DraftOthers::Any(node) => nodes[*node as usize],
        DraftOthers::Matching { sets, .. } => {
            let cost = |set: &DraftSet| nodes[set.node as usize].saturating_add(set.n_name_bytes);
            let nearest = sets.iter().map(cost).min();
            nearest.unwrap_or(NEVER).saturating_add(LONGER_NAME_BYTES)
        }
    }
}

/// From the nearest end of a name that is not declared to the end of its value: at most so many bytes.
fn other_rest(others: &Others, costs: &[usize]) -> usize {
    match others {
        Others::None => NEVER,
        Others::Any(node) => costs[*node as usize],
        Others::Matching {
            values: (_, dearest),
            ..
        } => dearest.saturating_add(LONGER_NAME_BYTES),
    }
}

fn finish_others(
    compiler: &mut Compiler<'_>,
    others: DraftOthers,
    declared: &[NameId],
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
            sets,
            complete,
            names,
        } => {
            let (live, dead): (Vec<_>, Vec<_>) =
                sets.into_iter().partition(|set| is_live(set.node));
            let Some(&DraftSet { node, .. }) = live.first() else {
                return Ok(Others::None);
            };
            let told_apart = live.iter().any(|set| set.node != node);
            let matched = |sets: &[DraftSet]| sets.iter().map(|set| set.matched).collect();
            let values = live.iter().map(|set| costs[set.node as usize]);
            let values = values.fold((NEVER, 0), |(least, most), cost| {
                (cost.min(least), cost.max(most))
            });
            let mut sets = NameSets {
                patterns,
                live: matched(&live),
                dead: complete.then(|| matched(&dead)),
                told_apart,
                tests: names,
            };
            let mut names = compiler.schemas.patterns.names(&sets)?;
            if let Some(found) = names
                && found.runs_out
                && is_any_final(compiler, found, declared)?
            {
                sets.tests = Some(compiler.without(sets.tests.as_deref(), declared));
                names = compiler.schemas.patterns.names(&sets)?;
            }
            let Some(names) = names else {
                return Ok(Others::None);
            };
            Ok(Others::Matching {
                runs_out: names.runs_out,
                automaton: names.id,
                start: names.start,
                // Without marks no set is told from the empty one.
                places: match told_apart {
                    true => live.iter().map(|set| (set.matched, set.node)).collect(),
                    false => HashMap::from_iter([(0, node)]),
                },
                values,
            })
        }
    }
}

/// Whether one of the declared names is a name of the automaton, and the beginning of no other one: once written it could
/// only be the declared one, which may have come.
fn is_any_final(
    compiler: &mut Compiler<'_>,
    names: NameAutomaton,
    declared: &[NameId],
) -> Result<bool, GrammarError> {
    let automata = compiler.schemas.patterns.automata.as_mut_slice();
    for &name in declared {
        let name = compiler.names.spelled(name);
        if is_final(
            Some(names.id as usize),
            automata,
            Other::at(names.start),
            name,
        )? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn finish_object(
    compiler: &mut Compiler<'_>,
    (id, draft): (ShapeId, DraftObject),
    costs: &[usize],
    objects: &mut Objects,
) -> Result<ObjectShape, GrammarError> {
    let DraftObject {
        mut members,
        others,
        bounds,
        exception,
    } = draft;
    let mut cost = other_cost(&others, costs);
    let declared: Vec<NameId> = members.iter().map(|m| m.name).collect();
    let mut others = finish_others(compiler, others, &declared, costs)?;
    // An exception's shape has the properties of its object's.
    if exception.is_none()
        && let Some(listed) = listed(compiler, &others)?
    {
        // So few names run out, and then none may be begun. The declared ones are not among the
        // others.
        let declared: HashSet<_> = declared.iter().copied().collect();
        let is_other = |m: &DraftMember| !declared.contains(&m.name);
        members.extend(listed.into_iter().filter(is_other));
        (others, cost) = (Others::None, NEVER);
    }
    let order = Order::new(&members, costs);
    let names: Vec<NameId> = order.all.iter().map(|&idx| members[idx].name).collect();
    let names = objects.trie(names, &compiler.names);
    let ordered = compiler.ordered;
    let shape = |properties: Vec<Property>, (others, other_cost), others_follow| ObjectShape {
        has_dependents: properties.iter().any(|property| !property.needs.is_empty()),
        names: Arc::clone(&names),
        properties,
        other_rest: other_rest(&others, costs),
        other_cost,
        others,
        others_follow,
        bounds,
        ordered,
        exception: None,
        within: None,
    };
    let others_follow = !matches!(others, Others::None);
    let places: Vec<NodeId> = members.iter().map(|m| m.node).collect();
    let properties = order.properties(&members, &places, (costs, &compiler.names));
    let mut whole = shape(properties, (others, cost), others_follow);
    if let Some(exception) = exception {
        let cost = other_cost(&exception.others, costs);
        let others = finish_others(compiler, exception.others, &declared, costs)?;
        let properties = order.properties(&members, &exception.nodes, (costs, &compiler.names));
        let one = shape(properties, (others, cost), others_follow);
        whole.exception = Some(Exception {
            shape: (objects.n_drafts + objects.exceptions.len()) as ShapeId,
            costs: one
                .properties
                .iter()
                .map(|property| property.cost)
                .collect(),
            other_cost: one.other_cost.saturating_add(OTHER_NAME_BYTES + 4),
        });
        objects.exceptions.push(ObjectShape {
            within: Some(id),
            ..one
        });
    }
    Ok(whole)
}

/// An object's members: those that can occur come first; each keeps its order.
struct Order {
    all: Vec<usize>,
    /// How many can occur.
    n_live: usize,
    /// The place in `all` of each member.
    new_idx: Vec<u32>,
}

impl Order {
    fn new(members: &[DraftMember], costs: &[usize]) -> Self {
        let is_never = |m: &DraftMember| costs[m.node as usize] == NEVER;
        let is_dead = |m: &DraftMember| {
            is_never(m)
                || m.needs
                    .iter()
                    .any(|&need| is_never(&members[need as usize]))
        };
        let dead: Vec<bool> = members.iter().map(is_dead).collect();
        let mut all: Vec<usize> = (0..members.len()).collect();
        all.sort_by_key(|&idx| dead[idx]);
        let mut new_idx = vec![0; members.len()];
        for (new, &old) in all.iter().enumerate() {
            new_idx[old] = new as u32;
        }
        let n_live = dead.iter().filter(|&&dead| !dead).count();
        Self {
            all,
            n_live,
            new_idx,
        }
    }

    /// Those that can occur, with their values at `places`.
    fn properties(
        &self,
        members: &[DraftMember],
        places: &[NodeId],
        (costs, names): (&[usize], &Names),
    ) -> Vec<Property> {
        let property = |&idx: &usize| {
            let DraftMember {
                name,
                required,
                needs,
                ..
            } = &members[idx];
            let n_name_bytes = names.spelled(*name).len();
            Property {
                node: places[idx],
                required: *required,
                needs: needs
                    .iter()
                    .map(|&need| self.new_idx[need as usize])
                    .collect(),
                n_name_bytes,
                cost: costs[places[idx] as usize].saturating_add(n_name_bytes + 4),
            }
        };
        self.all[..self.n_live].iter().map(property).collect()
    }
}

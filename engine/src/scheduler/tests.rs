//! The scheduler alone: plans are functions of the state, in the right order, and within their budget.

use std::collections::BTreeSet;

use super::*;

impl Scheduler {
    /// Preempts as if the pages had run out.
    pub(crate) fn preempt_youngest(&mut self) {
        if let Some(&id) = self.running.keys().next_back() {
            self.preempt(id, &mut Plan::default());
        }
    }
}

fn scheduler(n_pages: usize, max_batch_tokens: usize) -> Scheduler {
    Scheduler::new(
        Limits {
            max_batch_tokens,
            max_running: 8,
        },
        Memory::new(n_pages, 4, true),
    )
}

fn sequence(id: u64, tokens: Vec<TokenId>, n_left: usize) -> Sequence {
    let logits_from = tokens.len() - 1;
    Sequence::new(
        RequestId(id),
        0,
        vec![Lane::new(None, 0, tokens, logits_from)],
        n_left,
    )
}

/// Runs a plan and gives every sequence that got logits its next token.
fn run(scheduler: &mut Scheduler, plan: &Plan) {
    scheduler.complete(plan);
    for span in plan
        .spans
        .iter()
        .filter(|span| span.outputs != Outputs::None)
    {
        let end = scheduler.lane(span.id, 0).end();
        if scheduler.running[&span.id].n_left == 0 {
            scheduler.remove(span.id);
        } else {
            scheduler.extend(span.id, &[end as TokenId % 7], end);
        }
    }
}

fn tokens(seed: u32, n_tokens: u32) -> Vec<TokenId> {
    (0..n_tokens).map(|idx| seed * 1000 + idx).collect()
}

#[test]
fn decodes_come_before_chunks_of_prefill() {
    let mut scheduler = scheduler(100, 8);
    scheduler.add(sequence(0, tokens(0, 5), 9));
    let plan = scheduler.plan();
    assert_eq!(plan.spans.len(), 1);
    run(&mut scheduler, &plan);
    scheduler.add(sequence(1, tokens(1, 20), 9));
    let plan = scheduler.plan();
    let shapes: Vec<_> = plan
        .spans
        .iter()
        .map(|it| (it.id.0, it.start, it.n_tokens))
        .collect();
    assert_eq!(shapes, [(0, 5, 1), (1, 0, 7)], "the budget is shared");
    assert_eq!(plan.spans[1].outputs, Outputs::None);
    run(&mut scheduler, &plan);
    let plan = scheduler.plan();
    assert_eq!((plan.spans[1].start, plan.spans[1].n_tokens), (7, 7));
}

#[test]
fn the_best_response_ratio_starts_first() {
    let mut scheduler = scheduler(400, 8);
    scheduler.add(sequence(0, tokens(0, 8), 0));
    let plan = scheduler.plan();
    scheduler.add(sequence(1, tokens(1, 30), 0));
    scheduler.add(sequence(2, tokens(2, 6), 0));
    run(&mut scheduler, &plan);
    let plan = scheduler.plan();
    let order: Vec<u64> = plan.started.iter().map(|(id, _)| id.0).collect();
    assert_eq!(
        order,
        [2, 1],
        "both have waited as long, the short one gains more by it"
    );
}

#[test]
fn a_common_prefix_is_computed_by_one_leader() {
    let mut scheduler = scheduler(400, 16);
    let shared = tokens(0, 32);
    for id in 0..3 {
        let mut tokens = shared.clone();
        tokens.push(id as TokenId + 100);
        scheduler.add(sequence(id, tokens, 4));
    }
    scheduler.add(sequence(3, tokens(9, 5), 4));
    for _ in 0..2 {
        let plan = scheduler.plan();
        assert!(
            plan.spans
                .iter()
                .all(|span| span.id.0 != 1 && span.id.0 != 2),
            "they wait"
        );
        run(&mut scheduler, &plan);
    }
    let plan = scheduler.plan();
    let cached: Vec<_> = plan
        .started
        .iter()
        .filter(|(id, _)| id.0 < 3)
        .map(|it| it.1)
        .collect();
    assert_eq!(cached, [32, 32]);
}

#[test]
fn the_youngest_makes_room_for_the_oldest() {
    let mut scheduler = scheduler(12, 64);
    scheduler.add(sequence(0, tokens(0, 12), 16));
    scheduler.add(sequence(1, tokens(1, 12), 16));
    let mut preempted = false;
    for _ in 0..200 {
        if scheduler.n_running() + scheduler.n_waiting() == 0 {
            break;
        }
        let plan = scheduler.plan();
        if scheduler.waiting.contains_key(&RequestId(1)) && scheduler.n_preemptions() > 0 {
            preempted = true;
            assert!(
                scheduler.running.contains_key(&RequestId(0)),
                "the oldest runs on"
            );
        }
        assert_eq!(plan.stuck, None);
        run(&mut scheduler, &plan);
    }
    assert!(preempted, "seven pages each do not fit into twelve");
    assert_eq!(scheduler.n_running() + scheduler.n_waiting(), 0, "both end");
    assert_eq!(scheduler.n_held(), 0);
}

#[test]
fn what_can_never_run_is_named_instead_of_hanging() {
    let mut scheduler = scheduler(2, 64);
    scheduler.add(sequence(0, tokens(0, 50), 1));
    let plan = scheduler.plan();
    assert_eq!((plan.stuck, plan.spans.len()), (Some(RequestId(0)), 0));
    scheduler.remove(RequestId(0));
    assert_eq!(
        scheduler.plan(),
        Plan {
            n_budget: 64,
            ..Plan::default()
        }
    );
}

/// A trace of arrivals replays to the same plans, and no plan breaks its rules.
#[test]
fn traces_replay() {
    let trace = || {
        let mut scheduler = scheduler(24, 16);
        let mut plans = Vec::new();
        for step in 0..300u32 {
            if step % 7 == 0 && step < 200 {
                let family = step % 3;
                let prompt = tokens(family, 5 + step % 31);
                scheduler.add(sequence(u64::from(step), prompt, step as usize % 20));
            }
            let plan = scheduler.plan();
            let n_prefill: usize = plan
                .spans
                .iter()
                .map(|it| it.n_tokens)
                .filter(|&n_tokens| n_tokens > 1)
                .sum();
            assert!(n_prefill <= 16);
            let lanes: BTreeSet<_> = plan.spans.iter().map(|it| (it.id, it.lane_idx)).collect();
            assert_eq!(lanes.len(), plan.spans.len(), "a lane runs once a step");
            run(&mut scheduler, &plan);
            plans.push(plan);
        }
        assert_eq!(scheduler.n_running() + scheduler.n_waiting(), 0, "all end");
        plans
    };
    assert_eq!(trace(), trace());
}

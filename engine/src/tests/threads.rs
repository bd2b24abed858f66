//! The thread and the door to it.

use std::sync::mpsc;
use std::time::Duration;

use super::*;
use crate::EngineOptions;
use crate::engine::Worker;

fn worker(options: &EngineOptions) -> Worker {
    let decoder = FakeDecoder::new(200, 16);
    Worker::start(Box::new(decoder), vocabulary(), Some(drafter()), options).unwrap()
}

fn endless() -> Request {
    generation(
        &prompt(1, 1, 20),
        Generate {
            min_tokens: 10_000,
            ..Generate::default()
        },
    )
}

fn is_last(event: &Event) -> bool {
    !matches!(event, Event::Started { .. } | Event::Token(_))
}

/// A sink that sends everything on.
fn channel() -> (Sink, mpsc::Receiver<Event>) {
    let (sender, receiver) = mpsc::channel();
    let sink: Sink = Box::new(move |event| match sender.send(event) {
        Ok(()) => ControlFlow::Continue(()),
        Err(_) => ControlFlow::Break(()),
    });
    (sink, receiver)
}

/// A sink that never lets the engine thread go on until the test does.
fn gated() -> (Sink, mpsc::Sender<()>) {
    let (open, gate) = mpsc::channel::<()>();
    let sink: Sink = Box::new(move |_| {
        let _ = gate.recv();
        ControlFlow::Continue(())
    });
    (sink, open)
}

#[test]
fn many_callers_get_their_own_answers() {
    let worker = worker(&EngineOptions::default());
    std::thread::scope(|scope| {
        for caller in 0..4 {
            let door = &worker.door;
            scope.spawn(move || {
                for turn in 0..10 {
                    let tokens = prompt(caller, turn, 30);
                    let (sink, events) = channel();
                    door.submit(generation(&tokens, at_most(20)), sink).unwrap();
                    let Some(Event::Finished(finished)) = events.iter().last() else {
                        panic!("it must finish");
                    };
                    assert_eq!(finished.tokens, greedy_reference(&tokens, 20));
                }
            });
        }
    });
}

#[test]
fn whoever_hears_of_an_end_finds_its_pages_free() {
    let worker = worker(&EngineOptions {
        prefix_cache: false,
        ..EngineOptions::default()
    });
    for n_ended in 1..200 {
        let (sink, events) = channel();
        worker
            .door
            .submit(generation(&prompt(1, 1, 30), at_most(2)), sink)
            .unwrap();
        assert!(events.iter().any(|event| is_last(&event)));
        let stats = worker.door.stats();
        assert_eq!((stats.n_ended, stats.n_running), (n_ended, 0));
        assert_eq!(stats.n_pages_free, stats.n_pages_total);
    }
}

#[test]
fn a_full_queue_refuses() {
    let options = EngineOptions {
        max_running: 1,
        max_waiting: 2,
        ..EngineOptions::default()
    };
    let worker = worker(&options);
    let (sink, gate) = gated();
    worker.door.submit(endless(), sink).unwrap();
    let mut refused = None;
    for _ in 0..3 {
        let (sink, _) = channel();
        refused = worker.door.submit(endless(), sink).err();
    }
    assert_eq!(
        refused,
        Some(RequestError::QueueFull { given: 2, limit: 2 })
    );
    drop(gate);
}

#[test]
fn shutting_down_drains_what_runs() {
    let mut worker = worker(&EngineOptions::default());
    let receivers: Vec<_> = (0..8)
        .map(|seed| {
            let (sink, events) = channel();
            worker
                .door
                .submit(generation(&prompt(seed, seed, 30), at_most(30)), sink)
                .unwrap();
            events
        })
        .collect();
    worker.stop(Duration::from_secs(60));
    for events in receivers {
        assert!(matches!(events.iter().last(), Some(Event::Finished(_))));
    }
    let (sink, _) = channel();
    assert_eq!(
        worker.door.submit(endless(), sink),
        Err(RequestError::ShuttingDown)
    );
    let stats = worker.door.stats();
    assert_eq!((stats.n_ended, stats.n_pages_held), (8, 0));
}

#[test]
fn what_does_not_drain_is_ended() {
    let mut worker = worker(&EngineOptions {
        max_running: 1,
        ..EngineOptions::default()
    });
    let (slow, gate) = gated();
    worker.door.submit(endless(), slow).unwrap();
    let (sink, events) = channel();
    worker.door.submit(endless(), sink).unwrap();
    let opener = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(100));
        drop(gate);
    });
    worker.stop(Duration::from_millis(20));
    opener.join().unwrap();
    assert_eq!(
        events.iter().last(),
        Some(Event::Failed(RequestError::ShuttingDown))
    );
}

#[test]
fn cancelling_and_dropping_receivers_leave_nothing() {
    let worker = worker(&EngineOptions::default());
    let (sink, events) = channel();
    let id = worker.door.submit(endless(), sink).unwrap();
    worker.door.cancel(id);
    assert!(events.iter().last().is_some_and(|event| is_last(&event)));
    let (sink, events) = channel();
    worker.door.submit(endless(), sink).unwrap();
    drop(events);
    let (sink, events) = channel();
    worker
        .door
        .submit(generation(&[1, 2, 3], at_most(2)), sink)
        .unwrap();
    assert!(
        events
            .iter()
            .any(|event| matches!(event, Event::Finished(_)))
    );
    worker.door.cancel(RequestId(12_345));
}

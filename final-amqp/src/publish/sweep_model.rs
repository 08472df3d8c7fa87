//! Drives the sweep with a model of lapin 4.12.3 and RabbitMQ, over many random schedules.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use fastrand::Rng;

use super::{Sweep, SweepVerdict};

/// A broker that returns and confirms, and lapin's book-keeping of it.
struct Model {
    rng: Rng,
    unroutable: Vec<bool>,
    /// Which the broker refuses: it nacks them, and may have returned them before.
    refused: Vec<bool>,
    published: usize,
    received: usize,
    /// Received by the broker and not confirmed yet.
    confirmable: Vec<usize>,
    /// lapin's queue of returns.
    waiting: VecDeque<usize>,
    /// lapin's unresolved confirms.
    pending: BTreeSet<usize>,
    /// Resolved confirms, each with what it carries.
    resolved: HashMap<usize, Result<Option<usize>, ()>>,
}

impl Model {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let count = rng.usize(1..120);
        let share = [0.02, 0.2, 0.5, 0.9][rng.usize(0..4)];
        let refusals = [0.0, 0.1, 0.5][rng.usize(0..3)];
        Self {
            unroutable: (0..count).map(|_| rng.f64() < share).collect(),
            refused: (0..count).map(|_| rng.f64() < refusals).collect(),
            rng,
            published: 0,
            received: 0,
            confirmable: Vec::new(),
            waiting: VecDeque::new(),
            pending: BTreeSet::new(),
            resolved: HashMap::new(),
        }
    }

    /// One thing happens on the other side: a message arrives, or confirms do.
    fn step(&mut self) {
        if self.rng.bool() && self.received < self.published {
            let message = self.received;
            self.received += 1;
            if self.unroutable[message] {
                self.waiting.push_back(message);
            }
            self.confirmable.push(message);
            return;
        }
        let Some(tag) = self.rng.choice(&self.confirmable).copied() else {
            return;
        };
        let mut batch: Vec<usize> = self.pending.range(..=tag).copied().collect();
        // `multiple` covers everything up to the tag, so all of it must be confirmable, and alike.
        let alike = |other: &usize| {
            self.confirmable.contains(other) && self.refused[*other] == self.refused[tag]
        };
        if self.rng.bool() || !batch.iter().all(alike) {
            batch = vec![tag];
        }
        // lapin walks a hash map.
        self.rng.shuffle(&mut batch);
        for tag in batch {
            self.confirmable.retain(|other| *other != tag);
            self.pending.remove(&tag);
            let carried = self.waiting.pop_front();
            self.resolved.insert(tag, Ok(carried));
        }
    }

    /// The channel ends: what is pending fails, and waiting returns are gone.
    fn cut(&mut self) {
        for tag in std::mem::take(&mut self.pending) {
            self.resolved.insert(tag, Err(()));
        }
        self.waiting.clear();
        self.confirmable.clear();
        self.received = self.published;
    }
}

#[derive(Default)]
struct Tally {
    decided: u64,
    naive_wrong: u64,
    carried: u64,
    refused: u64,
    undecided: u64,
}

/// Runs one schedule; `cut` ends the channel somewhere in the middle.
fn run(seed: u64, cut: bool, tally: &mut Tally) {
    let mut model = Model::new(seed);
    let window = model.rng.usize(1..40);
    let count = model.unroutable.len();
    let cut_at = cut.then(|| model.rng.usize(0..count * 3));
    let mut sweep: Sweep<usize, usize> = Sweep::new();
    let mut outstanding: BTreeMap<u64, usize> = BTreeMap::new();
    let mut verdicts = Vec::new();
    let (mut next, mut settled, mut rounds, mut dead) = (0, 0, 0, false);

    while settled < count && rounds < 100_000 {
        while next < count && !dead && outstanding.len() < window && model.rng.f64() < 0.7 {
            outstanding.insert(sweep.published(), next);
            model.pending.insert(next);
            next += 1;
            model.published = next;
        }
        for _ in 0..model.rng.usize(0..6) {
            model.step();
        }
        if cut_at == Some(rounds) {
            model.cut();
            dead = true;
        }
        let mut order: Vec<u64> = outstanding.keys().copied().collect();
        model.rng.shuffle(&mut order);
        for number in order {
            if model.rng.f64() < 0.3 && !dead {
                model.step();
            }
            let message = outstanding[&number];
            match model.resolved.get(&message) {
                None => continue,
                Some(Ok(carried)) => {
                    if carried.is_none() && model.unroutable[message] {
                        tally.naive_wrong += 1;
                    }
                    if carried.is_some_and(|other| other != message) {
                        tally.carried += 1;
                    }
                    let acked = !model.refused[message];
                    sweep.answered(number, message, message, acked, *carried);
                }
                Some(Err(())) => {
                    sweep.broke();
                    settled += 1;
                }
            }
            outstanding.remove(&number);
        }
        sweep.end_round(&mut verdicts);
        for (message, verdict) in verdicts.drain(..) {
            let expected = match (model.unroutable[message], model.refused[message]) {
                (true, _) => SweepVerdict::Unroutable,
                (false, true) => SweepVerdict::Refused,
                (false, false) => SweepVerdict::Stored,
            };
            tally.refused += u64::from(verdict == SweepVerdict::Refused);
            assert_eq!(verdict, expected, "message {message} of seed {seed}");
            settled += 1;
            tally.decided += 1;
        }
        rounds += 1;
        if dead && rounds > cut_at.unwrap_or(0) + 2 {
            // Two rounds after the end nothing more can be proven. What has no proof is kept, to be sent
            // again: whatever was published is decided, broken, or here.
            let undecided = sweep.into_undecided();
            tally.undecided += undecided.len() as u64;
            assert_eq!(
                settled + undecided.len() + outstanding.len(),
                next,
                "seed {seed}"
            );
            return;
        }
    }
    assert_eq!(settled, count, "stuck with seed {seed}");
    assert_eq!(sweep.undecided(), 0);
}

#[test]
fn never_wrong_and_never_stuck() {
    let mut tally = Tally::default();
    for seed in 0..20_000 {
        run(seed, false, &mut tally);
    }

    assert!(tally.decided > 1_000_000);
    // The model does what lapin does: believing an ack at once would lose messages.
    assert!(tally.naive_wrong > 10_000, "{}", tally.naive_wrong);
    assert!(tally.carried > 10_000, "{}", tally.carried);
    assert!(tally.refused > 10_000, "{}", tally.refused);
}

#[test]
fn never_wrong_when_the_channel_ends() {
    let mut tally = Tally::default();
    for seed in 0..20_000 {
        run(seed, true, &mut tally);
    }

    assert!(tally.decided > 100_000, "{}", tally.decided);
    assert!(tally.undecided > 1_000, "{}", tally.undecided);
}

#[test]
fn an_id_can_come_again_after_its_return() {
    let mut sweep = Sweep::new();
    let mut verdicts = Vec::new();
    let number = sweep.published();
    sweep.answered(number, "id", 1, true, Some("id"));
    sweep.end_round(&mut verdicts);
    let number = sweep.published();
    sweep.answered(number, "id", 2, true, None);
    sweep.end_round(&mut verdicts);

    assert_eq!(
        verdicts,
        [(1, SweepVerdict::Unroutable), (2, SweepVerdict::Stored)]
    );
}

/// A topic without a queue is tried again and again, while others keep the channel busy.
#[test]
fn an_id_can_come_again_after_its_return_while_others_are_outstanding() {
    let mut sweep = Sweep::new();
    let mut verdicts = Vec::new();
    sweep.published();
    for (ticket, carried) in [(1, Some("id")), (2, None)] {
        let number = sweep.published();
        sweep.answered(number, "id", ticket, true, carried);
        sweep.end_round(&mut verdicts);
        sweep.end_round(&mut verdicts);
    }

    assert_eq!(
        verdicts,
        [(1, SweepVerdict::Unroutable), (2, SweepVerdict::Stored)]
    );
}

/// It was returned twice, or came with an id that cannot be read.
#[test]
fn a_return_of_no_message_is_forgotten_when_nothing_is_outstanding() {
    let mut sweep = Sweep::new();
    let mut verdicts = Vec::new();
    for (ticket, id, carried) in [(1, "one", Some("other")), (2, "other", None)] {
        let number = sweep.published();
        sweep.answered(number, id, ticket, true, carried);
        sweep.end_round(&mut verdicts);
    }

    assert_eq!(
        verdicts,
        [(1, SweepVerdict::Stored), (2, SweepVerdict::Stored)]
    );
}

#[test]
fn a_nack_is_refused_and_never_stored() {
    let mut sweep = Sweep::new();
    let mut verdicts = Vec::new();
    for ticket in 0..3 {
        let number = sweep.published();
        sweep.answered(number, ticket, ticket, ticket != 1, None);
    }
    sweep.end_round(&mut verdicts);

    assert_eq!(verdicts[1], (1, SweepVerdict::Refused));
    assert_eq!(verdicts[2], (2, SweepVerdict::Stored));
}

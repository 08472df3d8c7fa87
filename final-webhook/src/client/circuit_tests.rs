//! Histories of an endpoint: some by hand, and random ones beside a model that keeps the whole history.

use proptest::prelude::*;

use super::*;

const LIMIT: Duration = Duration::from_secs(3);

/// A message at which nothing has failed.
const NEW: u64 = 99;

const SETTINGS: Settings = Settings {
    failures: 3,
    first: Duration::from_secs(10),
    cap: Duration::from_secs(600),
};

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A circuit that has just opened, and the moment when its pause ends.
fn opened(now: Instant) -> (Circuit, Instant) {
    let mut circuit = Circuit::new(SETTINGS);
    for _ in 0..SETTINGS.failures {
        let ticket = circuit.admit(NEW, now, LIMIT).unwrap();
        circuit.settle(ticket, Evidence::Fails, now, 0.0);
    }
    let until = circuit.admit(NEW, now, LIMIT).unwrap_err();
    (circuit, until)
}

#[test]
fn it_opens_after_failures_in_a_row_only() {
    let now = Instant::now();
    let mut circuit = Circuit::new(SETTINGS);
    let mut end = |evidence| {
        let ticket = circuit.admit(NEW, now, LIMIT).unwrap();
        circuit.settle(ticket, evidence, now, 0.0)
    };

    assert_eq!(end(Evidence::Fails), None);
    assert_eq!(end(Evidence::Fails), None);
    assert_eq!(end(Evidence::Answers), None);
    assert_eq!(end(Evidence::Fails), None);
    assert_eq!(end(Evidence::Nothing), None);
    assert_eq!(end(Evidence::FailsAt(1)), None);
    assert_eq!(
        end(Evidence::FailsAt(2)),
        Some(Change::Opened { pause: secs(10) })
    );
}

#[test]
fn one_message_that_fails_again_and_again_opens_nothing() {
    let now = Instant::now();
    let mut circuit = Circuit::new(SETTINGS);
    for _ in 0..100 {
        let ticket = circuit.admit(NEW, now, LIMIT).unwrap();
        assert_eq!(circuit.settle(ticket, Evidence::FailsAt(1), now, 0.0), None);
    }
}

#[test]
fn one_call_tries_after_the_pause_while_others_wait() {
    let (mut circuit, until) = opened(Instant::now());

    let ticket = circuit.admit(NEW, until, LIMIT).unwrap();
    assert_eq!(circuit.admit(NEW, until, LIMIT), Err(until + LIMIT));
    assert_eq!(
        circuit.settle(ticket, Evidence::Answers, until, 0.0),
        Some(Change::Closed)
    );
    assert!(circuit.is_blank());
    assert!(circuit.admit(NEW, until, LIMIT).is_ok());
    assert!(circuit.admit(NEW, until, LIMIT).is_ok());
}

#[test]
fn a_try_that_fails_makes_the_pause_longer_up_to_its_cap() {
    let (mut circuit, mut until) = opened(Instant::now());
    let mut pauses = Vec::new();
    for _ in 0..8 {
        let ticket = circuit.admit(NEW, until, LIMIT).unwrap();
        circuit.settle(ticket, Evidence::Fails, until, 0.0);
        let next = circuit.admit(NEW, until, LIMIT).unwrap_err();
        pauses.push((next - until).as_secs());
        until = next;
    }

    assert_eq!(pauses, [20, 40, 80, 160, 320, 400, 400, 400]);
    assert_eq!(SETTINGS.pause(u32::MAX, 1.0), secs(600));
}

#[test]
fn a_try_that_was_dropped_leaves_its_turn_to_the_next_call() {
    let (mut circuit, until) = opened(Instant::now());
    let ticket = circuit.admit(NEW, until, LIMIT).unwrap();

    circuit.abandon(ticket, until);
    assert!(circuit.admit(NEW, until, LIMIT).is_ok());
}

#[test]
fn a_try_that_is_never_settled_blocks_nothing_for_longer_than_its_limit() {
    let (mut circuit, until) = opened(Instant::now());
    let lost = circuit.admit(NEW, until, LIMIT).unwrap();

    let next = circuit.admit(NEW, until + LIMIT, LIMIT).unwrap();
    assert_eq!(
        circuit.settle(lost, Evidence::Answers, until + LIMIT, 0.0),
        None
    );
    assert_eq!(
        circuit.settle(next, Evidence::Answers, until + LIMIT, 0.0),
        Some(Change::Closed)
    );
}

#[test]
fn calls_that_began_before_it_opened_change_nothing() {
    let now = Instant::now();
    let mut circuit = Circuit::new(SETTINGS);
    let mut tickets: Vec<_> = (0..12)
        .map(|_| circuit.admit(NEW, now, LIMIT).unwrap())
        .collect();
    let late = tickets.split_off(10);
    let changes: Vec<_> = tickets
        .iter()
        .filter_map(|t| circuit.settle(*t, Evidence::Fails, now, 0.0))
        .collect();

    assert_eq!(changes, [Change::Opened { pause: secs(10) }]);
    assert_eq!(circuit.admit(NEW, now, LIMIT), Err(now + secs(10)));
    // An answer that was under way when it opened is no news.
    for (ticket, evidence) in late
        .into_iter()
        .zip([Evidence::WantsRest(secs(90)), Evidence::Answers])
    {
        assert_eq!(circuit.settle(ticket, evidence, now, 0.0), None);
    }
    assert_eq!(circuit.admit(NEW, now, LIMIT), Err(now + secs(10)));
}

#[test]
fn an_endpoint_that_asks_for_a_rest_gets_it_from_all_calls() {
    let now = Instant::now();
    let mut circuit = Circuit::new(SETTINGS);
    let ticket = circuit.admit(NEW, now, LIMIT).unwrap();

    let change = circuit.settle(ticket, Evidence::WantsRest(secs(30)), now, 0.0);
    assert_eq!(change, Some(Change::Rests { pause: secs(30) }));
    assert_eq!(
        circuit.admit(NEW, now + secs(29), LIMIT),
        Err(now + secs(30))
    );
    assert!(circuit.admit(NEW, now + secs(30), LIMIT).is_ok());
}

#[test]
fn messages_that_broke_the_endpoint_let_others_try_it_first() {
    let mut now = Instant::now();
    let mut circuit = Circuit::new(SETTINGS);
    for broken in [1, 2, 3] {
        let ticket = circuit.admit(broken, now, LIMIT).unwrap();
        circuit.settle(ticket, Evidence::FailsAt(broken), now, 0.0);
    }
    now += secs(10);
    for broken in [1, 2, 3] {
        assert_eq!(circuit.admit(broken, now, LIMIT), Err(now + secs(10)));
    }
    let ticket = circuit.admit(NEW, now, LIMIT).unwrap();
    let change = circuit.settle(ticket, Evidence::Answers, now, 0.0);
    assert_eq!(change, Some(Change::Closed));
    assert!(circuit.admit(1, now, LIMIT).is_ok());
}

#[test]
fn messages_that_broke_the_endpoint_try_it_when_nobody_else_does() {
    let mut now = Instant::now();
    let mut circuit = Circuit::new(SETTINGS);
    for message in 0..200 {
        now = circuit.admit(message, now, LIMIT).err().unwrap_or(now);
        let ticket = circuit.admit(message, now, LIMIT).unwrap();
        circuit.settle(ticket, Evidence::FailsAt(message), now, 0.0);
        assert!(circuit.suspects.len() <= MOST_SUSPECTS);
    }
    let until = circuit.paused(None, now).unwrap();
    assert_eq!(circuit.admit(199, now, LIMIT), Err(until + secs(10)));
    assert!(circuit.admit(199, until + secs(10), LIMIT).is_ok());
}

#[derive(Clone, Debug)]
enum Step {
    /// With this message.
    Begin(u64),
    End(prop::sample::Index, Evidence),
    Drop(prop::sample::Index),
    Wait(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let evidence = prop_oneof![
        2 => Just(Evidence::Answers),
        6 => Just(Evidence::Fails),
        // The test puts the message of the call in its place.
        4 => Just(Evidence::FailsAt(0)),
        1 => (0u64..90).prop_map(|seconds| Evidence::WantsRest(secs(seconds))),
        1 => Just(Evidence::Nothing),
    ];
    let step = prop_oneof![
        4 => (0u64..6).prop_map(Step::Begin),
        4 => (any::<prop::sample::Index>(), evidence).prop_map(|(call, evidence)| Step::End(call, evidence)),
        1 => any::<prop::sample::Index>().prop_map(Step::Drop),
        2 => prop_oneof![0u64..5, 0u64..40, 0u64..900].prop_map(Step::Wait),
    ];
    proptest::collection::vec(step, 0..200)
}

/// The same rules in other words: it remembers what came of every call that counts, and derives everything from that.
#[derive(Default)]
struct Model {
    history: Vec<Evidence>,
    /// Calls that began since the last change.
    counting: Vec<usize>,
    /// How many tries have failed in a row, and when the pause ends; none if the circuit is closed.
    open: Option<(u32, Instant)>,
    /// The call that tries, and until when it does so alone.
    trying: Option<(usize, Instant)>,
}

impl Model {
    fn may_begin(&self, message: u64, now: Instant) -> bool {
        let end = match (self.open, self.trying) {
            (_, Some((_, ends_by))) => ends_by,
            (Some((_, until)), None) => until,
            (None, None) => return true,
        };
        let has_failed = self.row().contains(&Evidence::FailsAt(message));
        now >= end
            + if has_failed {
                SETTINGS.first
            } else {
                Duration::ZERO
            }
    }

    fn begin(&mut self, call: usize, now: Instant) {
        if self.open.is_some() {
            self.counting.clear();
            self.trying = Some((call, now + LIMIT));
        }
        self.counting.push(call);
    }

    fn changed(&mut self) {
        (self.counting, self.trying) = (Vec::new(), None);
    }

    /// What came since the last answer.
    fn row(&self) -> &[Evidence] {
        let mut history = self.history.iter();
        let last = history.rposition(|evidence| *evidence == Evidence::Answers);
        &self.history[last.map_or(0, |at| at + 1)..]
    }

    /// Failures since the last answer, a message counted once.
    fn failures(&self) -> usize {
        let row = self.row();
        let plain = row.iter().filter(|evidence| **evidence == Evidence::Fails);
        let at = |message: &u64| row.contains(&Evidence::FailsAt(*message));
        plain.count() + (0..6).filter(at).count()
    }

    fn end(&mut self, call: usize, evidence: Evidence, now: Instant) {
        if !self.counting.contains(&call) {
            return;
        }
        self.history.push(evidence);
        let failed = match (self.open, evidence) {
            (_, Evidence::WantsRest(rest)) => {
                self.open = Some((0, now + rest));
                return self.changed();
            }
            (Some(_), Evidence::Answers) => {
                self.open = None;
                return self.changed();
            }
            (Some((failed, _)), Evidence::Nothing) => {
                self.open = Some((failed, now));
                return self.changed();
            }
            (Some((failed, _)), _) => failed + 1,
            (None, _) if self.failures() >= SETTINGS.failures as usize => 1,
            (None, _) => return,
        };
        let pause = secs((10u64 << (failed - 1).min(20)).min(400));
        self.open = Some((failed, now + pause));
        self.changed();
    }

    fn drop(&mut self, call: usize, now: Instant) {
        if let (Some((trying, _)), Some((failed, _))) = (self.trying, self.open)
            && trying == call
        {
            self.open = Some((failed, now));
            self.changed();
        }
    }
}

proptest! {
    #[test]
    fn it_does_what_the_whole_history_says(steps in steps()) {
        let (mut circuit, mut model) = (Circuit::new(SETTINGS), Model::default());
        let mut now = Instant::now();
        let mut under_way: Vec<(usize, u64, Ticket)> = Vec::new();
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                Step::Begin(message) => {
                    prop_assert_eq!(circuit.paused(Some(message), now).is_none(), model.may_begin(message, now));
                    prop_assert_eq!(circuit.paused(None, now).is_none(), model.may_begin(NEW, now));
                    match circuit.admit(message, now, LIMIT) {
                        Ok(ticket) => {
                            prop_assert!(model.may_begin(message, now));
                            model.begin(number, now);
                            under_way.push((number, message, ticket));
                        }
                        Err(until) => {
                            prop_assert!(!model.may_begin(message, now));
                            prop_assert!(!model.may_begin(message, until - Duration::from_nanos(1)));
                            prop_assert!(model.may_begin(message, until));
                        }
                    }
                }
                Step::End(call, evidence) if !under_way.is_empty() => {
                    let (call, message, ticket) = under_way.remove(call.index(under_way.len()));
                    let evidence = match evidence {
                        Evidence::FailsAt(_) => Evidence::FailsAt(message),
                        other => other,
                    };
                    circuit.settle(ticket, evidence, now, 0.0);
                    model.end(call, evidence, now);
                }
                Step::Drop(call) if !under_way.is_empty() => {
                    let (call, _, ticket) = under_way.remove(call.index(under_way.len()));
                    circuit.abandon(ticket, now);
                    model.drop(call, now);
                }
                Step::Wait(seconds) => now += secs(seconds),
                Step::End(..) | Step::Drop(_) => {}
            }
        }
    }

    #[test]
    fn a_pause_lies_between_the_first_one_and_the_cap(failed: u32, dice in 0.0..=1.0) {
        let pause = SETTINGS.pause(failed, dice);
        prop_assert!((SETTINGS.first..=SETTINGS.cap).contains(&pause), "{pause:?}");
    }
}

//! An engine that does whatever its schedule says is due, with a clock of the test.

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::{OtherTimes, Reading, Schedule};
use crate::log::tuning::Tuning;

const LONGEST_PAUSE: Duration = Duration::from_secs(2);

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

#[derive(Clone, Copy, Debug)]
enum Event {
    /// Nothing happens until the engine wakes up by itself.
    Wake,
    /// Something wakes it earlier.
    WakeEarly(u64),
    Settle(usize),
    /// A lane is read further, and nothing of it is settled.
    Lag,
    /// A side effect was refused.
    Refuse(u64),
    Announce,
    Publish(usize),
    /// Messages are due: so many transactions' worth.
    Schedule(u32),
    MembersChange(bool),
    LoseLane,
    DatabaseFails(bool),
    Fill(bool),
    Listen(bool),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        12 => Just(Event::Wake),
        4 => (0_u64..50).prop_map(Event::WakeEarly),
        4 => (1_usize..1_500).prop_map(Event::Settle),
        2 => Just(Event::Lag),
        1 => (0_u64..3_000).prop_map(Event::Refuse),
        3 => Just(Event::Announce),
        3 => (1_usize..1_200).prop_map(Event::Publish),
        1 => (1_u32..4).prop_map(Event::Schedule),
        1 => any::<bool>().prop_map(Event::MembersChange),
        1 => Just(Event::LoseLane),
        2 => any::<bool>().prop_map(Event::DatabaseFails),
        1 => any::<bool>().prop_map(Event::Fill),
        1 => any::<bool>().prop_map(Event::Listen),
    ]
}

struct Played {
    schedule: Schedule,
    tuning: Tuning,
    now: Instant,
    others: OtherTimes,
    reading: Reading,
    has_room: bool,
    /// Unread rows, and how many transactions the scheduled messages that are due would take.
    unread: usize,
    due: u32,
    is_content: bool,
    fails: bool,
    changed_at: Option<Instant>,
}

impl Played {
    fn new() -> Self {
        let (tuning, now) = (Tuning::default(), Instant::now());
        Self {
            schedule: Schedule::new(&tuning, now),
            tuning,
            now,
            others: OtherTimes {
                lags: false,
                retry_at: None,
                alarm: None,
                held_at: None,
                reading: None,
            },
            reading: Reading {
                gap_at: None,
                can_read: true,
                is_listening: false,
            },
            has_room: true,
            unread: 0,
            due: 0,
            is_content: true,
            fails: false,
            changed_at: None,
        }
    }

    fn others(&self) -> OtherTimes {
        OtherTimes {
            reading: self.has_room.then_some(self.reading),
            ..self.others
        }
    }

    fn wake_at(&self) -> Instant {
        self.schedule.wake_at(&self.others())
    }

    /// One round, as the engine's.
    fn step(&mut self) {
        let now = self.now;
        if self.schedule.refresh_is_due(now) {
            self.schedule.message_due_at((self.due > 0).then_some(now));
            self.reading.can_read |= self.unread > 0;
            self.schedule.refreshed(now, self.is_content);
        }
        if self.schedule.promotion_is_due(now) {
            let pause = if self.fails { ms(1_000) } else { ms(0) };
            self.due -= u32::from(!self.fails);
            self.schedule.promoted(now, pause);
        }
        let (retry_at, lags) = (self.others.retry_at, self.others.lags);
        if self.schedule.commits.is_due(now, retry_at, || lags) {
            self.commit();
        }
        if self.has_room {
            self.read();
        }
    }

    fn commit(&mut self) {
        if self.fails {
            self.schedule.commits.failed(self.now);
            return;
        }
        self.others.retry_at.take_if(|at| *at <= self.now);
        if self.schedule.commits.full_is_due(self.now) {
            self.schedule.commits.begin_full(self.now);
            self.others.lags = false;
        }
        self.schedule.commits.answered();
        self.schedule.commits.committed();
        self.changed_at = None;
    }

    fn read(&mut self) {
        let reads = &mut self.schedule.reads;
        let by_poll = reads.poll_is_due(self.now, self.reading.is_listening);
        self.reading.can_read |= by_poll;
        if !reads.is_due(self.now) {
            return;
        }
        let was_announced = reads.take_announced();
        let most = if self.reading.can_read { 500 } else { 0 };
        let rows = self.unread.min(most);
        self.unread -= rows;
        self.reading.can_read = rows == 500;
        let is_foreign = rows > 0 && !was_announced && !self.reading.is_listening;
        reads.has_read(self.now, rows, by_poll || is_foreign);
        if rows > 0 {
            self.change();
        }
    }

    fn change(&mut self) {
        let now = self.now;
        self.schedule.commits.changed(|| now);
        self.changed_at.get_or_insert(self.now);
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Wake => self.now = self.now.max(self.wake_at()),
            Event::WakeEarly(after) => {
                self.now = (self.now + ms(after)).min(self.wake_at()).max(self.now)
            }
            Event::Settle(messages) => {
                self.change();
                let now = self.now;
                (0..messages).for_each(|_| self.schedule.commits.settled(|| now));
            }
            Event::Lag => self.others.lags = true,
            Event::Refuse(after) => self.others.retry_at = Some(self.now + ms(after)),
            Event::Announce => {
                self.schedule.reads.announced();
                self.reading.can_read = true;
            }
            Event::Publish(rows) => self.unread += rows,
            Event::Schedule(due) => self.due += due,
            Event::MembersChange(is_content) => {
                self.is_content = is_content;
                self.schedule.refresh_now(self.now);
            }
            Event::LoseLane => self.schedule.refresh_now(self.now),
            Event::DatabaseFails(fails) => self.fails = fails,
            Event::Fill(is_full) => self.has_room = !is_full,
            Event::Listen(is_listening) => self.reading.is_listening = is_listening,
        }
    }

    /// Does everything that is due, and returns how many rounds that took.
    fn rest(&mut self) -> u32 {
        for rounds in 1..100 {
            self.step();
            if self.wake_at() > self.now {
                return rounds;
            }
        }
        100
    }

    fn nothing_is_late(&self) {
        let wake_at = self.wake_at();
        assert!(wake_at <= self.now + self.tuning.poll_interval);
        if let Some(since) = self.changed_at {
            let due = since + self.tuning.commit_within;
            // After a failure it may have to wait for the pause.
            assert!(wake_at <= due.max(self.now + LONGEST_PAUSE));
            assert!(
                self.fails || self.paused() || wake_at <= due,
                "a commit is late"
            );
        }
        if self.others.lags && !self.paused() {
            assert!(wake_at <= self.now + ms(1_000), "a full commit is late");
        }
        if self.has_room && self.reading.can_read {
            assert!(wake_at <= self.now + ms(5), "a page is late");
        }
    }

    /// Whether a commit has failed lately.
    fn paused(&self) -> bool {
        !self
            .schedule
            .commits
            .is_due(self.now, Some(self.now), || false)
    }
}

proptest! {
    #[test]
    fn the_engine_is_never_late_and_never_busy_with_nothing(
        events in prop::collection::vec(event(), 0..200)
    ) {
        let mut engine = Played::new();
        for event in events {
            engine.happen(event);
            // Each promotion takes a round, and its refresh another.
            let most = 2 * engine.due + 3;
            let rounds = engine.rest();
            prop_assert!(rounds <= most, "{rounds} rounds at {event:?}");
            engine.nothing_is_late();
        }
    }
}

fn quiet() -> OtherTimes {
    OtherTimes {
        lags: false,
        retry_at: None,
        alarm: None,
        held_at: None,
        reading: None,
    }
}

#[test]
fn the_first_change_starts_the_clock_of_the_next_commit() {
    let mut played = Played::new();
    let (start, within) = (played.now, played.tuning.commit_within);
    played.rest();
    played.schedule.commits.changed(|| start);
    played.schedule.commits.changed(|| start + within / 2);

    assert_eq!(played.schedule.wake_at(&quiet()), start + within);
    assert!(
        !played
            .schedule
            .commits
            .is_due(start + within / 2, None, || false)
    );
    assert!(
        played
            .schedule
            .commits
            .is_due(start + within, None, || false)
    );
}

#[test]
fn enough_settlements_are_written_at_once() {
    let mut played = Played::new();
    let most = played.tuning.commit_after;
    let now = played.now;
    (1..most).for_each(|_| played.schedule.commits.settled(|| now));
    assert!(!played.schedule.commits.is_due(now, None, || false));

    played.schedule.commits.settled(|| now);
    assert!(played.schedule.commits.is_due(now, None, || false));
}

#[test]
fn a_change_that_something_waits_for_is_written_at_once_or_after_the_pause_of_a_failure() {
    let mut played = Played::new();
    let now = played.now;
    played.rest();
    played.schedule.commits.changed(|| now);
    played.schedule.commits.at_once(|| now);
    assert!(played.schedule.commits.is_due(now, None, || false));
    assert_eq!(played.schedule.wake_at(&quiet()), now);

    played.schedule.commits.committed();
    played.schedule.commits.changed(|| now);
    assert!(!played.schedule.commits.is_due(now, None, || false));

    played.schedule.commits.at_once(|| now);
    played.schedule.commits.failed(now);
    assert!(!played.schedule.commits.is_due(now, None, || false));
    assert!(played.schedule.wake_at(&quiet()) > now);
}

#[test]
fn lanes_that_only_lag_are_written_once_a_second() {
    let mut played = Played::new();
    let start = played.now;
    played.others.lags = true;
    played.rest();
    assert!(played.others.lags && played.wake_at() == start + ms(1_000));

    played.now = start + ms(1_000);
    played.rest();
    assert!(!played.others.lags);
}

#[test]
fn a_promotion_that_finds_nothing_waits_before_the_next() {
    let mut played = Played::new();
    let now = played.now;
    played.schedule.promoted(now, ms(100));
    assert!(played.schedule.refresh_is_due(now));

    played.schedule.message_due_at(Some(now));
    assert!(!played.schedule.promotion_is_due(now + ms(99)));
    assert!(played.schedule.promotion_is_due(now + ms(100)));
}

#[test]
fn polling_begins_with_rows_of_other_processes_and_ends_by_itself() {
    let mut played = Played::new();
    played.unread = 1;
    played.step();
    let mut polls = 0;
    while played.schedule.reads.polls(false) {
        let only_polls = Reading {
            can_read: false,
            ..played.reading
        };
        played.now = played
            .schedule
            .reads
            .next(&only_polls)
            .unwrap_or(played.now);
        played.step();
        polls += 1;
    }

    assert_eq!(polls, 9, "5 ms, doubled up to 2.5 s");
}

#[test]
fn an_engine_does_not_poll_for_announced_messages_or_while_it_hears_others() {
    let mut played = Played::new();
    played.unread = 1;
    played.schedule.reads.announced();
    played.step();
    assert!(!played.schedule.reads.polls(false));

    played.schedule.reads.has_read(played.now, 1, true);
    assert!(played.schedule.reads.polls(false) && !played.schedule.reads.polls(true));
}

//! Decides how many messages RabbitMQ may send ahead on one channel.
//!
//! Input: deliveries, settlements, and the time. State: the window of the consumer, how much was settled lately,
//! and how careful the channel is with suspects. Output: the next window, where another one is wanted. It sends
//! nothing itself.
//!
//! A message that waits here counts as delivered when the process ends, as if its handler had been tried. So a
//! channel wants what its handlers can work on, what was settled in the last tenth of a second, and what waits
//! for a retry. Each change costs a round trip, so the window grows by a quarter at least, and shrinks only when
//! half of it was too much for [`LAZY`].
//!
//! The consumer is replaced only while its window is used up. A quorum queue takes back a message that is on its way to
//! a cancelled consumer, and delivers it once more as if it had been tried. So a window that is too large stays while little
//! comes, and shrinks as soon as it is full.
//!
//! ```text
//!   one ── a fresh delivery ──▶ usual ── used up, and settled fast ──▶ up to most
//!    ▲                            ▲  └── a suspect ──▶ one               │
//!    │                            └────── too much for LAZY ◀────────────┘
//!    └ while more suspects come, twice as many every two seconds
//! ```

use std::time::Duration;

use tokio::time::Instant;

/// How much time the messages that wait are worth.
const AHEAD: Duration = Duration::from_millis(100);
/// How long settlements are counted together.
const PERIOD: Duration = Duration::from_secs(1);
/// How long a window stays that is larger than needed.
const LAZY: Duration = Duration::from_secs(2);
/// The shortest time from a change to a smaller window.
const PAUSE: Duration = Duration::from_millis(100);
/// How long one suspect comes after the other, until twice as many come together. A message that takes its process
/// down mostly does so at once; others must not wait for long handlers.
const SURVIVED: Duration = Duration::from_secs(2);
/// A channel that has settled so many windows need not wait for the end of [`AHEAD`] to be called fast.
const TURNS: usize = 4;

/// The window of one channel.
#[derive(Debug)]
pub(crate) struct Window {
    /// How many it may be at most.
    most: usize,
    /// How many handlers there are for this channel.
    handlers: usize,
    /// How many the consumer has now.
    size: usize,
    /// When it was changed last, or could not be.
    changed: Instant,
    /// Until when it does not grow, because it could not.
    not_before: Instant,
    /// From when on settlements are counted.
    since: Instant,
    settled: usize,
    /// How many were settled in the period before, and how long it was.
    before: (usize, Duration),
    /// Whether the window was full since then.
    used_up: bool,
    /// The largest number wanted of late, and when it was wanted.
    peak: (usize, Instant),
    caution: Option<Caution>,
    /// Whether the consumer must not be replaced.
    is_fixed: bool,
}

/// A change of the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    size: usize,
    /// Whether it may take place at any later time.
    pub(crate) can_wait: bool,
}

/// After a suspect, until a message comes that is none.
#[derive(Clone, Copy, Debug)]
struct Caution {
    limit: usize,
    since: Instant,
}

impl Window {
    /// A window for a channel that has so many of the handlers. It begins with one message: the first message
    /// tells whether this process has to be careful.
    pub(crate) fn new(most: usize, handlers: usize, now: Instant) -> Self {
        Self {
            most: most.max(1),
            handlers: handlers.max(1),
            size: 1,
            changed: now,
            not_before: now,
            since: now,
            settled: 0,
            before: (0, Duration::ZERO),
            used_up: false,
            peak: (1, now),
            caution: Some(Caution {
                limit: 1,
                since: now,
            }),
            is_fixed: false,
        }
    }

    /// A window that never changes, for a queue that others have declared. A queue with a single active consumer takes
    /// another one when this one is replaced; and a classic queue of RabbitMQ 3.10 then may deliver nothing until
    /// the next message is published. It has room for all handlers, and for as many messages that wait.
    pub(crate) fn fixed(most: usize, handlers: usize, now: Instant) -> Self {
        let mut this = Self::new(most, handlers, now);
        this.size = this.usual().saturating_add(handlers).min(this.most);
        (this.caution, this.is_fixed) = (None, true);
        this
    }

    /// How many messages RabbitMQ may send ahead to the present consumer.
    pub(crate) fn size(&self) -> u16 {
        u16::try_from(self.size).unwrap_or(u16::MAX)
    }

    /// Whether RabbitMQ can have nothing on its way to a consumer with so many deliveries without an answer.
    pub(crate) fn is_used_up(&self, unanswered: usize) -> bool {
        unanswered >= self.size
    }

    /// Notes a delivery.
    pub(crate) fn delivered(&mut self, is_suspect: bool, now: Instant) {
        match (is_suspect, self.caution) {
            (false, _) => self.caution = None,
            (true, None) => {
                self.caution = Some(Caution {
                    limit: 1,
                    since: now,
                });
            }
            (true, Some(_)) => {}
        }
    }

    /// Notes that a delivery is settled.
    pub(crate) fn settled(&mut self) {
        self.settled += 1;
    }

    /// The change that is wanted. The present consumer has so many deliveries without an answer; so many are in flight
    /// with those of consumers before; and so many of them wait for something other than a handler.
    pub(crate) fn change(
        &mut self,
        unanswered: usize,
        in_flight: usize,
        waiting: usize,
        now: Instant,
    ) -> Option<Change> {
        if self.is_fixed {
            return None;
        }
        self.used_up |= self.is_used_up(unanswered);
        let wanted = self.wanted(waiting, now);
        if wanted >= self.peak.0 || now.duration_since(self.peak.1) >= LAZY {
            self.peak = (wanted, now);
        }
        let since_change = now.duration_since(self.changed);
        let is_careful = self
            .caution
            .is_some_and(|caution| caution.limit < self.size);
        let may_shrink = in_flight <= self.most;
        let next = if self.used_up
            && now >= self.not_before
            && wanted >= self.size + (self.size / 4).max(1)
        {
            // What is in flight stays in hand beside the new consumer's window.
            wanted.min(self.most.saturating_sub(in_flight.max(self.size)))
        } else if may_shrink && is_careful && since_change >= PAUSE {
            wanted
        } else if may_shrink && self.peak.0 <= self.size / 2 && since_change >= LAZY {
            // If too many are in hand, no more than the handlers can work on come beside them.
            match in_flight + self.peak.0 <= self.most {
                true => self.peak.0,
                false => self.peak.0.min(self.usual()),
            }
        } else {
            self.size
        };
        let is_no_use = next == self.size || next < self.size && wanted > self.size;
        if is_no_use || next == 0 {
            if now.duration_since(self.since) >= PERIOD {
                self.before = (self.settled, now.duration_since(self.since));
                (self.since, self.settled, self.used_up) = (now, 0, false);
            }
            return None;
        }
        Some(Change {
            size: next,
            can_wait: next < self.size && !is_careful,
        })
    }

    /// Notes that another consumer has the place of the present one. The window it has.
    pub(crate) fn changed(&mut self, change: Change, now: Instant) -> u16 {
        self.size = change.size;
        self.peak = (change.size, now);
        self.begin_anew(now);
        self.size()
    }

    /// Notes that the wanted change was not possible now.
    pub(crate) fn stays(&mut self, now: Instant) {
        self.begin_anew(now);
        self.not_before = now + PAUSE;
    }

    fn begin_anew(&mut self, now: Instant) {
        self.changed = now;
        self.before = (0, Duration::ZERO);
        (self.since, self.settled, self.used_up) = (now, 0, false);
    }

    /// How many it should be.
    fn wanted(&mut self, waiting: usize, now: Instant) -> usize {
        let elapsed = now.duration_since(self.since);
        let is_fast = self.settled >= self.size.saturating_mul(TURNS);
        // Handlers that began together end together, so a few settlements in a short time mean little.
        let (settled, time) = match is_fast {
            true => (self.settled, elapsed),
            false => (self.settled + self.before.0, elapsed + self.before.1),
        };
        let handled = if time >= AHEAD || is_fast {
            let micros = time.as_micros().max(1_000);
            let handled = settled as u128 * AHEAD.as_micros() / micros;
            usize::try_from(handled).unwrap_or(usize::MAX)
        } else {
            0
        };
        let limit = self.caution.as_mut().map_or(usize::MAX, |caution| {
            if now.duration_since(caution.since) >= SURVIVED && caution.limit < self.handlers {
                *caution = Caution {
                    limit: caution.limit.saturating_mul(2).min(self.handlers),
                    since: now,
                };
            }
            caution.limit
        });
        let wanted = self.usual().saturating_add(handled).saturating_add(waiting);
        wanted.min(limit).min(self.most)
    }

    /// A few more than there are handlers: one has the next message while the ack of its last one travels.
    fn usual(&self) -> usize {
        self.handlers.saturating_add((self.handlers / 4).max(1))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_fixed_window_never_changes() {
        let now = Instant::now();
        for (most, size) in [(300, 72), (50, 50), (1, 1)] {
            let mut window = Window::fixed(most, 32, now);
            assert_eq!(window.size(), size);
            for step in 0..100 {
                let then = now + MS * 50 * step;
                window.delivered(step % 3 == 0, then);
                window.settled();
                assert_eq!(window.change(usize::from(size), most, 40, then), None);
            }
        }
    }

    /// Changes the window if that is wanted.
    fn change(
        window: &mut Window,
        unanswered: usize,
        in_flight: usize,
        waiting: usize,
        now: Instant,
    ) -> Option<u16> {
        let change = window.change(unanswered, in_flight, waiting, now)?;
        Some(window.changed(change, now))
    }

    /// A queue that is never empty, and handlers that each take the same time. The broker sends what the window
    /// allows at once.
    struct World {
        window: Window,
        now: Instant,
        handlers: usize,
        takes: Duration,
        /// When each of the handlers that run will be done, the earliest first.
        running: VecDeque<Instant>,
        /// Deliveries in hand whose handler has not begun.
        ready: usize,
        /// How many of those in hand came from consumers before the present one. They are done first.
        of_old: usize,
        changes: usize,
        most_in_hand: usize,
        handled: usize,
    }

    impl World {
        fn new(most: usize, handlers: usize, takes: Duration) -> Self {
            let now = Instant::now();
            Self {
                window: Window::new(most, handlers, now),
                now,
                handlers,
                takes,
                running: VecDeque::new(),
                ready: 0,
                of_old: 0,
                changes: 0,
                most_in_hand: 0,
                handled: 0,
            }
        }

        fn in_hand(&self) -> usize {
            self.running.len() + self.ready
        }

        /// A millisecond goes by.
        fn step(&mut self) {
            self.now += MS;
            while self.running.front().is_some_and(|end| *end <= self.now) {
                self.running.pop_front();
                self.window.settled();
                self.of_old = self.of_old.saturating_sub(1);
                self.handled += 1;
            }
            while self.in_hand() - self.of_old < usize::from(self.window.size()) {
                self.ready += 1;
                self.window.delivered(false, self.now);
            }
            while self.running.len() < self.handlers && self.ready > 0 {
                self.ready -= 1;
                self.running.push_back(self.now + self.takes);
            }
            self.most_in_hand = self.most_in_hand.max(self.in_hand());
            let in_hand = self.in_hand();
            if change(
                &mut self.window,
                in_hand - self.of_old,
                in_hand,
                0,
                self.now,
            )
            .is_some()
            {
                self.changes += 1;
                self.of_old = self.in_hand();
            }
        }

        fn run(&mut self, time: Duration) -> &mut Self {
            for _ in 0..time.as_millis() {
                self.step();
            }
            self
        }
    }

    #[test]
    fn a_slow_handler_holds_little() {
        let mut world = World::new(300, 1, 3_000 * MS);
        world.run(20_000 * MS);
        assert!(world.most_in_hand <= 3, "{}", world.most_in_hand);
        assert!(world.changes <= 1, "{}", world.changes);

        let mut world = World::new(300, 4, 1_000 * MS);
        world.run(20_000 * MS);
        assert!(world.most_in_hand <= 6, "{}", world.most_in_hand);
    }

    #[test]
    fn a_fast_handler_gets_all_it_may_have_after_a_few_milliseconds() {
        let mut world = World::new(300, 32, MS);
        world.run(20 * MS);
        assert!(world.window.size() >= 200, "{}", world.window.size());
        world.run(20_000 * MS);
        assert!(world.changes <= 4, "{}", world.changes);
        assert!(world.most_in_hand <= 300, "{}", world.most_in_hand);
    }

    #[test]
    fn when_a_fast_handler_becomes_slow_the_window_shrinks() {
        let mut world = World::new(300, 4, MS);
        world.run(5_000 * MS);
        assert!(world.window.size() > 100, "{}", world.window.size());

        world.takes = 2_000 * MS;
        world.run(5_000 * MS);

        assert!(world.window.size() <= 5, "{}", world.window.size());
    }

    #[test]
    fn an_idle_channel_shrinks_to_what_its_handlers_can_work_on() {
        let mut world = World::new(300, 32, MS);
        world.run(1_000 * MS);
        let (mut window, now) = (world.window, world.now);

        let mut shrunk = None;
        for quarter in 1..40 {
            shrunk = shrunk.or(change(&mut window, 0, 0, 0, now + quarter * 250 * MS));
        }

        assert_eq!((shrunk, window.size()), (Some(40), 40));
    }

    #[test]
    fn nothing_can_be_on_its_way_only_while_the_window_is_full() {
        let window = Window::new(300, 32, Instant::now());
        let full: Vec<_> = (0..3)
            .map(|unanswered| window.is_used_up(unanswered))
            .collect();
        assert_eq!(full, [false, true, true]);
    }

    #[test]
    fn suspects_come_one_after_the_other() {
        let mut now = Instant::now();
        let mut window = Window::new(300, 32, now);
        for _ in 0..100 {
            window.delivered(true, now);
            now += 10 * MS;
            window.settled();
            assert_eq!(change(&mut window, 0, 0, 0, now), None);
        }

        window.delivered(false, now);
        let fresh = change(&mut window, 1, 1, 0, now);
        assert!(fresh.is_some_and(|size| size >= 40), "{fresh:?}");
    }

    #[test]
    fn a_suspect_in_the_midst_of_traffic_narrows_the_window_and_a_fresh_message_widens_it() {
        let mut now = Instant::now();
        let mut window = Window::new(300, 32, now);
        window.delivered(false, now);
        assert_eq!(change(&mut window, 1, 1, 0, now), Some(40));
        now += 200 * MS;

        window.delivered(true, now);
        assert_eq!(change(&mut window, 40, 40, 0, now), Some(1));
        window.delivered(false, now);
        assert_eq!(change(&mut window, 41, 41, 0, now), Some(40));
    }

    #[test]
    fn what_waits_for_a_retry_gets_places_beside_the_others() {
        let now = Instant::now();
        let mut window = Window::new(300, 4, now);
        window.delivered(false, now);
        assert_eq!(change(&mut window, 1, 1, 0, now), Some(5));

        window.delivered(false, now);
        assert_eq!(change(&mut window, 5, 5, 5, now + MS), Some(10));
        window.delivered(false, now);
        assert_eq!(change(&mut window, 15, 15, 15, now + 2 * MS), Some(20));
    }

    #[test]
    fn a_window_of_one_stays_so() {
        let mut world = World::new(1, 32, MS);
        world.run(5_000 * MS);

        assert_eq!((world.changes, world.most_in_hand), (0, 1));
    }

    #[test]
    fn suspects_that_do_not_end_hold_the_others_up_for_a_while_only() {
        let (mut now, mut sizes) = (Instant::now(), vec![1]);
        let mut window = Window::new(300, 4, now);
        window.delivered(true, now);
        let mut in_flight = 1;
        for _ in 0..60_000 / 250 {
            now += 250 * MS;
            if let Some(size) = change(&mut window, in_flight, in_flight, 0, now) {
                sizes.push(size);
                in_flight += usize::from(size);
                window.delivered(true, now);
            }
        }

        assert_eq!(sizes, [1, 2, 4]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn the_bound_holds_and_changes_are_few(
            most in 1..400_usize,
            handlers in 1..70_usize,
            phases in prop::collection::vec((1..400_u32, 100..1_500_u32), 1..5),
        ) {
            let mut world = World::new(most, handlers, MS);
            let mut time = 0;
            for (takes, lasts) in phases {
                world.takes = takes * MS;
                world.run(lasts * MS);
                time += lasts as usize;
            }
            // A smaller window comes beside what the larger one had.
            prop_assert!(world.most_in_hand <= most + handlers + handlers / 4 + 1);
            prop_assert!(world.window.size() >= 1 && usize::from(world.window.size()) <= most);
            prop_assert!(world.changes <= 4 + time / 500, "{} changes in {time} ms", world.changes);
        }

        /// As fast as with all that it may have from the beginning, but for the start.
        #[test]
        fn handlers_have_work(handlers in 1..70_usize, takes in 1..400_u32) {
            let mut world = World::new(300, handlers, takes * MS);
            world.run(2_000 * MS);

            let ideal = handlers * 2_000 / takes as usize;
            prop_assert!(world.handled * 10 >= ideal * 8, "{} of {ideal}", world.handled);
        }
    }
}

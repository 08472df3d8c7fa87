//! The circuit of an endpoint: whether a call may be made now, from what came of those before.
//!
//! Input: calls that want to begin, what came of them, and the time. Output: a ticket, or the moment to ask again.
//! State: how many failures there were in a row, or until when the endpoint is left alone.
//!
//! Without it each call to a dead endpoint would cost its whole time limit, and an endpoint that comes back from an
//! outage would meet everything that waited for it at once.

use std::time::{Duration, Instant};

/// ```text
///             enough failures in a row, or the endpoint asks for a rest
///   Closed ────────────────────────────────────────────────────────────▶ Open { until }
///     ▲                                                                   │       ▲
///     │ it answered                            `until` is over: one call  │       │ it failed: a longer pause
///     │                                                                   ▼       │
///     └─────────────────────────────────────────────────────────────── Trying ────┘
///                                                                         │ the call was dropped: the next one tries
/// ```
///
/// Each arrow begins a new generation. What came of a call of an earlier generation changes nothing: many calls were
/// under way when the circuit opened, and their failures say nothing new.
///
/// A message at which the endpoint has failed is a suspect until the endpoint answers. All failures at one suspect count
/// as one, and after a pause a suspect may try later than others. Without that, each try could fall to a message that
/// breaks the endpoint, and the others would wait for ever.
#[derive(Debug)]
pub(crate) struct Circuit {
    settings: Settings,
    state: State,
    generation: u64,
    suspects: Vec<u64>,
}

/// How many suspects are remembered: the last ones.
pub(crate) const MOST_SUSPECTS: usize = 64;

/// When a circuit opens, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    /// How many failures in a row open it.
    pub(crate) failures: u32,
    /// The first pause. Each further one is twice as long.
    pub(crate) first: Duration,
    /// The longest pause.
    pub(crate) cap: Duration,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// `unanswered`: how many failures in a row no message can be blamed for.
    Closed { unanswered: u32 },
    /// `failed`: how many tries have failed in a row. It is 0 while the endpoint rests because it asked for that.
    Open { until: Instant, failed: u32 },
    /// `ends_by`: when the call that tries is over for sure, so that one that is never settled blocks nothing.
    Trying { ends_by: Instant, failed: u32 },
}

/// What the end of a call says about the endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Evidence {
    /// It answers, whatever the answer.
    Answers,
    /// It does not answer, or the program before it says so.
    Fails,
    /// It has failed at this message, which may be the reason.
    FailsAt(u64),
    /// It wants no call for this time.
    WantsRest(Duration),
    /// Nothing: the call did not get as far as the endpoint.
    Nothing,
}

/// The right to make one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ticket {
    generation: u64,
}

/// A change that operators want to hear of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Opened { pause: Duration },
    StillFails { pause: Duration },
    Rests { pause: Duration },
    Closed,
}

impl Circuit {
    pub(crate) fn new(settings: Settings) -> Self {
        Self {
            settings,
            state: State::Closed { unanswered: 0 },
            generation: 0,
            suspects: Vec::new(),
        }
    }

    /// A ticket for a call that takes at most `limit`; or when to ask again with this message.
    pub(crate) fn admit(
        &mut self,
        message: u64,
        now: Instant,
        limit: Duration,
    ) -> Result<Ticket, Instant> {
        if let Some(until) = self.paused(Some(message), now) {
            return Err(until);
        }
        if let State::Open { failed, .. } | State::Trying { failed, .. } = self.state {
            let ends_by = later(now, limit);
            self.enter(State::Trying { ends_by, failed });
        }
        Ok(Ticket {
            generation: self.generation,
        })
    }

    /// When to ask again, if a call with this message would not be let through now. Without a message it tells of those
    /// that are no suspects. Changes nothing.
    pub(crate) fn paused(&self, message: Option<u64>, now: Instant) -> Option<Instant> {
        let end = match self.state {
            State::Closed { .. } => return None,
            State::Open { until, .. } => until,
            State::Trying { ends_by, .. } => ends_by,
        };
        let is_suspect = message.is_some_and(|message| self.suspects.contains(&message));
        let until = if is_suspect {
            later(end, self.settings.first)
        } else {
            end
        };
        (now < until).then_some(until)
    }

    /// Takes in what came of a call. `dice` is a random number from 0 to 1.
    pub(crate) fn settle(
        &mut self,
        ticket: Ticket,
        evidence: Evidence,
        now: Instant,
        dice: f64,
    ) -> Option<Change> {
        if ticket.generation != self.generation {
            return None;
        }
        if let Evidence::WantsRest(pause) = evidence {
            self.enter(State::Open {
                until: later(now, pause),
                failed: 0,
            });
            return Some(Change::Rests { pause });
        }
        if let Evidence::FailsAt(message) = evidence {
            self.suspect(message);
        }
        match (self.state, evidence) {
            (State::Closed { .. }, Evidence::Answers) => {
                self.close();
                None
            }
            (State::Closed { .. }, Evidence::Nothing) => None,
            (State::Closed { unanswered }, _) => {
                let unanswered = unanswered.saturating_add(u32::from(evidence == Evidence::Fails));
                self.state = State::Closed { unanswered };
                let suspects = u32::try_from(self.suspects.len()).unwrap_or(u32::MAX);
                if unanswered.saturating_add(suspects) < self.settings.failures {
                    return None;
                }
                let pause = self.open(now, 1, dice);
                Some(Change::Opened { pause })
            }
            (State::Trying { .. }, Evidence::Answers) => {
                self.close();
                Some(Change::Closed)
            }
            (State::Trying { .. }, Evidence::Nothing) => {
                self.abandon(ticket, now);
                None
            }
            (State::Trying { failed, .. }, _) => {
                let pause = self.open(now, failed.saturating_add(1), dice);
                Some(Change::StillFails { pause })
            }
            // There are no tickets of this generation.
            (State::Open { .. }, _) => None,
        }
    }

    /// The call was dropped before its end. If it was the one that tries, the next one may.
    pub(crate) fn abandon(&mut self, ticket: Ticket, now: Instant) {
        match self.state {
            State::Trying { failed, .. } if ticket.generation == self.generation => {
                self.enter(State::Open { until: now, failed });
            }
            _ => {}
        }
    }

    /// Whether nothing would be lost if the circuit were forgotten.
    pub(crate) fn is_blank(&self) -> bool {
        matches!(self.state, State::Closed { unanswered: 0 }) && self.suspects.is_empty()
    }

    fn suspect(&mut self, message: u64) {
        if self.suspects.contains(&message) {
            return;
        }
        if self.suspects.len() >= MOST_SUSPECTS {
            self.suspects.remove(0);
        }
        self.suspects.push(message);
    }

    /// The endpoint answers. A circuit that was closed stays in its generation, so that calls under way still count.
    fn close(&mut self) {
        self.suspects.clear();
        match self.state {
            State::Closed { .. } => self.state = State::Closed { unanswered: 0 },
            _ => self.enter(State::Closed { unanswered: 0 }),
        }
    }

    fn enter(&mut self, state: State) {
        self.state = state;
        self.generation = self.generation.wrapping_add(1);
    }

    fn open(&mut self, now: Instant, failed: u32, dice: f64) -> Duration {
        let pause = self.settings.pause(failed, dice);
        self.enter(State::Open {
            until: later(now, pause),
            failed,
        });
        pause
    }
}

impl Settings {
    /// The pause after that many failures, counted from 1: around twice the one before, and never above the cap.
    ///
    /// It varies at random, also at the cap, so that many processes do not try the same endpoint at the same moment.
    fn pause(self, failed: u32, dice: f64) -> Duration {
        let doubled = self
            .first
            .saturating_mul(2u32.saturating_pow(failed.saturating_sub(1)));
        let low = doubled.min(self.cap / 3 * 2);
        let high = low.saturating_add(low / 2).min(self.cap);
        let above_low = high.saturating_sub(low).mul_f64(dice.clamp(0.0, 1.0));
        low.saturating_add(above_low).min(self.cap)
    }
}

/// `now` and `by` together. A moment that no clock can show is as good as never.
fn later(now: Instant, by: Duration) -> Instant {
    const FAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);
    now.checked_add(by.min(FAR)).unwrap_or(now)
}

#[cfg(test)]
#[path = "circuit_tests.rs"]
mod tests;

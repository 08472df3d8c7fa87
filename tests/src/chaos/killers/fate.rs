//! What the handler of a message does. It is computed from the message's number, so the handlers and the books
//! know it without telling each other.

use std::time::Duration;

use crate::chaos::work::scatter;

/// What the handler does with one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HandlerFate {
    /// It takes so long.
    Good(Duration),
    /// Its first run aborts the process.
    KillsOnce,
    /// Every run aborts the process.
    Poison,
}

impl HandlerFate {
    pub(super) fn of(seed: u64, number: i64) -> Self {
        let draw = scatter(number ^ (seed << 32).cast_signed(), 0);
        match draw % 400 {
            0 => Self::Poison,
            1..=4 => Self::KillsOnce,
            5..=24 => Self::Good(Duration::from_millis(200 + draw / 400 % 800)),
            _ => Self::Good(Duration::from_millis(draw / 400 % 20)),
        }
    }

    pub(super) fn is_poison(self) -> bool {
        self == Self::Poison
    }
}

//! How the handler of a message behaves, and how long the message is delayed. Both are computed from the
//! message, so the seller, the subscriber and the books know them without telling each other.

use std::time::Duration;

/// What the handler does with one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Behavior {
    Good,
    Slow(Duration),
    FailsFirst,
    PanicsFirst,
    /// The first attempt never ends by itself; the timeout ends it.
    HangsFirst,
    /// Every attempt fails, so the message becomes a dead letter.
    FailsAlways,
}

impl Behavior {
    pub(crate) fn of(sale: i64, index: u8) -> Self {
        let draw = scatter(sale, index);
        match draw % 2_000 {
            0..=99 => Self::Slow(Duration::from_millis(20 + draw / 2_000 % 200)),
            100..=139 => Self::FailsFirst,
            140..=149 => Self::PanicsFirst,
            150..=154 => Self::HangsFirst,
            155..=159 => Self::FailsAlways,
            _ => Self::Good,
        }
    }

    pub(crate) fn is_poison(self) -> bool {
        self == Self::FailsAlways
    }

    /// The length of the message's note. Most are empty; the others are too long for the log to read them
    /// together with other messages.
    pub(crate) fn note(sale: i64, index: u8) -> usize {
        if scatter(sale, !index).is_multiple_of(50) {
            20_000
        } else {
            0
        }
    }

    /// The delay of the message; most messages have none.
    pub(crate) fn delay(sale: i64, index: u8) -> Duration {
        let draw = scatter(!sale, index);
        match draw % 20 {
            0 => Duration::from_millis(200 + draw / 20 % 3_000),
            _ => Duration::ZERO,
        }
    }
}

/// The last step of SplitMix64. It maps neighbouring inputs to values far apart.
pub(crate) fn scatter(sale: i64, index: u8) -> u64 {
    let mut bits = sale
        .cast_unsigned()
        .wrapping_mul(8)
        .wrapping_add(index.into());
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

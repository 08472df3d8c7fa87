//! How a capture is.
//!
//! ```text
//!   standby ─ the lease is ours ─▶ connecting ─ stream ─▶ streaming ─┐
//!      ▲                              ▲  ▲ └ source away, busy ┘     │
//!      │                              │  └───── source away ─────────┤
//!      ├───── another reader has taken over ─────────────────────────┤
//!      │                              stopped ◀─ only a person helps ┤
//!      └ started                      stopping ◀─ shutdown ──────────┘
//! ```

use std::fmt;

use crate::source::{Gap, SourceError};

/// How a capture is. Its text is one of `standby`, `connecting`, `streaming`, `stopping`, and `stopped (…)` with a word
/// for the reason.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum CaptureState {
    /// Another reader has the capture. This one takes over when that one is gone.
    Standby,
    /// The stream is being opened, or the source is away.
    Connecting,
    /// Changes are read and handed over.
    Streaming,
    /// It was told to end.
    Stopping,
    /// It has ended by itself, and only a person helps. The position stays before what stopped it.
    Stopped(StopReason),
}

/// Why a capture has stopped by itself.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum StopReason {
    /// Changes after the position are no longer at the source.
    Gap(Box<Gap>),
    /// An event of the source cannot be read.
    Unreadable(String),
    /// Settings, rights or tables of the source would lose changes.
    Refused(String),
    /// The configuration is wrong.
    Config(String),
    /// The target refuses a message for good, and [`OnPoison::Stop`](crate::target::OnPoison::Stop) is set or no place
    /// for refused messages is there.
    Poison(String),
    /// The transaction that is done in part is not what the source has after the position.
    Partial(String),
    /// The position cannot be read or kept.
    Position(String),
    /// More messages are refused than may be kept.
    TooManyParked(u64),
    /// The target will never take messages as it is set up.
    Target(String),
    /// A task of the capture has panicked.
    Panicked(String),
}

impl StopReason {
    /// One word for it.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Gap(_) => "gap",
            Self::Unreadable(_) => "unreadable",
            Self::Refused(_) => "refused",
            Self::Config(_) => "config",
            Self::Poison(_) => "poison",
            Self::Partial(_) => "partial",
            Self::Position(_) => "position",
            Self::TooManyParked(_) => "too many parked",
            Self::Target(_) => "target",
            Self::Panicked(_) => "panicked",
        }
    }

    /// Why a source cannot be read. The error itself comes back if trying again may help.
    pub(crate) fn of(error: SourceError) -> Result<Self, SourceError> {
        let text = error.to_string();
        Ok(match error {
            SourceError::Away(_) | SourceError::Busy(_) => return Err(error),
            SourceError::Gap(gap) => Self::Gap(gap),
            SourceError::Unreadable { .. } => Self::Unreadable(text),
            SourceError::Refused(_) => Self::Refused(text),
            SourceError::Config(_) => Self::Config(text),
        })
    }
}

impl fmt::Display for StopReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gap(gap) => write!(f, "{}", SourceError::Gap(gap.clone())),
            Self::TooManyParked(most) => write!(
                f,
                "the target has refused messages, and with those behind them more than {most} wait; mend the cause, mark \
                 them by `final capture parked retry`, and restart the capture, which puts them back then"
            ),
            Self::Unreadable(text)
            | Self::Refused(text)
            | Self::Config(text)
            | Self::Poison(text)
            | Self::Partial(text)
            | Self::Position(text)
            | Self::Target(text)
            | Self::Panicked(text) => f.write_str(text),
        }
    }
}

impl CaptureState {
    /// One word for it, without the reason.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Standby => "standby",
            Self::Connecting => "connecting",
            Self::Streaming => "streaming",
            Self::Stopping => "stopping",
            Self::Stopped(_) => "stopped",
        }
    }
}

impl fmt::Display for CaptureState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stopped(reason) => write!(f, "stopped ({})", reason.word()),
            state => f.write_str(state.word()),
        }
    }
}

//! How a log behaves: the values of its options.
//!
//! Input: the setters of [`options`](super::options). State: one value for each option, with its default. Output: the
//! values for `tables`, `member` and `engine`, or one error that names every value out of range.

use std::time::{Duration, SystemTime};

use crate::broker::{BrokerError, BrokerErrorKind};

/// Where a group starts with a topic that it subscribes for the first time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StartFrom {
    /// With messages that are published from then on. If no group has ever subscribed the topic, its messages
    /// wait, and the group gets those as well. RabbitMQ behind an outbox does the same.
    #[default]
    New,
    /// With every message that is still in the log.
    Beginning,
    /// With messages that were published at that time or later, by the database's clock.
    At(SystemTime),
}

/// How a log behaves. The setters in [`options`](super::options) say what each value does.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tuning {
    pub(crate) start: StartFrom,
    pub(crate) key_order: bool,
    pub(crate) commit_after: usize,
    pub(crate) commit_within: Duration,
    pub(crate) lease: Duration,
    pub(crate) prefetch: usize,
    pub(crate) poll_interval: Duration,
    pub(crate) keep: Keep,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            start: StartFrom::New,
            key_order: false,
            commit_after: 1_000,
            commit_within: Duration::from_millis(100),
            lease: Duration::from_secs(10),
            prefetch: 1_000,
            poll_interval: Duration::from_millis(2_500),
            keep: Keep {
                after_read: Duration::ZERO,
                unread: None,
            },
        }
    }
}

/// How long messages are kept.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Keep {
    /// How long a message stays that every group has, counted from when it was written.
    pub(crate) after_read: Duration,
    /// How long a message stays that some group has not read. `None` is for ever.
    pub(crate) unread: Option<Duration>,
}

impl Tuning {
    /// One error for all values out of range.
    pub(crate) fn check(&self) -> Result<(), BrokerError> {
        let Tuning {
            commit_after,
            commit_within,
            lease,
            prefetch,
            poll_interval,
            ..
        } = *self;
        let mut problems = Vec::new();
        let mut must = |ok: bool, problem: &'static str| {
            if !ok {
                problems.push(problem);
            }
        };
        must(commit_after >= 1, "`commit_after` must be at least 1");
        must(
            commit_within <= Duration::from_secs(60),
            "`commit_within` must be at most 60 s",
        );
        must(
            (Duration::from_millis(300)..=Duration::from_secs(3600)).contains(&lease),
            "`lease` must be 300 ms to 1 h",
        );
        must(
            (1..=65_535).contains(&prefetch),
            "`prefetch` must be 1 to 65535",
        );
        must(
            (Duration::from_millis(10)..=Duration::from_secs(3600)).contains(&poll_interval),
            "`poll_interval` must be 10 ms to 1 h",
        );
        if problems.is_empty() {
            return Ok(());
        }
        Err(BrokerError::new(
            BrokerErrorKind::Invalid,
            format!("invalid options of SqlBroker: {}", problems.join("; ")),
        ))
    }
}

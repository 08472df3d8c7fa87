//! What a bus counts, as a monitoring system reads it.
//!
//! Input: the counters of relay, consuming, crew and link, and what the database answers. Output: [`Metrics`], all
//! of it at one moment, and its text for Prometheus.
//!
//! | file | what is in it |
//! | --- | --- |
//! | `histogram` | counting durations without a lock |
//! | `snapshot` | the types of [`Metrics`] |
//! | `families` | name, type and help of each metric |
//! | `prometheus` | the text |
//!
//! What is counted where a message passes lies beside that place: `relay/sent.rs` and `consume/stats.rs`. The
//! counters are always on. They cost some atomic additions and two readings of the clock for a message.
//!
//! The page `docs/metrics.md` of the repository explains each metric. Names, labels and bounds are part of what a
//! release promises.

mod families;
mod histogram;
mod prometheus;
mod snapshot;

pub(crate) use self::histogram::Histogram;
pub use self::{
    histogram::DurationCounts,
    snapshot::{ConsumedTopic, Metrics, OutboxCounts, SentTopic},
};

/// The label of all topics together that are not counted by themselves.
pub(crate) const OTHER: &str = "other";

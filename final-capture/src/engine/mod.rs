//! Takes changes from the source to the target, and keeps the position.
//!
//! Input: a source, an encoder's options, a target. State: the term, the stream, the lot that is being filled. Output:
//! lots for the target; what is saved goes back to the source.
//!
//! ```text
//!   Source ─ events ─▶ feed ─ skips what is done ─▶ Encoder ─ messages ─▶ assembly ─ lots ─▶ target (its own task)
//!      ▲                                                                                       │
//!      └───────────────────── saved(point) ◀── position ◀──────────────────────────────────────┘
//! ```
//!
//! One lot is being written, one waits and one is filled, so memory is bounded whatever the size of a transaction. A
//! fast target gets a change at once. A slow one finds a full lot when it comes back.
//!
//! | part | does |
//! | --- | --- |
//! | [`supervise`] | takes terms, one after the other |
//! | `term` | one stream from its opening to its end |
//! | `end` | why a term has ended |
//! | `feed` | reads, encodes, fills lots |
//! | [`skip`] | leaves out what is done of the first transaction |
//! | [`assembly`] | the lot that is being filled |
//! | [`vitals`] | what the capture knows of itself |

pub(crate) mod assembly;
mod claim;
mod end;
mod feed;
pub(crate) mod pause;
pub(crate) mod skip;
pub(crate) mod supervise;
mod term;
pub(crate) mod vitals;

use std::{sync::Arc, time::Duration};

use uuid::Uuid;

use crate::{
    capture::SchemaChange, format::EncoderOptions, position::SourcePoint, source::Source,
    target::OnPoison, target::Outlet,
};

/// What is told of a table whose columns have changed.
pub(crate) type OnSchemaChange = Arc<dyn Fn(&SchemaChange) + Send + Sync>;

/// A capture, as its tasks need it.
pub(crate) struct Engine {
    pub(crate) name: Arc<str>,
    /// This process.
    pub(crate) owner: Uuid,
    pub(crate) source: Box<dyn Source>,
    pub(crate) encoder: EncoderOptions,
    pub(crate) outlet: Arc<dyn Outlet>,
    /// Where a capture without a position begins.
    pub(crate) from: Option<SourcePoint>,
    pub(crate) lease: Duration,
    pub(crate) on_poison: OnPoison,
    pub(crate) most_parked: u64,
    pub(crate) max_message_bytes: usize,
    /// How long what was read has to reach the target, once the capture is told to stop.
    pub(crate) shutdown_within: Duration,
    pub(crate) on_schema_change: Option<OnSchemaChange>,
}

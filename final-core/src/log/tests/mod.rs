//! What the log promises, without a bus: mostly without a database too.
//!
//! [`model`] plays members that lose and claim lanes, [`sequence`] a sequence that goes back. Both use the real
//! lanes, streams and gaps. [`lost_lanes`], `held_rows`, `sweeping`, `one_by_one` and `slow` hold single cases,
//! `letters` what sessions do to dead letters at the same time.

mod held;
#[cfg(feature = "sqlite")]
mod held_rows;
#[cfg(feature = "postgres")]
mod letters;
mod lost_lanes;
mod model;
#[cfg(feature = "mysql")]
mod one_by_one;
mod sequence;
#[cfg(feature = "mysql")]
mod slow;
#[cfg(feature = "sqlite")]
mod sweeping;

//! What the log promises, without a database, or with an SQLite file.
//!
//! [`model`] plays members that lose and claim lanes, [`sequence`] a sequence that goes back. Both use the real
//! lanes, streams and gaps. [`lost_lanes`] and `sweeping` hold single cases.

mod lost_lanes;
mod model;
mod sequence;
#[cfg(feature = "sqlite")]
mod sweeping;

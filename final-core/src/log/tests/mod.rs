//! What the log promises, without a database, or with a file.

mod lost_lanes;
mod model;
mod numbers;
#[cfg(feature = "sqlite")]
mod sweeping;

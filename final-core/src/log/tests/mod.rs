//! What the log promises, without a database, or with a file.

mod model;
mod numbers;
mod owned;
#[cfg(feature = "sqlite")]
mod sweeping;

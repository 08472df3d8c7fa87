//! What the log promises, without a database.

mod model;
mod numbers;
mod owned;

//! PostgreSQL as a source.

mod changes;
mod shop;

//! PostgreSQL as a source.

mod changes;
mod checks;
mod login;
pub(crate) mod shop;
mod slots;
mod values;
mod wire;

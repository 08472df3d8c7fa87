//! PostgreSQL as a source.

mod changes;
mod checks;
mod login;
mod shop;
mod slots;
mod values;
mod wire;

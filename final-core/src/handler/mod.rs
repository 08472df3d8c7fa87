//! Handlers: async functions that take what they need from a message.

mod outcome;

pub use self::outcome::{Outcome, Permanent};

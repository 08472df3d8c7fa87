//! Finds what silently weakens a promise, and says how to mend it.

mod finding;

pub use self::finding::{COULD_NOT_CHECK, Diagnosis, Finding, Level};

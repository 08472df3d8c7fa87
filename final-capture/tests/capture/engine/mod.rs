//! The engine and its targets, over a source that the test writes.

mod kit;
mod log;

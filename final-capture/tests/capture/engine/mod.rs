//! The engine and its targets, over a source that the test writes.

mod away;
mod begin;
mod killed;
mod kit;
mod lease;
mod log;
mod poison;
mod rabbitmq;

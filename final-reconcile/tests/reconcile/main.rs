//! Tables are compared on real servers.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test says what it expects"
)]
#![allow(unreachable_pub, dead_code, reason = "a test binary has no outside")]

mod alerts;
mod chaos;
mod compare;
mod errors;
mod failures;
mod heartbeat;
mod keys;
mod lag;
mod pairs;
mod place;
mod published;
mod receiver;
mod repair;
mod scans;
mod written;

//! Changes are captured from real servers.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test says what it expects"
)]
#![allow(unreachable_pub, dead_code, reason = "a test binary has no outside")]

mod chaos;
mod engine;
mod mysql;
mod postgres;
mod script;

use final_tests::{everywhere, place};

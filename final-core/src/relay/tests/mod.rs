//! The way out against a broker that the test plays, answer by answer.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod answers;
mod leases;
mod outage;
mod scripted;
mod staging;

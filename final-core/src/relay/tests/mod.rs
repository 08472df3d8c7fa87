//! The way out against a broker that the test plays, answer by answer.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod answers;
mod claims;
mod expiry;
mod leases;
mod outage;
mod parking;
mod refused;
mod scripted;
mod shares;
mod shutdown;
mod staging;
mod unknown;

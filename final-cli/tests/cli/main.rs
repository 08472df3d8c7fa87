//! The program `final`, run as an operator runs it.

#![allow(clippy::unwrap_used, clippy::expect_used)]
mod service;

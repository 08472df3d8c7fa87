//! The operators' program of the event bus, and what programs of this house share: the reader of configuration
//! and the runner of services.
//!
//! The program `final` is a thin `main` around this library, so that its parts can be tested.

pub mod config;
pub mod service;

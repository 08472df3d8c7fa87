//! Changes are captured from real servers.

mod mysql;
mod postgres;

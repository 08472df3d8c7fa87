//! Changes are captured from real servers.

mod postgres;

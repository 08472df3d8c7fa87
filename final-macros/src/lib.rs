//! The `#[subscribe]` attribute.

//! The gateway as a whole: what it is made of, its start and its end.

/// Where messages are kept: the log of a database, or RabbitMQ behind an outbox.
#[derive(Debug)]
pub struct Engine {}

/// A gateway that is not started.
#[derive(Debug)]
#[must_use]
pub struct Gateway {}

/// A gateway that runs.
#[derive(Debug)]
#[must_use = "a dropped gateway stops"]
pub struct Running {}

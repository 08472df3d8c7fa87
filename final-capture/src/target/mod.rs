//! Where messages go: the log, or another broker.

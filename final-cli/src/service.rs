//! Runs a service until it is told to end.

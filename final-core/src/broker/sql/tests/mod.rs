//! What the log promises, on all three databases.

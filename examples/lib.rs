//! Programs that show one thing each; see the examples beside this crate.

//! The loop that takes changes from the source to the target, and saves the position.

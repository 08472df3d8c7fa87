//! The face: a capture, its options, and what runs.

//! The program `final`, run as an operator runs it.

//! The program `final`.

fn main() {}

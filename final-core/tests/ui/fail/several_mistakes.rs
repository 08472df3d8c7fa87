use final_core::{Message, subscribe};

#[subscribe("order.*")]
fn send_receipt<T>(_message: &Message, _other: impl Into<T>) {}

fn main() {}

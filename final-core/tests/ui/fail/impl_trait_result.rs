use final_core::{IntoOutcome, subscribe};

#[subscribe("order.placed")]
async fn send_receipt() -> impl IntoOutcome {}

fn main() {}

use final_core::{handler::IntoOutcome, subscribe};

#[subscribe("order.placed")]
async fn send_receipt() -> impl IntoOutcome {}

fn main() {}

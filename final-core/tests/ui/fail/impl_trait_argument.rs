use final_core::subscribe;

#[subscribe("order.placed")]
async fn send_receipt(_: impl Clone) {}

fn main() {}

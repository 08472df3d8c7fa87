use final_core::subscribe;

#[subscribe("order.placed", crate = "final_core")]
async fn send_receipt() {}

fn main() {}

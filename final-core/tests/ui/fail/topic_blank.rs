use final_core::subscribe;

#[subscribe("  ")]
async fn send_receipt() {}

fn main() {}

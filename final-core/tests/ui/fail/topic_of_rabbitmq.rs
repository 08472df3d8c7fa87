use final_core::subscribe;

#[subscribe("amq.topic")]
async fn send_receipt() {}

fn main() {}

use final_core::subscribe;

#[subscribe("order\nplaced")]
async fn send_receipt() {}

fn main() {}

use final_core::{Message, subscribe};

#[subscribe("order.placed")]
async fn send_receipt(message: &Message) {
    let _ = message;
}

fn main() {}

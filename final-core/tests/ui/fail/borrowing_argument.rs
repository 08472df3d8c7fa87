use final_core::{Payload, subscribe};

#[subscribe("order.placed")]
async fn send_receipt(Payload(name): Payload<&str>) {
    let _ = name;
}

fn main() {}

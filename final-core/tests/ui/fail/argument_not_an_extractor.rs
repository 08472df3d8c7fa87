use final_core::{Payload, Router, subscribe};

#[subscribe("order.placed")]
async fn send_receipt(Payload(_): Payload<String>, order: u32) {
    let _ = order;
}

fn main() {
    let _: Router = Router::new().subscribe(send_receipt);
}

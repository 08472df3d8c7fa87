use final_core::{Payload, Router, subscribe};

struct OrderPlaced;

#[subscribe("order.placed")]
async fn send_receipt(Payload(_): Payload<OrderPlaced>) {}

fn main() {
    let _: Router = Router::new().subscribe(send_receipt);
}

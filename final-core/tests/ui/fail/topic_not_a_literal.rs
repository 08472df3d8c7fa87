use final_core::{Router, subscribe};

const TOPIC: &str = "order.placed";

#[subscribe(TOPIC)]
async fn send_receipt() {}

fn main() {
    let _: Router = Router::new().subscribe(send_receipt);
    let _ = TOPIC;
}

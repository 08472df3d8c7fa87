use final_core::{Router, subscribe};

#[subscribe("order.placed", prefetch = 50, queue = "billing")]
async fn send_receipt() {}

fn main() {
    let _: Router = Router::new().subscribe(send_receipt);
}

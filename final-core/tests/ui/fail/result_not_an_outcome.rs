use final_core::{Router, subscribe};

#[subscribe("order.placed")]
async fn send_receipt() -> u32 {
    1
}

fn main() {
    let _: Router = Router::new().subscribe(send_receipt);
}

use final_core::{Router, subscribe};

#[subscribe("order.placed")]
fn send_receipt() {}

fn main() {
    let _: Router = Router::new().subscribe(send_receipt);
}

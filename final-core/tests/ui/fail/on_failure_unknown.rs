use final_core::{Router, subscribe};

#[subscribe("order.placed", on_failure = wait)]
async fn send_receipt() {}

fn main() {
    let _: Router = Router::new().subscribe(send_receipt);
}

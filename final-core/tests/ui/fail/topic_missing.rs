use final_core::{Router, subscribe};

#[subscribe]
async fn send_receipt() {}

fn main() {
    let _: Router = Router::new().subscribe(send_receipt);
}

use std::rc::Rc;

use final_core::{Router, subscribe};

#[subscribe("order.placed")]
async fn send_receipt() {
    let shared = Rc::new(1);
    std::future::ready(()).await;
    drop(shared);
}

fn main() {
    let _: Router = Router::new().subscribe(send_receipt);
}

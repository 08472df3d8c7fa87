use final_core::Router;

async fn send_receipt(order: u32) {
    let _ = order;
}

fn main() {
    let _: Router = Router::new().route("order.placed", send_receipt);
}

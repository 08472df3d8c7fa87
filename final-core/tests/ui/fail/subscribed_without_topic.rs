use final_core::Router;

async fn send_receipt() {}

fn main() {
    let _: Router = Router::new().subscribe(send_receipt);
}

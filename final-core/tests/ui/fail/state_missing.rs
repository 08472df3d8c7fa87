use final_core::{Router, State, subscribe};

#[derive(Clone)]
struct Mailer;

#[subscribe("order.placed")]
async fn send_receipt(State(_): State<Mailer>) {}

fn main() {
    let _: Router = Router::new().subscribe(send_receipt);
}

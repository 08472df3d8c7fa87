use final_core::{Router, subscribe};

struct MailError;

#[subscribe("order.placed")]
async fn send_receipt() -> Result<(), MailError> {
    Err(MailError)
}

fn main() {
    let _: Router = Router::new().subscribe(send_receipt);
}

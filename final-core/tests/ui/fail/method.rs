use final_core::subscribe;

struct Mailer;

impl Mailer {
    #[subscribe("order.placed")]
    async fn send_receipt(&self) {}
}

fn main() {}

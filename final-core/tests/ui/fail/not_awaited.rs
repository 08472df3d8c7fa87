#![deny(warnings)]

use final_core::subscribe;

#[subscribe("order.placed")]
async fn send_receipt() {}

fn main() {
    send_receipt();
}

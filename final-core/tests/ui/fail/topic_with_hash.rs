use final_core::subscribe;

#[subscribe("order.#")]
async fn send_receipt() {}

fn main() {}

use final_core::subscribe;

#[subscribe("orders.orders.orders.orders.orders.orders.orders.orders.orders.orders.orders.orders.orders.orders.orders.orders.orders.orders.orders.orders.orders.orders.orders.orders.orders.orders.orders.orders.orders.orders.orders.orders.orders.orders.orders.orders.orders.")]
async fn send_receipt() {}

fn main() {}

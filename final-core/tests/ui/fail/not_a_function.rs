use final_core::subscribe;

#[subscribe("order.placed")]
struct SendReceipt;

fn main() {}

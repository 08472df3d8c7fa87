use final_core::{Payload, subscribe};

#[subscribe("order.placed")]
async fn send_receipt<T: serde::de::DeserializeOwned>(Payload(_): Payload<T>) {}

fn main() {}

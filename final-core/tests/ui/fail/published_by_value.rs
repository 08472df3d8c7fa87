use final_core::payload::IntoPayload;

#[derive(serde::Serialize)]
struct OrderPlaced;

fn publish(_: impl IntoPayload) {}

fn main() {
    publish(OrderPlaced);
}

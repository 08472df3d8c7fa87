use final_core::IntoPayload;

#[derive(serde::Serialize)]
struct OrderPlaced;

fn publish(_: impl IntoPayload) {}

fn main() {
    publish(OrderPlaced);
}

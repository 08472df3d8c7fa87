use final_core::{Attempt, Bytes, Headers, Key, Message, MessageId, Topic, subscribe};

#[subscribe("order.placed")]
async fn send_receipt(
    _: Topic,
    _: Key,
    _: Headers,
    _: MessageId,
    _: Attempt,
    _: Message,
    _: Bytes,
    _: Topic,
    _: Key,
) {
}

fn main() {}

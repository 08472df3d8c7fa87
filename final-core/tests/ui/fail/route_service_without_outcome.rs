use std::convert::Infallible;

use final_core::{Message, Router};
use tower::service_fn;

fn main() {
    let count = service_fn(async |message: Message| Ok::<_, Infallible>(message.payload().len()));
    let _: Router = Router::new().route_service("order.placed", count);
}

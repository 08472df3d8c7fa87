use std::time::Duration;

use final_core::Router;
use tower::limit::RateLimitLayer;

async fn send_receipt() {}

fn main() {
    let _: Router = Router::new()
        .route("order.placed", send_receipt)
        .layer(RateLimitLayer::new(5, Duration::from_secs(1)));
}

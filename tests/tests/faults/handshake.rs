//! The connection ends while it is being made.

use std::time::Duration;

use final_amqp::Amqp;
use final_core::{Bus, Router};
use final_tests::Proxy;

use crate::shop::{SOON, service};

/// lapin does not always report this. Without our own check of the stream, one of sixteen such attempts would
/// hang until its timeout.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_attempt_to_connect_ends_with_its_connection() {
    let vhost = final_tests::amqp_vhost().await.expect("RabbitMQ");
    let proxy = Proxy::to(vhost.url()).await.expect("proxy");
    let through = proxy.url(vhost.url());
    for attempt in 0..200_u64 {
        let pool = sqlx::SqlitePool::connect_lazy("sqlite::memory:").expect("SQLite");
        let broker = Amqp::new(&through)
            .expect("a URL")
            .connect_timeout(SOON * 2);
        let bus = Bus::new(service(), pool, broker);
        let cut = async {
            // The cut falls somewhere in the handshake, or just after it.
            tokio::time::sleep(Duration::from_micros(attempt * 7_919 % 8_000)).await;
            proxy.cut();
        };

        let (started, ()) = tokio::join!(tokio::time::timeout(SOON, bus.start(Router::new())), cut);

        assert!(started.is_ok(), "attempt {attempt} hangs");
        bus.shutdown().await.expect("shutdown");
    }
}

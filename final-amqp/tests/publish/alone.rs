//! Messages that go alone, each on a channel of its own.

use std::time::Duration;

use final_amqp::Amqp;
use final_core::broker::{Confirm, Isolation};

use crate::{
    message,
    support::{proxy::Proxy, *},
};

/// The broker takes its time to open a channel; or others were tried before it, one by one.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_whose_lease_runs_out_before_it_is_its_turn_is_not_written() {
    let admin = Admin::new().await;
    let (topic, queue) = (name("t"), name("q"));
    admin.queue(&queue, &topic, &[]).await;
    let proxy = Proxy::start().await;
    let link = publisher(&Amqp::new(proxy.url()).unwrap()).await;
    let mut sender = Sender::new(link.clone());
    // From then on there is a connection for such messages.
    let first = message(&topic);
    let stored = sender.confirm(Isolation::Alone, first.clone()).await;
    assert_eq!(stored, Confirm::Stored);

    proxy.mute(true);
    let lease = Duration::from_millis(500);
    let late = sender.send_leased(Isolation::Alone, message(&topic), lease);
    tokio::time::sleep(lease * 2).await;
    proxy.mute(false);

    assert_eq!(sender.answer().await, (late, Confirm::LeaseOver));
    end(&*link).await;
    assert_eq!(admin.drain(&queue).await, [first.id()]);
    admin.delete_queue(&queue).await;
    admin.delete_exchange(&topic).await;
}

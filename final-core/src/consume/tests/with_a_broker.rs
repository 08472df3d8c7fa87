//! Consuming from a broker, with several instances of a service.

use super::*;
use crate::{
    MemoryBroker,
    broker::{Cause, Confirm, Isolation, Link, Outgoing, Setup},
};

/// A running instance of the service "shop".
struct Instance {
    link: Arc<dyn Link>,
    stop: CancellationToken,
    run: JoinHandle<()>,
}

/// Starts an instance with a handler for these topics, and a queue bound to them.
fn start(broker: &MemoryBroker, topics: &[&str], handler: &Route) -> Instance {
    let setup = Setup {
        service: "shop".into(),
        topics: topics.iter().map(|topic| Arc::from(*topic)).collect(),
        concurrency: 4,
        num_subscribers: 1,
        confirm_window: 100,
        purge: false,
        collect_dead_letters: false,
        holds: Default::default(),
    };
    let routes = Routes::from_iter(
        setup
            .topics
            .iter()
            .map(|topic| (Arc::clone(topic), handler.clone())),
    );
    let mut opened = broker.connect(&setup).unwrap();
    let stop = CancellationToken::new();
    let subscriber = Subscriber::new(
        crate::runtime::inside::BusNumber::new(),
        routes,
        &Options::default(),
        setup.service,
        Arc::new(MarksInMemory::default()),
        stop.clone(),
    );
    let run = tokio::spawn(async move { subscriber.run(&mut opened.deliveries, LIMIT).await });
    Instance {
        link: opened.link,
        stop,
        run,
    }
}

impl Instance {
    /// Stops as a bus does at its shutdown.
    async fn shut_down(self) {
        self.stop.cancel();
        self.link.stop_consuming(LIMIT).await;
        self.run.await.unwrap();
        self.link.finish_consuming(LIMIT).await;
        self.link.close(LIMIT).await;
    }
}

fn publish(link: &Arc<dyn Link>, topic: &str) {
    let message = Message::new(topic, "payload");
    link.send(Outgoing::tracked(message, Isolation::Shared, |confirm| {
        assert_eq!(confirm, Confirm::Stored);
    }));
}

/// A handler that counts.
fn counting(handled: &Arc<AtomicUsize>) -> Route {
    let handled = Arc::clone(handled);
    route(move |_| {
        handled.fetch_add(1, SeqCst);
        async { Ok(Outcome::Done) }
    })
}

#[tokio::test(start_paused = true)]
async fn message_for_a_new_instance_reaches_it_though_an_old_one_gets_it_first() {
    let broker = MemoryBroker::new();
    let handled = Arc::default();
    let old = start(&broker, &["order.placed"], &counting(&Arc::default()));
    let _new = start(
        &broker,
        &["order.placed", "order.renamed"],
        &counting(&handled),
    );

    for _ in 0..100 {
        publish(&old.link, "order.renamed");
    }
    // A message that the old instance requeues goes to either instance, so half of them are left each time.
    tokio::time::sleep(Duration::from_secs(250)).await;

    assert_eq!(handled.load(SeqCst), 100);
    assert!(broker.dead_letters("shop").is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_a_leaving_instance_had_in_hand_goes_to_another() {
    let broker = MemoryBroker::new();
    let handled = Arc::default();
    let stuck = route(async |_| std::future::pending().await);
    let leaving = start(&broker, &[TOPIC], &stuck);
    for _ in 0..10 {
        publish(&leaving.link, TOPIC);
    }
    settle_down().await;
    let _staying = start(&broker, &[TOPIC], &counting(&handled));

    leaving.shut_down().await;
    settle_down().await;

    assert_eq!(handled.load(SeqCst), 10);
    assert_eq!(broker.queue_len("shop"), 0);
}

#[tokio::test(start_paused = true)]
async fn message_that_fails_for_good_is_in_the_dead_letters() {
    let broker = MemoryBroker::new();
    let instance = start(&broker, &[TOPIC], &route(async |_| Err("no stock".into())));

    publish(&instance.link, TOPIC);
    tokio::time::sleep(Duration::from_secs(10)).await;

    let dead = broker.dead_letters("shop");
    let why = Cause::new("no stock", 4);
    assert_eq!(dead.len(), 1);
    assert_eq!(
        (&dead[0].reason, dead[0].attempts),
        (&why.reason, why.attempts)
    );
}

#[tokio::test(start_paused = true)]
async fn messages_in_hand_when_the_broker_goes_are_handled_again_when_it_is_back() {
    let broker = MemoryBroker::new();
    let gate = Gate::default();
    let instance = start(&broker, &[TOPIC], &gate.route());
    publish(&instance.link, TOPIC);
    settle_down().await;

    broker.set_available(false);
    gate.open();
    settle_down().await;
    broker.set_available(true);
    settle_down().await;

    assert_eq!(gate.running(), 1);
    gate.open();
    settle_down().await;
    assert_eq!(broker.queue_len("shop"), 0);
}

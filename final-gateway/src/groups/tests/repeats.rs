//! Messages that the broker delivers again while a client has them in hand: its connection was lost for a moment.

use std::sync::{Arc, Mutex};

use final_core::{
    MemoryBroker, Message, MessageId,
    broker::{Delivery, Settlement, Settler},
};
use tokio::sync::{mpsc, oneshot};

use super::kit::{Handmade, Kit, MINUTE, lot, pair, pulled_texts, receipts};

/// Settlements as a broker gets them. What settles the first delivery, which is void, it tells the second one.
#[derive(Default)]
struct Repeated {
    first: Mutex<Option<oneshot::Sender<Settlement>>>,
    settled: Mutex<Vec<(u64, Settlement)>>,
}

impl Settler for Repeated {
    fn settle(&self, tag: u64, settlement: Settlement) {
        let first = self.first.lock().unwrap().take_if(|_| tag == 1);
        match first {
            Some(first) => drop(first.send(settlement)),
            None => self.settled.lock().unwrap().push((tag, settlement)),
        }
    }

    fn is_void(&self, tag: u64) -> bool {
        tag == 1 && self.first.lock().unwrap().is_some()
    }
}

/// A message in hand that was delivered again.
struct Stand {
    kit: Kit,
    broker: Arc<Repeated>,
    deliveries: mpsc::Sender<Delivery>,
    receipts: Vec<String>,
}

impl Stand {
    async fn new() -> Self {
        let memory = MemoryBroker::new();
        let (front, deliveries) = Handmade::new(memory.clone());
        let kit = Kit::over(Arc::new(front), memory, |_| {}).await;
        let broker = Arc::<Repeated>::default();
        let stand = Self {
            kit,
            broker,
            deliveries,
            receipts: Vec::new(),
        };
        stand.deliver(stand.delivery(1, "a")).await;
        let pulled = stand.kit.pull(&pair()).await;
        assert_eq!(pulled_texts(&pulled), ["a"]);
        let (first, earlier) = oneshot::channel();
        *stand.broker.first.lock().unwrap() = Some(first);
        stand.deliver(stand.delivery(2, "a").after(earlier)).await;
        stand.deliver(stand.delivery(3, "b")).await;
        Self {
            receipts: receipts(&pulled),
            ..stand
        }
    }

    fn delivery(&self, tag: u64, text: &str) -> Delivery {
        let message = Message::identified(MessageId::from_text(text), "t", text.to_owned());
        let broker = Arc::clone(&self.broker) as Arc<dyn Settler>;
        Delivery::new(Ok(message), tag, broker)
    }

    async fn deliver(&self, delivery: Delivery) {
        self.deliveries.send(delivery).await.unwrap();
    }

    fn settled(&self) -> Vec<(u64, Settlement)> {
        self.broker.settled.lock().unwrap().clone()
    }
}

#[tokio::test(start_paused = true)]
async fn a_repeat_of_what_is_in_hand_goes_to_no_other_client_and_is_settled_with_it() {
    let stand = Stand::new().await;
    let others = stand.kit.pull(&pair()).await;
    assert_eq!(pulled_texts(&others), ["b"]);

    stand.kit.groups.ack("g", &stand.receipts).await;
    assert_eq!(stand.settled(), [(2, Settlement::Ack)]);
    stand.kit.ack("g", &others).await;
    assert_eq!(stand.settled().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_repeat_of_what_is_not_settled_comes_in_its_place() {
    let stand = Stand::new().await;
    let others = stand.kit.pull(&pair()).await;
    assert_eq!(pulled_texts(&others), ["b"]);
    stand.kit.ack("g", &others).await;

    let mut patient = lot(1);
    patient.wait = 2 * MINUTE;
    let again = stand.kit.groups.pull(&[pair()], patient, MINUTE).await;
    let again = again.unwrap();
    assert_eq!(
        (pulled_texts(&again), again[0].attempt),
        (vec!["a".to_owned()], 2)
    );
    stand.kit.ack("g", &again).await;
    let settled = [(3, Settlement::Ack), (2, Settlement::Ack)];
    assert_eq!(stand.settled(), settled);
}

#[tokio::test(start_paused = true)]
async fn a_repeat_goes_back_to_the_broker_when_the_gateway_stops() {
    let stand = Stand::new().await;
    assert_eq!(pulled_texts(&stand.kit.pull(&pair()).await), ["b"]);
    stand.kit.groups.shutdown().await;
    let settled = stand.settled();
    assert!(settled.contains(&(2, Settlement::Requeue)), "{settled:?}");
}

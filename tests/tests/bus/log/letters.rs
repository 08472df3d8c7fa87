//! Dead letters are listed, replayed and discarded.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use final_core::{
    Bus, HandlerError, Message, MessageId, Router, SqlBroker,
    broker::{DeadLetter, DeadLetterFilter},
};
use final_tests::eventually;

use super::{Log, publish, sorted};
use crate::{
    database::Database,
    house::{Notes, SOON},
};

crate::log_suite!(
    a_dead_letter_tells_the_reason_the_attempts_and_the_message,
    a_filter_narrows_letters_by_topic_reason_id_and_number,
    all_letters_can_be_put_back_and_are_handled_with_the_same_ids_by_that_service_alone,
    one_letter_can_be_put_back_and_the_others_stay,
    a_letter_that_is_put_back_may_die_again,
    letters_can_be_thrown_away,
    letters_of_one_service_are_nothing_to_another,
    more_letters_than_one_statement_takes_are_put_back,
    a_letter_keeps_its_message_after_the_log_has_let_it_go,
    who_wants_to_know_is_told_of_every_letter,
);

/// A service that refuses every message until it is mended.
struct Refusing<D: Database> {
    bus: Bus<D>,
    broker: SqlBroker<D>,
    mended: Arc<AtomicBool>,
    handled: Notes,
}

async fn refusing<D: Database>(log: &Log<D>, topics: &[&str]) -> Refusing<D> {
    let (broker, mended, handled) = (log.broker(), Arc::default(), Notes::default());
    let router = topics.iter().fold(Router::new(), |router, topic| {
        let (mended, handled) = (Arc::clone(&mended), handled.clone());
        router.route(*topic, move |message: Message| {
            let (mended, handled) = (Arc::<AtomicBool>::clone(&mended), handled.clone());
            async move {
                if mended.load(Ordering::SeqCst) {
                    handled.add(message);
                    return Ok(());
                }
                let number: i64 = rmp_serde::from_slice(message.payload()).expect("a number");
                if number % 2 == 0 {
                    return Err(HandlerError::permanent(format!("refused, 100%_{number}")));
                }
                Err(HandlerError::retry("always busy"))
            }
        })
    });
    let bus = log.bus_on("shop", broker.clone());
    bus.start(router).await.expect("start");
    Refusing {
        bus,
        broker,
        mended,
        handled,
    }
}

impl<D: Database> Refusing<D> {
    async fn letters(&self, filter: DeadLetterFilter) -> Vec<DeadLetter> {
        let letters = self.broker.dead_letters("shop", &filter).await;
        letters.expect("letters")
    }

    async fn reach(&self, count: usize) -> Vec<DeadLetter> {
        eventually("dead letters", SOON, async || {
            let letters = self.letters(DeadLetterFilter::all()).await;
            if letters.len() == count {
                Ok(letters)
            } else {
                Err(letters.len())
            }
        })
        .await
    }

    async fn numbers(&self, filter: DeadLetterFilter) -> Vec<i64> {
        let number = |letter: DeadLetter| {
            let message = letter.message.expect("a message");
            rmp_serde::from_slice(message.payload()).expect("a number")
        };
        sorted(self.letters(filter).await.into_iter().map(number))
    }
}

async fn a_dead_letter_tells_the_reason_the_attempts_and_the_message<D: Database>(log: Log<D>) {
    let shop = refusing(&log, &["placed"]).await;
    let sent = shop
        .bus
        .publish("placed", &7_i64)
        .key("k")
        .header("tenant", "acme");
    let id = sent.await.expect("publish");

    let letters = shop.reach(1).await;
    let letter = &letters[0];
    assert_eq!((letter.id, &*letter.topic), (id, "placed"));
    assert!(letter.reason.contains("always busy"), "{}", letter.reason);
    assert_eq!(letter.attempts, 4);
    assert!(letter.age < Duration::from_secs(60), "{:?}", letter.age);
    let message = letter.message.as_ref().expect("a message");
    assert_eq!((message.id(), message.key()), (id, Some("k")));
    assert_eq!(message.headers().get("tenant"), Some("acme"));
    assert_eq!(
        rmp_serde::from_slice::<i64>(message.payload()).expect("a number"),
        7
    );
    shop.bus.shutdown().await.expect("shutdown");
}

async fn a_filter_narrows_letters_by_topic_reason_id_and_number<D: Database>(log: Log<D>) {
    let shop = refusing(&log, &["placed", "shipped"]).await;
    publish(&shop.bus, "placed", 0..6).await;
    publish(&shop.bus, "shipped", 10..14).await;
    let letters = shop.reach(10).await;

    let all = DeadLetterFilter::all;
    assert_eq!(shop.numbers(all().topic("shipped")).await, [10, 11, 12, 13]);
    assert_eq!(shop.numbers(all().reason("busy")).await, [1, 3, 5, 11, 13]);
    // The wildcards of SQL have no special meaning in a filter.
    assert_eq!(shop.numbers(all().reason("100%_4")).await, [4]);
    assert_eq!(shop.letters(all().reason("1%4")).await.len(), 0);
    let both = all().topic("placed").reason("busy");
    assert_eq!(shop.numbers(both).await, [1, 3, 5]);
    let ids: Vec<MessageId> = letters.iter().take(3).map(|letter| letter.id).collect();
    let by_id = shop.letters(all().ids(ids.clone())).await;
    assert_eq!(
        by_id.iter().map(|letter| letter.id).collect::<Vec<_>>(),
        ids
    );
    assert_eq!(shop.letters(all().id(ids[1])).await.len(), 1);
    let oldest = shop.letters(all().limit(2)).await;
    assert_eq!(
        oldest.iter().map(|letter| letter.id).collect::<Vec<_>>(),
        ids[..2]
    );
    assert_eq!(shop.letters(all().older_than(SOON * 100)).await.len(), 0);
    assert_eq!(
        shop.letters(all().older_than(Duration::ZERO)).await.len(),
        10
    );
    shop.bus.shutdown().await.expect("shutdown");
}

async fn all_letters_can_be_put_back_and_are_handled_with_the_same_ids_by_that_service_alone<
    D: Database,
>(
    log: Log<D>,
) {
    let shop = refusing(&log, &["placed"]).await;
    let (mail, mailed) = log.noting("mail", &["placed"]).await;
    publish(&shop.bus, "placed", 0..10).await;
    let letters = shop.reach(10).await;
    mailed.reach(10).await;
    shop.mended.store(true, Ordering::SeqCst);

    let back = shop.broker.replay("shop", DeadLetterFilter::all()).await;
    assert_eq!(back.expect("put back"), 10);
    shop.handled.reach(10).await;
    log.is_done("shop").await;
    log.is_done("mail").await;
    assert_eq!(shop.letters(DeadLetterFilter::all()).await.len(), 0);
    assert_eq!(sorted(shop.handled.numbers()), Vec::from_iter(0..10));
    let ids = |ids: &mut dyn Iterator<Item = MessageId>| {
        let mut ids: Vec<String> = ids.map(|id| id.to_string()).collect();
        ids.sort();
        ids
    };
    assert_eq!(
        ids(&mut shop.handled.all().iter().map(Message::id)),
        ids(&mut letters.iter().map(|letter| letter.id))
    );
    assert_eq!(mailed.len(), 10, "the other service had them before");
    shop.bus.shutdown().await.expect("shutdown");
    mail.shutdown().await.expect("shutdown");
}

async fn one_letter_can_be_put_back_and_the_others_stay<D: Database>(log: Log<D>) {
    let shop = refusing(&log, &["placed"]).await;
    publish(&shop.bus, "placed", 0..6).await;
    let letters = shop.reach(6).await;
    shop.mended.store(true, Ordering::SeqCst);

    let one = DeadLetterFilter::all().id(letters[2].id);
    assert_eq!(shop.broker.replay("shop", &one).await.expect("put back"), 1);
    shop.handled.reach(1).await;
    assert_eq!(shop.handled.all()[0].id(), letters[2].id);
    shop.reach(5).await;
    let two = DeadLetterFilter::all().limit(2);
    assert_eq!(shop.broker.replay("shop", &two).await.expect("put back"), 2);
    shop.handled.reach(3).await;
    let rest = shop.reach(3).await;
    assert_eq!(rest[0].id, letters[3].id, "the oldest went first");
    shop.bus.shutdown().await.expect("shutdown");
}

async fn a_letter_that_is_put_back_may_die_again<D: Database>(log: Log<D>) {
    let shop = refusing(&log, &["placed"]).await;
    publish(&shop.bus, "placed", [2]).await;
    let first = shop.reach(1).await;
    let back = shop.broker.replay("shop", DeadLetterFilter::all()).await;
    assert_eq!(back.expect("put back"), 1);

    log.comes_to("SELECT count(*) FROM final_log", 0).await;
    let second = shop.reach(1).await;
    assert_eq!(first[0].id, second[0].id);
    let dead = shop.bus.stats().await.expect("stats").dead_lettered;
    assert_eq!(dead, 2);
    shop.bus.shutdown().await.expect("shutdown");
}

async fn letters_can_be_thrown_away<D: Database>(log: Log<D>) {
    let shop = refusing(&log, &["placed"]).await;
    publish(&shop.bus, "placed", 0..250).await;
    shop.reach(250).await;

    let odd = DeadLetterFilter::all().reason("busy");
    assert_eq!(shop.broker.discard("shop", odd).await.expect("gone"), 125);
    shop.reach(125).await;
    let all = shop.broker.discard("shop", DeadLetterFilter::all()).await;
    assert_eq!(all.expect("gone"), 125);
    shop.reach(0).await;
    log.is_done("shop").await;
    assert_eq!(shop.handled.len(), 0);
    shop.bus.shutdown().await.expect("shutdown");
}

async fn letters_of_one_service_are_nothing_to_another<D: Database>(log: Log<D>) {
    let shop = refusing(&log, &["placed"]).await;
    publish(&shop.bus, "placed", 0..4).await;
    shop.reach(4).await;

    let (broker, all) = (log.broker(), DeadLetterFilter::all());
    assert_eq!(
        broker
            .dead_letters("mail", &all)
            .await
            .expect("letters")
            .len(),
        0
    );
    assert_eq!(broker.replay("mail", &all).await.expect("put back"), 0);
    assert_eq!(broker.discard("mail", &all).await.expect("gone"), 0);
    shop.reach(4).await;
    shop.bus.shutdown().await.expect("shutdown");
}

async fn more_letters_than_one_statement_takes_are_put_back<D: Database>(log: Log<D>) {
    let shop = refusing(&log, &["placed"]).await;
    publish(&shop.bus, "placed", (0..250).map(|number| number * 2)).await;
    shop.reach(250).await;
    shop.mended.store(true, Ordering::SeqCst);

    let back = shop.broker.replay("shop", DeadLetterFilter::all()).await;
    assert_eq!(back.expect("put back"), 250);
    shop.handled.reach(250).await;
    log.is_done("shop").await;
    assert_eq!(shop.handled.len(), 250);
    shop.bus.shutdown().await.expect("shutdown");
}

async fn a_letter_keeps_its_message_after_the_log_has_let_it_go<D: Database>(log: Log<D>) {
    let shop = refusing(&log, &["placed"]).await;
    publish(&shop.bus, "placed", [4]).await;
    shop.reach(1).await;
    log.comes_to("SELECT count(*) FROM final_log", 0).await;

    assert_eq!(shop.numbers(DeadLetterFilter::all()).await, [4]);
    shop.bus.shutdown().await.expect("shutdown");
}

async fn who_wants_to_know_is_told_of_every_letter<D: Database>(log: Log<D>) {
    let told = Arc::new(Mutex::new(Vec::new()));
    let telling = Arc::clone(&told);
    let broker = log.broker().on_handler_error(move |message, why| {
        let told = (message.id(), why.attempts, why.reason.clone());
        telling.lock().expect("lock").push(told);
    });
    let bus = log.bus_on("shop", broker);
    let refuse = || async { Err::<(), _>(HandlerError::permanent("no")) };
    bus.start(Router::new().route("placed", refuse))
        .await
        .expect("start");
    let id = bus.publish("placed", &1_i64).await.expect("publish");

    eventually("the news", SOON, async || {
        !told.lock().expect("lock").is_empty()
    })
    .await;
    let told = told.lock().expect("lock").clone();
    assert_eq!((told[0].0, told[0].1), (id, 1));
    assert!(told[0].2.contains("no"), "{}", told[0].2);
    assert_eq!(told.len(), 1);
    bus.shutdown().await.expect("shutdown");
}

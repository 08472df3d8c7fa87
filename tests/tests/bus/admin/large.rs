//! Letters and messages of many megabytes do not come all at once.

use final_core::{
    admin::LogTail,
    broker::{DeadLetterFilter, DeadLetters, LetterCursor},
};

use super::shop;
use crate::{database::Database, log::Log};

crate::log_suite!(
    large_letters_of_the_log_come_in_lists_that_fit_into_memory,
    large_letters_are_exported_in_pages_that_fit_into_memory,
    large_messages_of_the_log_are_looked_at_a_few_at_once,
);

const MEGABYTES: u32 = 7;

/// Writes so many large letters of `shop` to the log's table.
async fn write<D: Database>(log: &Log<D>, letters: std::ops::RangeInclusive<u8>) {
    // It is a group of the log.
    let bus = super::refusing(log, "placed").await;
    bus.shutdown().await.expect("shutdown");
    let bytes = MEGABYTES * 1024 * 1024;
    for number in letters {
        let id = format!("{number:032x}");
        let (id, payload) = match D::NAME {
            "PostgreSQL" => (
                format!("'{id}'::uuid"),
                format!("decode(repeat('07', {bytes}), 'hex')"),
            ),
            "MySQL" => (format!("x'{id}'"), format!("REPEAT(x'07', {bytes})")),
            _ => (format!("x'{id}'"), format!("zeroblob({bytes})")),
        };
        log.run(&format!(
            "INSERT INTO final_log_dead (group_name, seq, message_id, topic, payload, content_type, durable, lane, \
                 weight, reason, attempts, died_at) \
             VALUES ('shop', {number}, {id}, 'placed', {payload}, 'application/msgpack', 1, 0, {bytes}, 'refused', 1, \
                 {number})"
        ))
        .await;
    }
}

/// The sizes of the lists, one after the other.
async fn lists(
    mut list: impl AsyncFnMut(DeadLetterFilter) -> (usize, Option<LetterCursor>),
) -> Vec<usize> {
    let (mut sizes, mut filter) = (Vec::new(), DeadLetterFilter::all());
    loop {
        let (size, next) = list(filter.clone()).await;
        sizes.push(size);
        let Some(next) = next else {
            return sizes;
        };
        filter = filter.after(next);
    }
}

async fn large_letters_of_the_log_come_in_lists_that_fit_into_memory<D: Database>(log: Log<D>) {
    write(&log, 1..=5).await;
    let broker = log.broker();

    let sizes = lists(async |filter| {
        let letters = broker.list("shop", &filter).await.expect("letters");
        let last = letters.last().and_then(|letter| letter.cursor);
        (letters.len(), last)
    });

    // 16 MiB at once: two of 7, and not a third.
    assert_eq!(sizes.await, [2, 2, 1, 0]);
}

async fn large_letters_are_exported_in_pages_that_fit_into_memory<D: Database>(log: Log<D>) {
    write(&log, 1..=5).await;

    let sizes = lists(async |filter| {
        let page = shop(&log).whole_letters(&filter).await.expect("letters");
        (page.items.len(), page.next)
    });

    // The page ends with the letter that makes it 16 MiB or more.
    assert_eq!(sizes.await, [3, 2]);
}

async fn large_messages_of_the_log_are_looked_at_a_few_at_once<D: Database>(log: Log<D>) {
    const ALL: usize = 10;
    let bus = log.bus("shop");
    bus.migrate().await.expect("migrate");
    let mut tail = LogTail::open(log.pool.clone(), ["placed"])
        .await
        .expect("the log");
    let payload = vec![7; 3 * 1024 * 1024];
    for _ in 0..ALL {
        let message = bus.publish_bytes("placed", payload.clone());
        message.await.expect("publish");
    }

    let mut sizes = Vec::new();
    while sizes.iter().sum::<usize>() < ALL {
        let entries = tail.next().await.expect("entries");
        for entry in &entries {
            let message = entry.message.as_ref().expect("a message");
            assert_eq!(message.payload().len(), payload.len());
        }
        sizes.push(entries.len());
    }
    // Each call ends with the message that makes it 16 MiB or more.
    assert_eq!(sizes, [6, 4]);
    assert!(tail.next().await.expect("entries").is_empty());
}

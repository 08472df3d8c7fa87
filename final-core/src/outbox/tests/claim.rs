//! Claiming: which due records a claim takes, and in which order.

use std::{collections::HashSet, sync::Arc, time::Duration};

use uuid::Uuid;

use super::{
    House, Outbox,
    house::{ids, message},
};
use crate::{
    Message,
    database::limits::CLAIM_BYTES,
    outbox::{Claimed, NewRecord},
};

pub(super) async fn a_claim_takes_the_oldest_first_and_each_once<DB: House>() {
    let outbox = Outbox::<DB>::new().await;
    let first = outbox.fill("order.placed", 2).await;
    tokio::time::sleep(Duration::from_millis(5)).await;
    let second = outbox.fill("order.placed", 2).await;

    let claimed = outbox.claim(3).await;

    assert_eq!(ids(&claimed), [first[0], first[1], second[0]]);
    assert!(claimed.is_sorted_by_key(|claimed| claimed.position));
    assert_eq!(ids(&outbox.claim(10).await), [second[1]]);
}

pub(super) async fn a_pass_continues_after_the_last_key<DB: House>() {
    let outbox = Outbox::<DB>::new().await;
    let all = outbox.fill("order.placed", 5).await;
    let first = outbox.claim(2).await;
    // As it was before, so that the two are due again.
    outbox.run("UPDATE {c} SET live_until = first_at").await;

    let rest = outbox.claim_after(Some(first[1].position), 10).await;

    assert_eq!(ids(&rest), all[2..]);
    assert_eq!(ids(&outbox.claim(10).await), all[..2]);
}

pub(super) async fn claims_at_once_share_no_record<DB: House>() {
    let outbox = Arc::new(Outbox::<DB>::new().await);
    outbox.fill("order.placed", 200).await;

    let claims = (0..4).map(|_| {
        let outbox = Arc::clone(&outbox);
        tokio::spawn(async move {
            let owner = Uuid::now_v7();
            let mut mine = Vec::new();
            for _ in 0..20 {
                mine.extend(ids(&outbox.claim_as(owner, 10).await));
            }
            mine
        })
    });
    let claims = futures::future::try_join_all(claims).await.unwrap();

    let all: Vec<Uuid> = claims.concat();
    assert_eq!(all.len(), 200);
    assert_eq!(all.iter().collect::<HashSet<_>>().len(), 200);
}

pub(super) async fn a_row_that_is_no_message_does_not_hold_up_the_others<DB: House>() {
    let outbox = Outbox::<DB>::new().await;
    let messages = ["broken.headers", "nobody", "good"].map(message);
    outbox
        .insert(&messages.each_ref().map(NewRecord::plain))
        .await;
    outbox
        .run("UPDATE {t} SET headers = '{\"a\": ' WHERE topic = 'broken.headers'")
        .await;
    outbox
        .run("UPDATE {t} SET topic = '' WHERE topic = 'nobody'")
        .await;

    let claimed = outbox.claim(10).await;

    let reason = |at: usize| claimed[at].record.message.as_ref().map_err(String::as_str);
    assert_eq!(ids(&claimed), messages.each_ref().map(|m| m.id().0));
    assert!(reason(0).unwrap_err().contains("headers"));
    assert!(reason(1).unwrap_err().contains("empty"));
    assert_eq!(reason(2).unwrap().topic(), "good");
}

pub(super) async fn payloads_of_all_sizes_are_claimed_together_as_they_were_published<DB: House>() {
    let outbox = Outbox::<DB>::new().await;
    let sizes = [0, 1, 8 * 1024, 8 * 1024 + 1, 100_000, 5];
    let messages = sizes.map(|size| Message::new("order.placed", vec![159; size]));
    let records = messages.each_ref().map(NewRecord::plain);
    outbox.insert(&records).await;

    let claimed = outbox.claim(10).await;

    let payload = |claimed: &Claimed| claimed.record.message.as_ref().unwrap().payload().clone();
    let mut got: Vec<_> = claimed.iter().map(payload).collect();
    got.sort_by_key(|payload| sizes.iter().position(|size| *size == payload.len()));
    assert_eq!(got, messages.each_ref().map(|m| m.payload().clone()));
}

pub(super) async fn a_claim_carries_no_more_payload_than_it_may<DB: House>() {
    let outbox = Outbox::<DB>::new().await;
    let third = usize::try_from(CLAIM_BYTES).unwrap() / 3 + 1;
    for _ in 0..4 {
        let message = Message::new("order.placed", vec![7; third]);
        outbox.insert(&[NewRecord::plain(&message)]).await;
    }

    assert_eq!(outbox.claim(10).await.len(), 3);
    assert_eq!(outbox.claim(10).await.len(), 1);
}

//! Two nodes that share a group.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Mutex,
    time::Duration,
};

use final_gateway::groups::{Groups, ReceiptError};

use super::{ack, lot, node, number, pair, publish, pull_all, receipts, subscribe};
use crate::{
    engine::{SOON, Stand},
    place::Database,
};

crate::on_each_engine!(
    a_receipt_is_settled_by_the_node_that_gave_it_out,
    nothing_is_lost_or_stuck_while_nodes_come_and_go,
);

async fn a_receipt_is_settled_by_the_node_that_gave_it_out<DB: Database>(stand: Stand<DB>) {
    let running = stand.gateway().start().await.expect("start");
    let (one, two) = tokio::join!(node(&stand, "one", |_| {}), node(&stand, "two", |_| {}));
    drop(subscribe(&one).await);
    publish(&running, [1]).await;
    let pulled = pull_all(&one, 1, SOON).await;

    let other = two.ack("billing", &receipts(&pulled)).await;
    assert_eq!(other, [Err(ReceiptError::OtherNode("one".to_owned()))]);
    assert_eq!(two.pair_of(&pulled[0].receipt), Ok(pair()));
    let foreign = two.ack("shipping", &receipts(&pulled)).await;
    assert_eq!(foreign, [Err(ReceiptError::Foreign)]);
    ack(&one, &pulled).await;
    tokio::join!(one.shutdown(), two.shutdown());
    running.shutdown().await;
}

/// Takes and commits, and sometimes goes away with messages in hand, until all were committed.
async fn client(groups: &Groups, done: &Mutex<HashSet<usize>>, all: usize, is_rude: bool) {
    let is_done = || done.lock().unwrap().len() >= all;
    let mut rounds = 0;
    while !is_done() {
        let mut holder = groups.hold(&pair()).await.expect("a holder");
        for _ in 0..5 {
            let Ok(taken) = holder.take(lot(20)).await else {
                return;
            };
            if is_done() {
                return;
            }
            let mut last: BTreeMap<i32, i64> = BTreeMap::new();
            rounds += 1;
            for taken in &taken {
                // The last one of a rude client's answer is not committed before its connection ends.
                if is_rude && rounds % 5 == 0 && number(&taken.message).is_multiple_of(10) {
                    break;
                }
                done.lock().unwrap().insert(number(&taken.message));
                last.insert(taken.partition, taken.offset);
            }
            for (partition, offset) in last {
                holder.commit(partition.into(), offset).expect("given");
            }
        }
    }
}

async fn nothing_is_lost_or_stuck_while_nodes_come_and_go<DB: Database>(stand: Stand<DB>) {
    const ALL: usize = 1_500;
    let running = stand.gateway().start().await.expect("start");
    let one = node(&stand, "one", |options| options.max_deliveries = 1_000).await;
    drop(subscribe(&one).await);
    let done = Mutex::new(HashSet::new());
    let come_and_go = async {
        while done.lock().unwrap().len() < ALL {
            let two = node(&stand, "two", |options| options.max_deliveries = 1_000).await;
            let stay = tokio::time::timeout(Duration::from_millis(700), async {
                tokio::join!(
                    client(&two, &done, ALL, true),
                    client(&two, &done, ALL, false)
                )
            });
            let _ = stay.await;
            two.shutdown().await;
        }
    };
    let work = async {
        tokio::join!(
            client(&one, &done, ALL, false),
            client(&one, &done, ALL, true),
            come_and_go,
            async {
                for from in (0..ALL).step_by(100) {
                    publish(&running, from..from + 100).await;
                }
            },
        )
    };
    tokio::time::timeout(SOON, work)
        .await
        .expect("all are committed in time");

    assert_eq!(done.lock().unwrap().len(), ALL);
    one.shutdown().await;
    if stand.is_log() {
        let sql = "SELECT COUNT(*) FROM final_log_dead";
        assert_eq!(stand.place.number(sql).await, 0);
    }
    running.shutdown().await;
}

//! A backlog, consumed and committed in batches of 100 by one client.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use final_core::{
    Message, SqlBroker,
    broker::{Broker, Settlement, Setup},
    log::StartFrom,
};
use final_gateway::names::Pair;
use serde::Deserialize;
use sqlx::Pool;

use super::{TOPIC, VALUE, dsn, gateway, xadd};
use crate::{
    Result,
    bench::Bench,
    db::{Db, Place},
    hand::{Redis, Reply, RespClient, command},
    row::Must,
    sides::{OURS, rounds},
};

const ENGINE: &str = "engine alone";
const REDIS: &str = "Redis Streams";
/// So many messages in an answer at most.
const BATCH: u64 = 100;
const LIMIT: Duration = Duration::from_secs(10);

pub(super) async fn run<DB: Db>(
    bench: &mut Bench,
    place: &Place<DB>,
    redis: Option<&Redis>,
) -> Result<()> {
    let messages = bench.count(50_000);
    let log = SqlBroker::new(place.pool.clone());
    log.migrate().await?;
    let mut sides = vec![OURS, ENGINE];
    sides.extend(redis.map(|_| REDIS));
    let series = rounds(bench.rounds(5), &sides, async |side| {
        let took = match side {
            OURS => through_the_gateway(&place.pool, messages).await?,
            ENGINE => by_the_engine(&place.pool, messages).await?,
            _ => from_redis(redis.ok_or("no Redis")?, messages).await?,
        };
        Ok(messages as f64 / took.as_secs_f64())
    })
    .await?;
    let metric = "messages/s consumed and committed, batches of 100";
    bench.add(series.rows("gateway", DB::LABEL, metric, Some(Must::RatioAtLeast(0.6))));
    Ok(())
}

/// Messages that wait for the groups that subscribe first.
async fn fill<DB: Db>(pool: &Pool<DB>, messages: u64) -> Result<()> {
    let log = SqlBroker::new(pool.clone());
    let mut left = messages;
    while left > 0 {
        let some = left.min(1_000);
        let message = |_| {
            Message::new(TOPIC, VALUE)
                .with_key("key")
                .with_content_type("application/json")
        };
        let some_messages: Vec<Message> = (0..some).map(message).collect();
        log.publish(&some_messages, |_| false).await?;
        left -= some;
    }
    Ok(())
}

/// What the client needs of a record.
#[derive(Deserialize)]
struct Record {
    partition: i64,
    offset: i64,
}

async fn through_the_gateway<DB: Db>(pool: &Pool<DB>, messages: u64) -> Result<Duration> {
    let (running, address) = gateway(pool).await?;
    let mut client = RespClient::with_dsn(address, &dsn("sub")).await?;
    let mget = command(&[b"MGET", b""]);
    // The group subscribes with its first consumer; what was published before is not for it.
    drop(running.groups().hold(&Pair::new("readers", TOPIC)?).await?);
    fill(pool, messages).await?;
    let start = Instant::now();
    let mut count = 0;
    while count < messages {
        client.send(&mget).await?;
        let Reply::All(records) = client.reply().await? else {
            return Err("MGET answers no list".into());
        };
        let mut ends = BTreeMap::new();
        for record in &records {
            let Reply::Bytes(Some(bytes)) = record else {
                return Err("MGET answers something else than texts".into());
            };
            let record: Record = serde_json::from_slice(bytes)?;
            ends.insert(record.partition, record.offset);
        }
        let mut commits = Vec::new();
        for (partition, offset) in &ends {
            let (partition, offset) = (partition.to_string(), offset.to_string());
            commits.extend(command(&[b"SET", partition.as_bytes(), offset.as_bytes()]));
        }
        client.send(&commits).await?;
        client.ok(ends.len()).await?;
        count += records.len() as u64;
    }
    let took = start.elapsed();
    drop(client);
    running.shutdown().await;
    Ok(took)
}

async fn by_the_engine<DB: Db>(pool: &Pool<DB>, messages: u64) -> Result<Duration> {
    let log = SqlBroker::new(pool.clone())
        .start_from(StartFrom::New)
        .prefetch(super::IN_HAND);
    let opened = log.open(Setup::new("engine", [TOPIC])).await?;
    let (link, mut deliveries) = (opened.link, opened.deliveries);
    log.subscribe("engine", &[TOPIC]).await?;
    fill(pool, messages).await?;
    let start = Instant::now();
    let (mut count, mut batch) = (0, Vec::new());
    while count < messages {
        let most = usize::try_from(BATCH)?;
        count += deliveries.recv_many(&mut batch, most).await as u64;
        for delivery in batch.drain(..) {
            delivery.settle(Settlement::Ack);
        }
    }
    let took = start.elapsed();
    link.stop_consuming(LIMIT).await;
    link.finish_consuming(LIMIT).await;
    link.close(LIMIT).await;
    Ok(took)
}

async fn from_redis(redis: &Redis, messages: u64) -> Result<Duration> {
    let mut client = RespClient::connect(redis.address()).await?;
    client.send(&command(&[b"DEL", b"bench"])).await?;
    client.reply().await?;
    let group = command(&[b"XGROUP", b"CREATE", b"bench", b"g", b"0", b"MKSTREAM"]);
    client.send(&group).await?;
    client.ok(1).await?;
    let mut left = messages;
    while left > 0 {
        let some = left.min(1_000);
        client.send(&xadd().repeat(usize::try_from(some)?)).await?;
        for _ in 0..some {
            client.reply().await?;
        }
        left -= some;
    }
    let batch = BATCH.to_string();
    let read: [&[u8]; 9] = [
        b"XREADGROUP",
        b"GROUP",
        b"g",
        b"c",
        b"COUNT",
        batch.as_bytes(),
        b"STREAMS",
        b"bench",
        b">",
    ];
    let read = command(&read);
    let start = Instant::now();
    let mut count = 0;
    while count < messages {
        client.send(&read).await?;
        let ids = ids(client.reply().await?);
        let mut ack: Vec<&[u8]> = vec![b"XACK", b"bench", b"g"];
        ack.extend(ids.iter().map(Vec::as_slice));
        client.send(&command(&ack)).await?;
        client.reply().await?;
        count += ids.len() as u64;
    }
    Ok(start.elapsed())
}

/// The ids of what XREADGROUP gives: of one stream, each entry an id and its fields.
fn ids(reply: Reply) -> Vec<Vec<u8>> {
    let all = |reply: Reply| match reply {
        Reply::All(all) => all,
        _ => Vec::new(),
    };
    let stream = all(reply).into_iter().flat_map(all);
    let entries = stream.skip(1).flat_map(all);
    let id = |entry: Reply| match all(entry).into_iter().next() {
        Some(Reply::Bytes(id)) => id,
        _ => None,
    };
    entries.filter_map(id).collect()
}

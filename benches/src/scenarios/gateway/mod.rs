//! The gateway beside the engine without it, beside the same clients that commit by themselves, and beside Redis
//! Streams.
//!
//! The clients speak RESP, as little of it as they can, and run in this process beside the server, as they would on a
//! machine of two cores. Only those of `idle` are in another process.

mod consume;
mod decode;
mod idle;
mod latency;
mod publish;

use std::net::SocketAddr;

use final_core::SqlBroker;
use final_gateway::{Engine, Gateway, Limits, Listen, Running, rights::Rights};
use sqlx::{MySql, Pool, Postgres, Sqlite};

pub(crate) use self::idle::{SERVER, serve};
use crate::{
    Result,
    bench::Bench,
    db::Db,
    hand::{Redis, RespClient, command, start_redis},
};

/// The topic that is published to and consumed.
const TOPIC: &str = "bench.gateway";

/// So many messages may be in hand, and so many does the engine alone send ahead.
const IN_HAND: usize = 2_000;

/// What clients write: JSON, about a hundred bytes.
const VALUE: &[u8] =
    br#"{"id":4711,"customer":"a customer of the shop, whose name is not short","total":4200,"at":1790000000}"#;

pub(super) async fn run(bench: &mut Bench) -> Result<()> {
    let redis = start_redis().await?;
    if redis.is_none() {
        bench.say("  Redis is not installed (redis-tools), so its column is left out");
    }
    on::<Postgres>(bench, redis.as_ref()).await?;
    on::<MySql>(bench, redis.as_ref()).await?;
    on::<Sqlite>(bench, redis.as_ref()).await?;
    decode::run(bench)?;
    if bench.wants::<Postgres>() {
        idle::run::<Postgres>(bench).await?;
    }
    Ok(())
}

async fn on<DB: Db>(bench: &mut Bench, redis: Option<&Redis>) -> Result<()> {
    if !bench.wants::<DB>() {
        return Ok(());
    }
    // A database each: what one part leaves to be vacuumed must not fall to the next.
    publish::one_at_a_time(bench, &DB::fresh().await?, redis).await?;
    publish::pipelined(bench, &DB::fresh().await?, redis).await?;
    consume::run(bench, &DB::fresh().await?, redis).await?;
    latency::run(bench, &DB::fresh().await?).await
}

/// A gateway on the log of a database, and where it listens.
async fn gateway<DB: Db>(pool: &Pool<DB>) -> Result<(Running, SocketAddr)> {
    let log = SqlBroker::new(pool.clone());
    let mut limits = Limits::default();
    limits.in_hand = IN_HAND;
    let running = Gateway::new("bench", Engine::log(pool.clone(), log))
        .rights(Rights::from_fn(|_, _| {
            Ok(final_gateway::rights::Grants::all())
        }))
        .limits(limits)
        .resp(Listen::at("127.0.0.1:0"))
        .start()
        .await?;
    let address = running
        .addresses()
        .resp
        .ok_or("the gateway does not listen")?;
    Ok((running, address))
}

/// A DSN of databus, for a role.
fn dsn(role: &str) -> String {
    format!("bench:secret@readers/topic={TOPIC}&role={role}")
}

/// Clients of a gateway that publish.
async fn publishers(address: SocketAddr, count: usize) -> Result<Vec<RespClient>> {
    let mut clients = Vec::new();
    for _ in 0..count {
        clients.push(RespClient::with_dsn(address, &dsn("pub")).await?);
    }
    Ok(clients)
}

/// The command that publishes a message.
fn set() -> Vec<u8> {
    command(&[b"SET", b"key", VALUE])
}

/// The same in Redis Streams.
fn xadd() -> Vec<u8> {
    command(&[b"XADD", b"bench", b"*", b"key", VALUE])
}

//! Servers that die, connections that are cut, processes that are killed: nothing is lost, nothing
//! is invented, and work goes on by itself.

#![allow(clippy::expect_used, reason = "a test says what it expects")]
#![allow(unreachable_pub, reason = "a test binary has no outside")]

mod autocommit;
mod broker;
mod broker_credentials;
mod cluster;
mod collect;
mod commit;
mod credentials;
mod database;
mod detour;
mod drain;
mod durable;
mod foreign;
mod forgotten;
mod go;
mod handshake;
mod hostile;
mod killers;
mod lifted;
mod locked;
mod log;
mod long;
mod negotiated;
mod overheard;
mod pair;
mod poison;
mod poison_log;
mod process;
mod refused;
mod rights;
mod secrets;
mod shop;
mod switched;
mod tls;
mod untried;

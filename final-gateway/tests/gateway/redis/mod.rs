//! The Redis port: raw requests, and real clients.

mod clients;
mod port;
pub mod raw;

use std::net::SocketAddr;

use final_gateway::{
    Listen, Running,
    rights::{Grants, Rights},
};

use crate::{engine::Stand, place::Database};

const PUB: &str = "key:secret@group/topic=test156&role=pub";
const SUB: &str = "key:secret@group/topic=test156&role=sub";

/// A gateway whose apps may do everything.
async fn start<DB: Database>(stand: &Stand<DB>) -> (Running, SocketAddr) {
    let gateway = stand
        .gateway()
        .rights(Rights::from_fn(|_, _| Ok(Grants::all())))
        .resp(Listen::at("127.0.0.1:0"));
    let running = gateway.start().await.expect("start");
    let address = running.addresses().resp.expect("an address");
    (running, address)
}

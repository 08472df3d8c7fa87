//! What is played.

mod backlog;
mod capture;
mod consume;
mod cost;
mod dispatch;
mod e2e;
mod gateway;
mod idle;
mod latency;
mod log;
mod log_latency;
mod ours;
mod reconcile;
mod relay;
mod scale;
mod table;
mod tx;
mod tx_batch;
mod writers;

pub(crate) use self::{
    capture::{READER, read},
    gateway::{SERVER, serve},
    log_latency::{PUBLISHER, publish},
    reconcile::{COMPARER, compare},
};
use crate::bench::Scenario;

/// All of them, in the order of the documentation.
pub(crate) const ALL: &[Scenario] = &[
    Scenario {
        name: "tx",
        about: "transactions per second: one business INSERT and one message; nobody relays",
        run: |bench| Box::pin(tx::run(bench)),
    },
    Scenario {
        name: "tx-batch",
        about: "messages per second, 10 and 100 in a transaction, 8 writers",
        run: |bench| Box::pin(tx_batch::run(bench)),
    },
    Scenario {
        name: "writers",
        about: "1 to 64 writers of one SQLite file: transactions per second, and how long each waits",
        run: |bench| Box::pin(writers::run(bench)),
    },
    Scenario {
        name: "relay",
        about: "a backlog of 100,000 records to RabbitMQ, confirmed and deleted",
        run: |bench| Box::pin(relay::run(bench)),
    },
    Scenario {
        name: "consume",
        about: "100,000 waiting messages, decoded, through three layers",
        run: |bench| Box::pin(consume::run(bench)),
    },
    Scenario {
        name: "e2e",
        about: "32 writers until everything is handled and the outbox is empty",
        run: |bench| Box::pin(e2e::run(bench)),
    },
    Scenario {
        name: "latency",
        about: "from before COMMIT to the handler",
        run: |bench| Box::pin(latency::run(bench)),
    },
    Scenario {
        name: "dispatch",
        about: "router, extractors and layers, without any I/O",
        run: |bench| Box::pin(dispatch::run(bench)),
    },
    Scenario {
        name: "backlog",
        about: "1,000,000 waiting records drained while 500 transactions per second go on",
        run: |bench| Box::pin(backlog::run(bench)),
    },
    Scenario {
        name: "table",
        about: "transactions with 5,000,000 acked records kept in the table",
        run: |bench| Box::pin(table::run(bench)),
    },
    Scenario {
        name: "idle",
        about: "what a bus without work asks of the database and the processor",
        run: |bench| Box::pin(idle::run(bench)),
    },
    Scenario {
        name: "scale",
        about: "one, two and four relays on one outbox",
        run: |bench| Box::pin(scale::run(bench)),
    },
    Scenario {
        name: "log",
        about: "the same bus without RabbitMQ: the database as the transport",
        run: |bench| Box::pin(log::run(bench)),
    },
    Scenario {
        name: "gateway",
        about: "Redis clients that publish and consume through the gateway",
        run: |bench| Box::pin(gateway::run(bench)),
    },
    Scenario {
        name: "capture",
        about: "row changes of a database, into the log and to RabbitMQ",
        run: |bench| Box::pin(capture::run(bench)),
    },
    Scenario {
        name: "reconcile",
        about: "two tables compared: equal, and with one row in a thousand different",
        run: |bench| Box::pin(reconcile::run(bench)),
    },
    Scenario {
        name: "cost",
        about: "statements, round trips, write-ahead log and frames per message, counted",
        run: |bench| Box::pin(cost::run(bench)),
    },
];

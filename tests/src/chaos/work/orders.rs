//! The orders for a running worker, one line each on its standard input.

use std::time::Duration;

use final_core::failpoint::{self, Failpoint};
use rustix::process::{Signal, getpid, kill_process};
use serde::{Deserialize, Serialize};
use sqlx::Pool;
use tokio::io::{AsyncBufReadExt, BufReader};

use super::{AnyError, CONNECTIONS, seller::Sellers, shop::Shop};
use crate::chaos::journal::{Entry, Journal};

/// An order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Order {
    /// Begin no more sales, and report when the open ones have ended.
    Hold,
    /// Go on selling.
    Sell,
    /// Kill yourself (SIGKILL) when you reach this place for the nth time.
    DieAt(KillPlace, u32),
    /// Hold all connections of the pool for so many milliseconds.
    Exhaust(u64),
    /// Shut down and exit.
    Stop,
}

/// [`Failpoint`] in a form that can be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum KillPlace {
    AfterInsert,
    AfterCommit,
    AfterPublish,
    AfterConfirm,
    BeforeHandler,
    AfterHandler,
}

/// Follows orders until the last one.
pub(super) async fn follow<DB: Shop>(
    pool: &Pool<DB>,
    sellers: &Sellers,
    journal: &Journal,
) -> Result<(), AnyError> {
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        match serde_json::from_str(&line)? {
            Order::Hold => {
                sellers.hold().await;
                journal.write(&Entry::Held)?;
            }
            Order::Sell => sellers.go_on(),
            Order::DieAt(place, nth) => failpoint::arm(place.into(), nth, die),
            Order::Exhaust(millis) => {
                tokio::spawn(exhaust(pool.clone(), Duration::from_millis(millis)));
            }
            Order::Stop => break,
        }
    }
    Ok(())
}

fn die() {
    let _ = kill_process(getpid(), Signal::KILL);
    // The signal is on its way. Until it arrives, this thread must do nothing more.
    loop {
        std::thread::park();
    }
}

async fn exhaust<DB: Shop>(pool: Pool<DB>, during: Duration) {
    let all = (0..CONNECTIONS).map(|_| pool.acquire());
    let held = futures::future::join_all(all).await;
    tokio::time::sleep(during).await;
    drop(held);
}

impl From<KillPlace> for Failpoint {
    fn from(place: KillPlace) -> Self {
        match place {
            KillPlace::AfterInsert => Self::AfterInsert,
            KillPlace::AfterCommit => Self::AfterCommit,
            KillPlace::AfterPublish => Self::AfterPublish,
            KillPlace::AfterConfirm => Self::AfterConfirm,
            KillPlace::BeforeHandler => Self::BeforeHandler,
            KillPlace::AfterHandler => Self::AfterHandler,
        }
    }
}

//! The heartbeat of the mirror.
//!
//! Input: the source's clock. Output: its time, behind all changes that were committed before it. No writer is between its
//! commit and the queue while the clock is read.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use final_tests::Conn;
use tokio::time::{sleep, timeout};

use super::{
    table::{Change, Kind, Place},
    writer::{Scene, until_done},
};

/// How often the source beats.
const OFTEN: Duration = Duration::from_millis(200);

/// Beats until it is cut off.
pub async fn beat(scene: Arc<Scene>) {
    let (mut source, mut target) = (None, None);
    loop {
        sleep(OFTEN).await;
        let _no_commit = scene.commits.write().await;
        let Some(at) = clock(&scene.source, &mut source).await else {
            continue;
        };
        let beat = Change::Beat { at };
        if scene.is_mirrored.load(Ordering::Relaxed) {
            // Nothing is on its way any more.
            let sql = Kind::of(&scene.target).transaction(Place::Copy, [beat].into_iter());
            until_done(&scene.target, &mut target, &sql).await;
        } else if !scene.is_over() {
            scene.queue_up([beat]);
        }
    }
}

async fn clock(url: &str, conn: &mut Option<Conn>) -> Option<i64> {
    if conn.is_none() {
        *conn = Conn::open(url).await.ok();
    }
    let asked = conn.as_mut()?.number(Kind::of(url).clock());
    match timeout(Duration::from_secs(2), asked).await {
        Ok(Ok(at)) => Some(at),
        _ => {
            *conn = None;
            None
        }
    }
}

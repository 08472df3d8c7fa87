//! How far the server's log goes.
//!
//! Input: the server's list of its files, asked for again and again by a task. State: the last answer. Output: how many
//! bytes lie behind a place. A server that does not let us see the list leaves that open.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use mysql_async::{Row, prelude::Queryable};
use tokio::{task::JoinHandle, time::sleep};

use super::connect::Server;

/// Files with their sizes, the oldest first.
type Files = Vec<(String, u64)>;

/// How far the server's log goes, as a task sees it.
#[derive(Debug)]
pub(super) struct Newest {
    files: Arc<Mutex<Files>>,
    task: JoinHandle<()>,
}

impl Newest {
    /// Looks now and then until it is dropped.
    pub(super) fn watch(server: Server, every: Duration) -> Self {
        let files = Arc::default();
        let task = tokio::spawn(look(server, every, Arc::clone(&files)));
        Self { files, task }
    }

    /// How many bytes lie behind a place.
    pub(super) fn behind(&self, file: &str, offset: u64) -> Option<u64> {
        let files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        behind(&files, file, offset)
    }
}

impl Drop for Newest {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn look(server: Server, every: Duration, files: Arc<Mutex<Files>>) {
    loop {
        // A server that is away is told by the stream itself.
        if let Ok(mut conn) = server.connect().await {
            while let Ok(rows) = conn.query::<Row, _>("SHOW BINARY LOGS").await {
                let sizes = rows.into_iter().filter_map(|mut row| {
                    let file: String = row.take_opt(0)?.ok()?;
                    let size: u64 = row.take_opt(1)?.ok()?;
                    Some((file, size))
                });
                let sizes: Files = sizes.collect();
                *files.lock().unwrap_or_else(PoisonError::into_inner) = sizes;
                sleep(every).await;
            }
            let _ = conn.disconnect().await;
        }
        sleep(every).await;
    }
}

fn behind(files: &Files, file: &str, offset: u64) -> Option<u64> {
    let at = files.iter().position(|(name, _)| name == file)?;
    let all: u64 = files.iter().skip(at).map(|(_, size)| size).sum();
    Some(all.saturating_sub(offset))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_of_a_file_and_all_later_ones_are_behind_a_place() {
        let files = vec![("a.1".to_owned(), 100), ("a.2".to_owned(), 50)];
        assert_eq!(behind(&files, "a.1", 30), Some(120));
        assert_eq!(behind(&files, "a.2", 50), Some(0));
        assert_eq!(
            behind(&files, "a.2", 60),
            Some(0),
            "the list is older than the place"
        );
        assert_eq!(behind(&files, "a.3", 4), None);
    }
}

//! An answer that is good for a moment, however many ask.
//!
//! Input: questions of anybody. State: the last answer and its time. Output: that answer, or a new one once it is too old.
//! One question is under way at most: the others wait for its answer. So the database is asked as often as that, and not
//! as often as clients like.

use std::{future::Future, time::Duration};

use tokio::{sync::Mutex, time::Instant};

/// How long an answer is good.
const GOOD: Duration = Duration::from_secs(1);

/// The last answer to a question.
#[derive(Debug)]
pub(super) struct Latest<T>(Mutex<Option<(Instant, T)>>);

impl<T: Clone> Latest<T> {
    /// The last answer, or a new one. `ask` is only run for a new one. If its caller goes away, the next one asks.
    pub(super) async fn get(&self, ask: impl Future<Output = T>) -> T {
        let mut last = self.0.lock().await;
        if let Some((at, answer)) = &*last
            && at.elapsed() < GOOD
        {
            return answer.clone();
        }
        let answer = ask.await;
        *last = Some((Instant::now(), answer.clone()));
        answer
    }
}

impl<T> Default for Latest<T> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

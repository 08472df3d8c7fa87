//! A question that many ask and one answers: the answer is kept for a while.
//!
//! Input: a question, how long its answer is fresh, and how long a caller waits for it. State: the answer, or the
//! task that asks. Output: the answer; or none, if it did not come in time.
//!
//! ```text
//!   nothing ── asked ──▶ asking ── answered ──▶ fresh ── too old: asked again ──▶ asking
//!                          └── its task was dropped: asked again
//! ```
//!
//! However many callers come, one question is under way. It goes on when its callers give up, so that a slow
//! database is not asked once more by each of them. An answer that took long is fresh for longer, and is given once more
//! while the next one takes as long: counting a large backlog must neither burden the database nor look like silence.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    sync::watch,
    time::{Instant, timeout},
};

use crate::{lock::lock, runtime::crew::Crew};

/// An answer is fresh for this many times as long as it took, at least.
const FRESH_FOR: u32 = 10;

/// An answer that took longer than its callers wait is given for this many times as long, if the next one is late.
const OF_USE_FOR: u32 = 30;

/// An answer, when it came, and how long it took.
#[derive(Debug)]
struct Known<T> {
    at: Instant,
    took: Duration,
    answer: Arc<T>,
}

impl<T> Clone for Known<T> {
    fn clone(&self) -> Self {
        Self {
            answer: Arc::clone(&self.answer),
            ..*self
        }
    }
}

/// The answer, once there is one.
type Answer<T> = Option<Known<T>>;

/// What was answered last, and the answer before.
#[derive(Debug)]
struct Answers<T> {
    last: Option<watch::Receiver<Answer<T>>>,
    before: Option<Known<T>>,
}

/// A question and its last answer.
#[derive(Debug)]
pub(crate) struct Asked<T> {
    name: &'static str,
    fresh: Duration,
    limit: Duration,
    answers: Mutex<Answers<T>>,
}

impl<T: Send + Sync + 'static> Asked<T> {
    /// An answer is fresh for so long after it has come. A caller waits for it until `limit`.
    pub(crate) fn new(name: &'static str, fresh: Duration, limit: Duration) -> Self {
        Self {
            name,
            fresh,
            limit,
            answers: Mutex::new(Answers {
                last: None,
                before: None,
            }),
        }
    }

    /// Gives the answer, and asks for it if there is no fresh one. `None` if it does not come in time.
    pub(crate) async fn get<F>(&self, crew: &Crew, ask: impl FnOnce() -> F) -> Option<Arc<T>>
    where
        F: Future<Output = T> + Send + 'static,
    {
        let mut answer = self.answer(crew, ask);
        match timeout(self.limit, answer.wait_for(Option::is_some)).await {
            Ok(answer) => answer.ok()?.as_ref().map(|known| Arc::clone(&known.answer)),
            Err(_) => self.before(),
        }
    }

    /// The answer before, if it took as long as the one that is late.
    fn before(&self) -> Option<Arc<T>> {
        let answers = lock(&self.answers);
        let before = answers.before.as_ref()?;
        let is_of_use = before.took > self.limit && before.at.elapsed() < before.took * OF_USE_FOR;
        is_of_use.then(|| Arc::clone(&before.answer))
    }

    fn answer<F>(&self, crew: &Crew, ask: impl FnOnce() -> F) -> watch::Receiver<Answer<T>>
    where
        F: Future<Output = T> + Send + 'static,
    {
        let mut answers = lock(&self.answers);
        let last = answers.last.as_ref();
        if let Some(answer) = last.filter(|answer| self.is_of_use(answer)) {
            return answer.clone();
        }
        if let Some(known) = last.and_then(|answer| answer.borrow().clone()) {
            answers.before = Some(known);
        }
        let (sender, answer) = watch::channel(None);
        let asking = ask();
        let began = Instant::now();
        crew.track(self.name, async move {
            let answer = Arc::new(asking.await);
            let at = Instant::now();
            let took = at.duration_since(began);
            sender.send_replace(Some(Known { at, took, answer }));
        });
        answers.last = Some(answer.clone());
        answer
    }

    /// Whether it is fresh, or will be.
    fn is_of_use(&self, answer: &watch::Receiver<Answer<T>>) -> bool {
        match &*answer.borrow() {
            Some(known) => known.at.elapsed() < self.fresh.max(known.took * FRESH_FOR),
            None => answer.has_changed().is_ok(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::pending,
        sync::atomic::{AtomicU32, Ordering},
    };

    use futures::future::join_all;

    use super::*;

    const FRESH: Duration = Duration::from_secs(5);
    const LIMIT: Duration = Duration::from_secs(2);

    struct Asker {
        asked: Asked<u32>,
        crew: Crew,
        times: Arc<AtomicU32>,
    }

    impl Asker {
        fn new() -> Self {
            Self {
                asked: Asked::new("question", FRESH, LIMIT),
                crew: Crew::new(),
                times: Arc::default(),
            }
        }

        /// Asks what takes so long. The answer is the number of the question.
        async fn ask(&self, takes: Duration) -> Option<u32> {
            let times = Arc::clone(&self.times);
            let answer = self.asked.get(&self.crew, || async move {
                let number = times.fetch_add(1, Ordering::SeqCst);
                tokio::time::sleep(takes).await;
                number
            });
            answer.await.map(|answer| *answer)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn many_that_ask_at_once_ask_one_question() {
        let asker = Asker::new();

        let asking = (0..100).map(|_| asker.ask(Duration::from_secs(1)));
        assert_eq!(join_all(asking).await, vec![Some(0); 100]);
        assert_eq!(asker.times.load(Ordering::SeqCst), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_given_again_until_it_is_too_old() {
        let asker = Asker::new();

        assert_eq!(asker.ask(Duration::ZERO).await, Some(0));
        tokio::time::advance(FRESH - Duration::from_millis(1)).await;
        assert_eq!(asker.ask(Duration::ZERO).await, Some(0));
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(asker.ask(Duration::ZERO).await, Some(1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_question_that_takes_long_is_not_asked_again_meanwhile() {
        let asker = Asker::new();

        let takes = LIMIT * 7 / 2;
        for _ in 0..3 {
            assert_eq!(asker.ask(takes).await, None);
        }
        assert_eq!(asker.ask(takes).await, Some(0));
        assert_eq!(asker.times.load(Ordering::SeqCst), 1);
    }

    /// A large backlog takes long to count each time. A database that was quick and is late now is another matter.
    #[tokio::test(start_paused = true)]
    async fn a_slow_answer_is_fresh_for_longer_and_is_given_while_the_next_one_is_as_slow() {
        let asker = Asker::new();
        let slow = LIMIT * 2;
        assert_eq!(asker.ask(slow).await, None);
        tokio::time::sleep(slow * 9).await;
        assert_eq!(asker.ask(slow).await, Some(0));
        tokio::time::sleep(slow * 2).await;
        assert_eq!(asker.ask(slow).await, Some(0), "the one before");
        assert_eq!(asker.times.load(Ordering::SeqCst), 2);
        tokio::time::sleep(slow).await;
        assert_eq!(asker.ask(slow).await, Some(1));

        let quick = Asker::new();
        assert_eq!(quick.ask(Duration::ZERO).await, Some(0));
        tokio::time::sleep(FRESH).await;
        assert_eq!(quick.ask(LIMIT * 2).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_question_whose_task_is_gone_is_asked_again() {
        let asker = Asker::new();
        let none = asker.asked.get(&asker.crew, pending).await;
        assert!(none.is_none());
        asker.crew.abort();
        asker.crew.join(LIMIT).await;

        assert_eq!(asker.ask(Duration::ZERO).await, Some(0));
    }
}

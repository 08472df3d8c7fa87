//! Waiting for conditions, with deadlines, instead of sleeping and hoping.

use std::{
    fmt::Debug,
    panic::Location,
    time::{Duration, Instant},
};

use tokio::time;

/// The pauses between two checks grow from the first to the second. Most conditions are met within
/// milliseconds.
const FIRST_PAUSE: Duration = Duration::from_millis(2);
const LONGEST_PAUSE: Duration = Duration::from_millis(200);

/// The result of one check of a condition: met, or what was seen instead.
///
/// `Result<T, S>` tells most: `eventually` returns the `T`, or panics with the last `S`. `Option<T>` has no
/// text for the panic, and `bool` has no value either.
pub trait Check {
    /// The value that `eventually` returns.
    type Value;
    /// The value, or what was seen instead.
    fn seen(self) -> Result<Self::Value, String>;
}

impl Check for bool {
    type Value = ();

    fn seen(self) -> Result<(), String> {
        if self { Ok(()) } else { Err("false".into()) }
    }
}

impl<T> Check for Option<T> {
    type Value = T;

    fn seen(self) -> Result<T, String> {
        self.ok_or_else(|| "nothing".into())
    }
}

impl<T, S: Debug> Check for Result<T, S> {
    type Value = T;

    fn seen(self) -> Result<T, String> {
        self.map_err(|state| format!("{state:?}"))
    }
}

/// Checks again and again until the condition is met.
///
/// ```no_run
/// # use std::time::Duration;
/// # use final_tests::eventually;
/// # async fn rows_left() -> u32 { 0 }
/// # async fn example() {
/// eventually("the outbox is empty", Duration::from_secs(5), async || match rows_left().await {
///     0 => Ok(()),
///     rows => Err(format!("{rows} rows")),
/// })
/// .await;
/// # }
/// ```
///
/// # Panics
///
/// Panics if the condition is not met in time, with what was last seen. A check that hangs counts as not met.
#[track_caller]
pub fn eventually<L: Check>(
    what: &str,
    within: Duration,
    mut check: impl AsyncFnMut() -> L,
) -> impl Future<Output = L::Value> {
    let caller = Location::caller();
    async move {
        let start = Instant::now();
        let mut last = String::from("nothing yet, the first check has not returned");
        let mut pause = FIRST_PAUSE;
        while let Some(left) = within.checked_sub(start.elapsed()) {
            match time::timeout(left, check()).await.map(Check::seen) {
                Ok(Ok(value)) => return value,
                Ok(Err(state)) => last = state,
                Err(_) => last += " (a later check has not returned)",
            }
            time::sleep(pause).await;
            pause = LONGEST_PAUSE.min(pause * 2);
        }
        panic!("{caller}: within {within:?} not so: {what}; last seen: {last}");
    }
}

/// Checks again and again, and expects the condition to be met every time.
///
/// # Panics
///
/// Panics as soon as the condition is not met, with what was seen.
#[track_caller]
pub fn always<L: Check>(
    what: &str,
    during: Duration,
    mut check: impl AsyncFnMut() -> L,
) -> impl Future<Output = ()> {
    let caller = Location::caller();
    async move {
        let start = Instant::now();
        while start.elapsed() < during {
            if let Err(state) = check().await.seen() {
                let after = start.elapsed();
                panic!("{caller}: after {after:?} no longer so: {what}; seen: {state}");
            }
            time::sleep(LONGEST_PAUSE / 10).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(50);

    #[tokio::test]
    async fn the_value_is_returned_once_it_is_there() {
        let mut checks = 0;
        let value = eventually("three checks", Duration::from_secs(5), async || {
            checks += 1;
            (checks == 3).then_some(checks)
        })
        .await;
        assert_eq!(value, 3);
    }

    #[tokio::test]
    #[should_panic(expected = "the outbox is empty; last seen: \"7 rows\"")]
    async fn what_was_last_seen_is_in_the_panic() {
        eventually("the outbox is empty", SHORT, async || {
            Err::<(), _>("7 rows")
        })
        .await;
    }

    #[tokio::test]
    #[should_panic(expected = "has not returned")]
    async fn a_check_that_hangs_does_not_hang_the_test() {
        eventually("an answer", SHORT, async || {
            std::future::pending::<bool>().await
        })
        .await;
    }

    #[tokio::test]
    #[should_panic(expected = "no longer so: quiet")]
    async fn always_ends_with_the_first_exception() {
        let mut checks = 0;
        let check = async || {
            checks += 1;
            checks < 2
        };
        always("quiet", Duration::from_secs(5), check).await;
    }
}

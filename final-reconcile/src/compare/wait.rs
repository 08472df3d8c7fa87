//! Until when rows of a comparison wait for their next look.
//!
//! Input: `settle`, or where the mirror stands. State: where it stood last, and when it was asked. Output: whether a row's
//! time has come, or has gone by.

use std::time::{Duration, Instant};

use tokio::time::sleep;

use crate::{
    error::Reconciled,
    mirror::{Due, Pulse, Stand, basis::basis, due},
    pair::Order,
};

/// How often the mirror is asked where it stands.
const BEAT: Duration = Duration::from_millis(200);

/// For the pause between two beats, and for a heartbeat of whole seconds.
const SLACK: Duration = Duration::from_secs(2);

/// How long rows wait.
pub(super) struct Waits<'w> {
    pulse: Option<&'w Pulse>,
    settle: Duration,
    stand: Option<(Instant, Stand)>,
}

impl<'w> Waits<'w> {
    pub(super) fn new(pulse: Option<&'w Pulse>, settle: Duration) -> Self {
        Self {
            pulse,
            settle,
            stand: None,
        }
    }

    /// In which order both rows are read at a look.
    pub(super) fn order(&self) -> Order {
        Order::of(self.pulse.is_some())
    }

    /// Until when rows wait that were read just now.
    pub(super) async fn due(&self) -> Reconciled<Due> {
        due(self.pulse, self.settle).await
    }

    /// Asks the mirror where it stands, if it has not told just now. Or waits until it may be asked again.
    pub(super) async fn ask(&mut self, waits: bool) -> Reconciled<()> {
        let Some(pulse) = self.pulse else {
            return Ok(());
        };
        let asked = self.stand.as_ref().map(|(asked, _)| asked.elapsed());
        let left = asked.map(|asked| BEAT.saturating_sub(asked));
        match left.filter(|left| !left.is_zero()) {
            Some(_) if !waits => return Ok(()),
            Some(left) => sleep(left).await,
            None => {}
        }
        self.stand = Some((Instant::now(), pulse.look().await?));
        Ok(())
    }

    /// Whether a row's time has come.
    pub(super) fn is_over(&self, due: Option<Due>, since: Instant) -> bool {
        match due {
            None => false,
            Some(Due::After(settle)) => since.elapsed() >= settle,
            Some(Due::Passed(time)) => {
                let stand = self.stand.as_ref();
                let passed = stand.and_then(|(_, stand)| stand.passed());
                passed.is_some_and(|passed| passed >= time)
            }
        }
    }

    /// Whether the mirror has not passed a row in time. A row is due at `settle` behind the time at which it was read, so it
    /// waits for `settle` and the `limit`. If no more rows may wait, a mirror that is farther behind than it may be is not
    /// waited for.
    pub(super) fn is_given_up(&self, since: Instant, is_full: bool) -> bool {
        let (Some(pulse), Some((asked, stand))) = (self.pulse, &self.stand) else {
            return false;
        };
        let most = pulse
            .limit
            .saturating_add(self.settle)
            .saturating_add(SLACK);
        let was_asked_after = asked.saturating_duration_since(since) >= most;
        let is_far = || stand.lag().is_none_or(|lag| lag > pulse.limit);
        was_asked_after || (is_full && is_far())
    }

    /// What the judgement rests on.
    pub(super) fn basis(&self) -> String {
        let lag = self.stand.as_ref().and_then(|(_, stand)| stand.lag());
        basis(self.settle, self.pulse.map(Pulse::shown), lag)
    }

    /// Why rows were given up, if the mirror is too far behind.
    pub(super) fn trouble(&self, target: &str) -> Option<String> {
        let (_, stand) = self.stand.as_ref()?;
        stand.trouble(target, self.pulse?.limit)
    }
}

//! Where the mirror of a unit stands, and what is told of it.
//!
//! Input: its heartbeat. State: when it was told last. Output: the time that the mirror has passed; a trouble, if it is too
//! far behind.

use std::time::{Duration, Instant};

use super::{
    context::{Context, Ended},
    progress::MirrorStand,
};
use crate::mirror::{Pulse, Stand};

/// How often the stand is written down.
const WRITTEN: Duration = Duration::from_secs(5);

/// How long a trouble is told as it is. Its numbers change all the time.
const TOLD: Duration = Duration::from_secs(60);

/// What is told of a mirror.
#[derive(Default)]
pub(super) struct Beat {
    /// When the stand was written down.
    written: Option<Instant>,
    /// Whether it is written down that nothing is known.
    is_unknown: bool,
    trouble: Option<(Instant, String)>,
}

impl Beat {
    /// Until when suspects are due. None without a heartbeat; then the state's own clock counts.
    pub(super) async fn passed(&mut self, context: &Context) -> Result<Option<i64>, Ended> {
        let passed = self.look(context).await;
        if let Err(Ended::Failed(_)) = passed {
            self.unknown(context).await;
        }
        passed
    }

    async fn look(&mut self, context: &Context) -> Result<Option<i64>, Ended> {
        let tables = context.tables().await?;
        let Some(pulse) = &tables.pulse else {
            return Ok(None);
        };
        let stand = pulse.look().await?;
        self.tell(context, pulse, &stand).await?;
        Ok(Some(stand.passed().unwrap_or(i64::MIN)))
    }

    /// Nothing is known of the mirror: it has no heartbeat, or the heartbeat cannot be read. What was told before is not true
    /// any more.
    pub(super) async fn unknown(&mut self, context: &Context) {
        let unit = &context.unit;
        unit.vitals.mirror(&unit.name, None);
        if !self.is_unknown {
            self.written = None;
            // Without an answer it is written again at the next round.
            self.is_unknown = unit.store.mirror(&context.term, None).await.is_ok();
        }
    }

    /// Why rows are not judged.
    pub(super) fn trouble(&self) -> Option<String> {
        self.trouble.as_ref().map(|(_, why)| why.clone())
    }

    async fn tell(&mut self, context: &Context, pulse: &Pulse, stand: &Stand) -> Result<(), Ended> {
        let unit = &context.unit;
        let is_new = self.judge(&unit.name.target, pulse.limit, stand);
        unit.vitals.mirror(&unit.name, stand.lag());
        if !is_new
            && self
                .written
                .is_some_and(|written| written.elapsed() < WRITTEN)
        {
            return Ok(());
        }
        let written = MirrorStand {
            at: stand.shown(),
            lag: stand
                .lag()
                .map(|lag| u64::try_from(lag.as_millis()).unwrap_or(u64::MAX)),
        };
        let text = written.text();
        let told = unit.store.mirror(&context.term, Some(&text)).await;
        told.map_err(|error| context.state("writing the state of scans to", error))?;
        (self.written, self.is_unknown) = (Some(Instant::now()), false);
        Ok(())
    }

    /// Whether the mirror is too far behind. The lag of a mirror that brings changes in lots goes up and down. So a trouble is
    /// over once the lag is half of the limit. Says whether a trouble has begun or is over.
    fn judge(&mut self, target: &str, limit: Duration, stand: &Stand) -> bool {
        let before = self.trouble.take();
        let was_in_trouble = before.is_some();
        let limit = if was_in_trouble { limit / 2 } else { limit };
        self.trouble = stand.trouble(target, limit).map(|why| match before {
            Some((told, before)) if told.elapsed() < TOLD => (told, before),
            _ => (Instant::now(), why),
        });
        was_in_trouble != self.trouble.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mirror::stand::tests::stand;

    #[test]
    fn a_trouble_is_over_once_the_lag_is_half_of_the_limit() {
        let mut beat = Beat::default();
        let limit = Duration::from_secs(60);
        let troubles = [50, 61, 59, 61, 31, 29, 59, 61].map(|lag| {
            let at = 1_000_000_000;
            beat.judge("`b`", limit, &stand(Some(at), at + lag * 1_000_000));
            beat.trouble().is_some()
        });
        let expected = [false, true, true, true, true, false, false, true];
        assert_eq!(troubles, expected);
    }
}

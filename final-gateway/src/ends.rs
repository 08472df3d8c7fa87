//! How long each part has when a gateway stops.
//!
//! Input: how long the database has for an answer. State: none. Output: limits, each longer than what its part waits for.
//! So a message whose COMMIT is under way is answered before its connection is cut off.
//!
//! ```text
//!   a COMMIT < a request < a connection < all connections
//! ```

use std::time::Duration;

/// A COMMIT.
pub(crate) const COMMIT: Duration = final_core::database::ANSWER;

/// A request that is at work: it waits for a COMMIT, and its answer has to be written.
pub(crate) const REQUEST: Duration = COMMIT.saturating_add(Duration::from_secs(5));

/// A connection: it waits for its requests, and then for its client to read the last answer.
pub(crate) const CONNECTION: Duration = REQUEST.saturating_add(Duration::from_secs(2));

/// All connections, of which each has so long. `step` is what a step of a shutdown has.
pub(crate) fn all_connections(each: Duration, step: Duration) -> Duration {
    each.saturating_add(step.max(Duration::from_secs(1)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ListenLimits, http::HttpLimits};

    #[test]
    fn each_part_has_longer_than_what_it_waits_for() {
        let (listen, http) = (ListenLimits::default(), HttpLimits::default());
        for (each, step) in [(CONNECTION, 10), (CONNECTION, 0), (CONNECTION * 10, 1)] {
            let step = Duration::from_secs(step);
            assert!(all_connections(each, step) > each);
        }
        assert!(http.goodbye > COMMIT);
        assert!(listen.ending > http.goodbye);
        assert!(listen.ending > COMMIT);
    }
}

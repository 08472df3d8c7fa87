//! What RabbitMQ refuses to declare, so that it is not asked again and again.
//!
//! Input: refusals. State: the refused things, each with the time of its next try. Output: whether to ask, and
//! which refusals are news.
//!
//! RabbitMQ logs an error for each refusal. A refusal lasts as long as the permissions do, or the thing itself.
//!
//! ```text
//! unknown ── no permission ──▶ denied ── a reconnect, or 5 min, 10 min … 1 h ─▶ tried again
//!    └── other arguments ────▶ taken as it is, for as long as it exists
//! ```

use std::{
    collections::HashMap,
    sync::Mutex,
    time::{Duration, Instant},
};

use lapin::Error;

use super::wanted::Thing;
use crate::lock::lock;

const FIRST_PAUSE: Duration = Duration::from_secs(5 * 60);
const LONGEST_PAUSE: Duration = Duration::from_secs(60 * 60);

/// The things that RabbitMQ refused to declare.
#[derive(Debug, Default)]
pub(crate) struct Refused {
    things: Mutex<HashMap<Thing, RefusedThing>>,
}

#[derive(Debug)]
enum RefusedThing {
    /// It exists with other properties.
    Taken,
    Denied {
        error: Error,
        due: Instant,
        pause: Duration,
        told: bool,
    },
}

impl Refused {
    /// Notes that a thing exists with other properties, and is used as it is.
    pub(crate) fn take(&self, thing: Thing) {
        lock(&self.things).insert(thing, RefusedThing::Taken);
    }

    /// Notes that the user has no permission to declare this.
    pub(crate) fn deny(&self, thing: Thing, refusal: &Error) {
        let mut things = lock(&self.things);
        let (next, was_told) = match things.get(&thing) {
            Some(RefusedThing::Denied { pause, told, .. }) => (*pause * 2, *told),
            _ => (FIRST_PAUSE, false),
        };
        let pause = next.min(LONGEST_PAUSE);
        let denied = RefusedThing::Denied {
            error: refusal.clone(),
            due: Instant::now() + pause,
            pause,
            told: was_told,
        };
        things.insert(thing, denied);
    }

    /// Notes that a thing is declared, or that it does not exist any more.
    pub(crate) fn forget(&self, thing: &Thing) {
        lock(&self.things).remove(thing);
    }

    /// Notes a new connection: its user may have other permissions.
    pub(crate) fn reconnected(&self) {
        for thing in lock(&self.things).values_mut() {
            if let RefusedThing::Denied { due, .. } = thing {
                *due = Instant::now();
            }
        }
    }

    /// Whether a thing is known to exist with other properties.
    pub(crate) fn is_taken(&self, thing: &Thing) -> bool {
        matches!(lock(&self.things).get(thing), Some(RefusedThing::Taken))
    }

    /// Why not to ask for a thing now.
    pub(crate) fn denied(&self, thing: &Thing) -> Option<Error> {
        match lock(&self.things).get(thing) {
            Some(RefusedThing::Denied { error, due, .. }) if *due > Instant::now() => {
                Some(error.clone())
            }
            _ => None,
        }
    }

    /// Whether something was denied that is declared, and not bound. Then the rest is probably denied too.
    pub(crate) fn has_denials(&self) -> bool {
        let now = Instant::now();
        lock(&self.things).iter().any(|(thing, refused)| {
            let is_denied = matches!(refused, RefusedThing::Denied { due, .. } if *due > now);
            is_denied && !matches!(thing, Thing::Binding(..))
        })
    }

    /// One of the denials that were not told yet.
    pub(crate) fn news(&self) -> Option<Error> {
        let mut first = None;
        for thing in lock(&self.things).values_mut() {
            if let RefusedThing::Denied { error, told, .. } = thing
                && !std::mem::replace(told, true)
            {
                first.get_or_insert_with(|| error.clone());
            }
        }
        first
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn thing(name: &str) -> Thing {
        Thing::Exchange(Arc::from(name))
    }

    fn error() -> Error {
        std::io::Error::other("ACCESS_REFUSED").into()
    }

    #[test]
    fn a_denied_thing_is_told_once_and_asked_for_again_on_a_new_connection() {
        let refused = Refused::default();
        refused.deny(thing("a"), &error());
        refused.deny(thing("b"), &error());
        refused.take(thing("c"));

        assert!(refused.denied(&thing("a")).is_some());
        assert!(refused.denied(&thing("c")).is_none() && refused.is_taken(&thing("c")));
        assert!(refused.news().is_some() && refused.news().is_none());
        assert!(refused.has_denials());
        refused.reconnected();
        assert!(refused.denied(&thing("a")).is_none() && !refused.has_denials());
        refused.deny(thing("a"), &error());
        assert!(refused.news().is_none());
        refused.forget(&thing("a"));
        refused.deny(thing("a"), &error());
        assert!(refused.news().is_some());
    }

    #[test]
    fn pauses_grow_up_to_an_hour() {
        let refused = Refused::default();
        let pauses = std::iter::repeat_with(|| {
            let now = Instant::now();
            refused.deny(thing("a"), &error());
            match lock(&refused.things).get(&thing("a")) {
                Some(RefusedThing::Denied { due, .. }) => (*due - now).as_secs().div_ceil(60),
                _ => 0,
            }
        });
        let minutes: Vec<_> = pauses.take(6).collect();

        assert_eq!(minutes.first(), Some(&5));
        assert!(minutes.is_sorted());
        assert_eq!(minutes.last(), Some(&60));
    }
}

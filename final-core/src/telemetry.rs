//! A hook of the service where a message is staged, for the context of a trace.
//!
//! Input: the topic of a message, and the headers that its publisher has set. Output: more headers. The hook may be
//! wrong in any way: what it puts is checked as what a publisher sets, is bounded, and never makes a publish fail.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use crate::{
    names,
    runtime::{counter::Counter, crew::panic_text},
};

/// How many headers a hook can put into one message.
const MOST: usize = 16;

/// How large they are together, in bytes. The limit for a `traceparent`, a `tracestate` and some baggage is less.
const MOST_BYTES: usize = 8 * 1024;

/// Sees messages on their way, for a tracing system. [`Bus::with_telemetry`](crate::Bus::with_telemetry) takes it.
///
/// Each method has a default that does nothing, and more methods may come.
///
/// ```
/// use final_core::Telemetry;
///
/// struct Trace;
///
/// impl Telemetry for Trace {
///     fn inject(&self, _topic: &str, put: &mut dyn FnMut(&str, &str)) {
///         // The context of the request that publishes, from the tracing system.
///         put("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
///     }
/// }
/// # fn bus<DB: final_core::OutboxDatabase>(bus: final_core::Bus<DB>) -> final_core::Bus<DB> {
/// bus.with_telemetry(Trace)
/// # }
/// ```
pub trait Telemetry: Send + Sync + 'static {
    /// Puts headers into a message, by `put(name, value)`. By default none.
    ///
    /// It is called where a publish is awaited, in the task of its caller, so what is current there is the context
    /// of the caller: by [`TxBus::publish`](crate::TxBus::publish), [`Bus::publish`](crate::Bus::publish) and
    /// [`Bus::publish_in`](crate::Bus::publish_in). The relay sends what was put then.
    ///
    /// A header that the publisher has set wins over one of the same name here, in capitals or not. A header that a
    /// publisher could not set is left out, and so are those above 16, or above 8 KiB together. If it panics, the
    /// message goes without its headers.
    ///
    /// A message with headers is written by the longer of two INSERTs; one without any, key or policy by the
    /// shorter.
    fn inject(&self, topic: &str, put: &mut dyn FnMut(&str, &str)) {
        let _ = (topic, put);
    }
}

/// The hook of a bus, if it has one.
#[derive(Clone)]
pub(crate) struct Hook {
    telemetry: Option<Arc<dyn Telemetry>>,
    panics: Arc<Counter>,
    /// Whether a log line has told of something that is wrong with it.
    told: Arc<AtomicBool>,
}

impl Hook {
    pub(crate) fn new(telemetry: Option<Arc<dyn Telemetry>>, panics: Arc<Counter>) -> Self {
        Self {
            telemetry,
            panics,
            told: Arc::default(),
        }
    }

    /// The hook itself, for another bus.
    pub(crate) fn telemetry(&self) -> Option<Arc<dyn Telemetry>> {
        self.telemetry.clone()
    }

    /// Adds the headers of the hook to those of the publisher. `used` are the bytes that count beside the headers.
    pub(crate) fn inject(&self, topic: &str, headers: &mut Vec<(String, String)>, used: usize) {
        let Some(telemetry) = &self.telemetry else {
            return;
        };
        let own = headers.len();
        let size = |headers: &[(String, String)]| -> usize {
            let sizes = headers.iter().map(|(name, value)| name.len() + value.len());
            sizes.sum()
        };
        let used = used + size(headers);
        let mut bytes = 0;
        let mut refused: Option<String> = None;
        let mut put = |name: &str, value: &str| {
            if headers
                .iter()
                .any(|(other, _)| other.eq_ignore_ascii_case(name))
            {
                return;
            }
            let more = name.len().saturating_add(value.len());
            let all = bytes + more;
            if headers.len() - own >= MOST || all > MOST_BYTES {
                refused
                    .get_or_insert_with(|| "there are too many, or they are too large".to_owned());
                return;
            }
            match names::check_header(name, used + all) {
                Ok(()) => {
                    bytes = all;
                    headers.push((name.to_owned(), value.to_owned()));
                }
                Err(error) => {
                    refused.get_or_insert_with(|| error.to_string());
                }
            }
        };
        let ended = catch_unwind(AssertUnwindSafe(|| telemetry.inject(topic, &mut put)));
        if let Err(panic) = ended {
            headers.truncate(own);
            self.panics.add(1);
            if !self.told.swap(true, Ordering::Relaxed) {
                let panic = panic_text(panic.as_ref());
                tracing::error!(
                    target: "final::publish", topic, panic,
                    "the telemetry hook panicked; its headers are left out. This is logged once"
                );
            }
        } else if let Some(reason) = refused
            && !self.told.swap(true, Ordering::Relaxed)
        {
            tracing::warn!(
                target: "final::publish", topic, reason,
                "a header of the telemetry hook is left out. This is logged once"
            );
        }
    }
}

impl fmt::Debug for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hook")
            .field("is_set", &self.telemetry.is_some())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Puts these headers, and panics after them if asked to.
    struct Puts(Vec<(String, String)>, bool);

    impl Telemetry for Puts {
        fn inject(&self, _: &str, put: &mut dyn FnMut(&str, &str)) {
            self.0.iter().for_each(|(name, value)| put(name, value));
            assert!(!self.1, "a hook that panics, on purpose");
        }
    }

    fn pairs(headers: &[(&str, &str)]) -> Vec<(String, String)> {
        let pair = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        headers.iter().map(pair).collect()
    }

    /// The headers of a message whose publisher set `own`, and how often the hook panicked.
    fn injected(
        own: &[(&str, &str)],
        put: Vec<(String, String)>,
        panics: bool,
    ) -> (Vec<(String, String)>, u64) {
        let counter = Arc::new(Counter::default());
        let hook = Hook::new(Some(Arc::new(Puts(put, panics))), Arc::clone(&counter));
        let mut headers = pairs(own);
        hook.inject("placed", &mut headers, 0);
        (headers, counter.get())
    }

    #[test]
    fn a_header_of_the_publisher_wins() {
        let put = pairs(&[("traceparent", "hook"), ("tracestate", "hook")]);
        let (headers, _) = injected(&[("Traceparent", "own")], put, false);

        assert_eq!(
            headers,
            pairs(&[("Traceparent", "own"), ("tracestate", "hook")])
        );
    }

    #[test]
    fn a_hook_that_panics_leaves_the_publishers_headers() {
        let put = pairs(&[("traceparent", "hook")]);
        let (headers, panics) = injected(&[("tenant", "acme")], put, true);

        assert_eq!((headers, panics), (pairs(&[("tenant", "acme")]), 1));
    }

    #[test]
    fn a_hook_cannot_put_very_many_or_very_large_headers() {
        let many = (0..10_000)
            .map(|n| (format!("h{n}"), String::new()))
            .collect();
        assert_eq!(injected(&[], many, false).0.len(), MOST);

        let large = vec![
            ("a".to_owned(), "x".repeat(MOST_BYTES)),
            ("b".to_owned(), "y".to_owned()),
        ];
        assert_eq!(injected(&[], large, false).0, pairs(&[("b", "y")]));
    }

    #[test]
    fn a_hook_does_not_use_up_what_the_publisher_may_have() {
        let own = "x".repeat(64 * 1024 - 20);
        let put = pairs(&[("traceparent", "0123456789"), ("b", "y")]);
        let (headers, _) = injected(&[("own", &own)], put, false);

        assert_eq!(headers, pairs(&[("own", &own), ("b", "y")]));
    }

    proptest! {
        /// Whatever a hook puts, the message can be published as if there were no hook.
        #[test]
        fn what_is_put_is_what_a_publisher_could_set(
            put in proptest::collection::vec(("(x-)?(final-)?[\\PC\\x00-\\x1f]{0,20}|CC|BCC|x-death", ".{0,40}"), 0..30)
        ) {
            let (headers, _) = injected(&[("tenant", "acme")], put, false);
            prop_assert_eq!(&headers[0], &("tenant".to_owned(), "acme".to_owned()));
            let mut total = 0;
            for (name, value) in &headers {
                total += name.len() + value.len();
                prop_assert!(names::check_header(name, total).is_ok(), "{:?}", name);
            }
        }
    }
}

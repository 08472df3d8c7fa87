//! Whose a header is, by its name.
//!
//! Input: a name. Output: its [`HeaderOwner`]. The list of the broker's names stands here only: what may be
//! published, what handlers see, and what a dead letter keeps all depend on it.

/// Whose a header is, by its name in any case.
///
/// ```
/// # use final_core::received::HeaderOwner;
/// assert_eq!(HeaderOwner::of("x-request-id"), HeaderOwner::Producer);
/// assert_eq!(HeaderOwner::of("X-Death"), HeaderOwner::Broker);
/// assert_eq!(HeaderOwner::of("x-final-key"), HeaderOwner::Bus);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum HeaderOwner {
    /// RabbitMQ writes it on delivery, or routes by it (`CC`, `BCC`).
    Broker,
    /// The producer's own. A handler sees it in [`Headers`](crate::Headers).
    Producer,
    /// The bus writes it: `x-final-…`.
    Bus,
}

impl HeaderOwner {
    /// The owner of a header with this name.
    pub fn of(name: &str) -> Self {
        const BROKERS: [&str; 6] = [
            "cc",
            "bcc",
            "x-death",
            "x-delivery-count",
            // How often a consumer of a quorum queue has had the message, since RabbitMQ 4.
            "x-acquired-count",
            // The place in a stream.
            "x-stream-offset",
        ];
        const BEGIN_BROKERS: [&str; 2] = ["x-first-death-", "x-last-death-"];
        let begins = |start: &str| {
            let name = name.get(..start.len());
            name.is_some_and(|name| name.eq_ignore_ascii_case(start))
        };
        if begins("x-final-") {
            Self::Bus
        } else if BROKERS.iter().any(|one| name.eq_ignore_ascii_case(one))
            || BEGIN_BROKERS.into_iter().any(begins)
        {
            Self::Broker
        } else {
            Self::Producer
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_the_bus_and_the_broker_are_not_the_producers() {
        #[track_caller]
        fn check(owner: HeaderOwner, names: &[&str]) {
            for name in names {
                assert_eq!(HeaderOwner::of(name), owner, "{name}");
                assert_eq!(HeaderOwner::of(&name.to_uppercase()), owner, "{name}");
            }
        }

        check(
            HeaderOwner::Producer,
            &[
                "",
                "x",
                "x-",
                "x-request-id",
                "X-B3-TraceId",
                "x-datadog-trace-id",
                "x-tenant",
                "x-finally",
                "x-deaths",
                "x-retry-count",
                "traceparent",
                "ccc",
                "x-größe",
                "✓✓✓✓",
            ],
        );
        check(
            HeaderOwner::Broker,
            &[
                "cc",
                "bcc",
                "x-death",
                "x-first-death-reason",
                "x-last-death-queue",
                "x-delivery-count",
                "x-acquired-count",
                "x-stream-offset",
            ],
        );
        check(HeaderOwner::Bus, &["x-final-", "x-final-msg-topic"]);
    }
}

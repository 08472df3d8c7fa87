//! What a refusal of RabbitMQ means: whether it passes by itself, and what an operator does about it.
//!
//! Input: the reply code and text of the server. Output: a kind for the caller of `start`, and an advice.
//!
//! RabbitMQ has one code for several causes, so the text decides where the code does not. The texts are those
//! of RabbitMQ 3.10 to 4.3. A text that is not known is taken for a fault of the configuration only where
//! its code says so. Names of queues stand in these texts, so only words that no name has by accident are
//! looked for.
//!
//! ```text
//! passes (`start` goes on): a limit is reached, a node or virtual host is down, the queue is taken,
//!                           a token has expired, the broker ends connections
//! error of `start`:         login, virtual host, permission, other arguments, a value that was not agreed
//! ```

use final_core::broker::BrokerErrorKind;

use crate::code;

/// What a refusal means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) kind: BrokerErrorKind,
    /// What to do. Empty if the server's text says it already.
    pub(crate) advice: &'static str,
}

impl Refusal {
    /// Reads a reply of the server.
    pub(crate) fn of(reply: u16, text: &str) -> Self {
        let has = |words: &str| text.contains(words);
        let passes = |advice| Self {
            kind: BrokerErrorKind::Unreachable,
            advice,
        };
        let fault = |advice| Self {
            kind: BrokerErrorKind::Refused,
            advice,
        };
        match reply {
            code::NOT_FOUND if has("home node") => {
                passes("the queue works again when its node is back")
            }
            // The number of connections, channels, queues or exchanges, of a virtual host, user or node.
            code::NOT_ALLOWED if has("number of channels") => passes(
                "raise this limit in RabbitMQ, or open fewer channels by `Amqp::publish_channels` and \
                 `Options::num_subscribers`",
            ),
            code::NOT_ALLOWED | code::PRECONDITION_FAILED if is_about_a_limit(text) => {
                passes("raise this limit in RabbitMQ, or close or delete what is not needed")
            }
            _ if has("token has expired") => passes(
                "the token's time is over; `Amqp::credentials` gives a new one to each connection",
            ),
            _ if has("vhost") && (has("is down") || has("not running") || has("being deleted")) => {
                passes("the virtual host does not run; RabbitMQ's log says why")
            }
            code::NOT_ALLOWED if has("vhost") && has("not found") => fault(
                "create the virtual host, or correct the name in the URL (`/%2f` is the one named `/`)",
            ),
            code::NOT_ALLOWED | code::ACCESS_REFUSED if has("access to vhost") => {
                fault("give the user permissions on this virtual host")
            }
            code::NOT_ALLOWED if has("negotiated") => fault(
                "correct this value in the URL's parameters; RabbitMQ 4.3 takes no `frame_max` below 8192",
            ),
            code::NOT_ALLOWED => fault("RabbitMQ's log has more about this"),
            code::ACCESS_REFUSED if has("in exclusive use") => {
                passes("another consumer has the queue for itself")
            }
            code::ACCESS_REFUSED if has("access to") => fault(
                "give the user the permissions `configure`, `write` and `read` on the queues and \
                 exchanges of the service and its topics",
            ),
            code::ACCESS_REFUSED => fault(
                "check user and password; RabbitMQ lets the user `guest` in from its own machine only",
            ),
            code::COMMAND_INVALID if has("mechanism") => {
                fault("correct `auth_mechanism` in the URL, or enable the mechanism in RabbitMQ")
            }
            code::NOT_FOUND if has("stopped by supervisor") || has("failed to restart") => passes(
                "if its node is down, the queue works again when its node is back; if it has crashed, restart its \
                 virtual host or node, or delete the queue",
            ),
            // Something was deleted since it was declared, or moves to another node.
            code::NOT_FOUND => passes(""),
            code::RESOURCE_LOCKED => passes(
                "another connection has the queue for itself; it has to end, or the queue needs another \
                 name",
            ),
            code::PRECONDITION_FAILED => Self {
                kind: BrokerErrorKind::Mismatch,
                advice: "",
            },
            _ => passes(""),
        }
    }

    /// The advice as the end of a sentence.
    pub(crate) fn ending(self) -> String {
        if self.advice.is_empty() {
            String::new()
        } else {
            format!("; {}", self.advice)
        }
    }
}

/// Whether a queue or exchange of this name exists with other arguments.
pub(crate) fn is_inequivalent(text: &str) -> bool {
    text.contains("inequivalent arg")
}

fn is_about_a_limit(text: &str) -> bool {
    text.contains("limit") && text.contains("is reached")
}

#[cfg(test)]
mod tests {
    use BrokerErrorKind::{Mismatch, Refused, Unreachable};

    use super::*;

    #[test]
    fn what_passes_is_told_from_what_has_to_be_changed() {
        for (reply, text, kind, words) in [
            (
                404,
                "NOT_FOUND - home node 'rabbit@b' of durable queue 'shop' in vhost '/' is down or \
                 inaccessible",
                Unreachable,
                "its node is back",
            ),
            (
                404,
                "NOT_FOUND - queue 'shop' in vhost '/' process is stopped by supervisor",
                Unreachable,
                "crashed",
            ),
            (
                404,
                "NOT_FOUND - queue 'shop' in vhost '/' has crashed and failed to restart",
                Unreachable,
                "crashed",
            ),
            (
                404,
                "NOT_FOUND - failed to perform operation on queue 'shop' in vhost '/' due to timeout",
                Unreachable,
                "",
            ),
            (
                404,
                "NOT_FOUND - no queue 'shop' in vhost '/'",
                Unreachable,
                "",
            ),
            (
                530,
                "NOT_ALLOWED - access to vhost '/' refused for user 'mary': connection limit (1) is \
                 reached",
                Unreachable,
                "raise this limit",
            ),
            (
                530,
                "NOT_ALLOWED - connection refused for user 'mary': user connection limit (1) is reached",
                Unreachable,
                "raise this limit",
            ),
            (
                530,
                "NOT_ALLOWED - connection refused: node connection limit (10) is reached",
                Unreachable,
                "raise this limit",
            ),
            (
                530,
                "NOT_ALLOWED - number of channels opened for user 'mary' has reached the maximum \
                 allowed user limit of (2)",
                Unreachable,
                "publish_channels",
            ),
            (
                530,
                "NOT_ALLOWED - number of channels opened (2) has reached the negotiated channel_max (2)",
                Unreachable,
                "publish_channels",
            ),
            (
                406,
                "PRECONDITION_FAILED - cannot declare queue 'shop': queue limit in vhost '/' (1) is \
                 reached",
                Unreachable,
                "raise this limit",
            ),
            (
                406,
                "PRECONDITION_FAILED - cannot declare exchange 'placed': exchange limit of 9 is reached",
                Unreachable,
                "raise this limit",
            ),
            (
                541,
                "INTERNAL_ERROR - access to vhost '/' refused for user 'mary': vhost '/' is down",
                Unreachable,
                "does not run",
            ),
            (
                320,
                "CONNECTION_FORCED - broker forced connection closure",
                Unreachable,
                "",
            ),
            (
                403,
                "ACCESS_REFUSED - Provided JWT token has expired at timestamp 1690372100",
                Unreachable,
                "Amqp::credentials",
            ),
            (
                405,
                "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue 'shop' in vhost '/'",
                Unreachable,
                "another connection",
            ),
            (
                403,
                "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN. For details \
                 see the broker logfile.",
                Refused,
                "user and password",
            ),
            (
                530,
                "NOT_ALLOWED - vhost nowhere not found",
                Refused,
                "`/%2f`",
            ),
            (
                530,
                "NOT_ALLOWED - access to vhost 'shop' refused for user 'mary'",
                Refused,
                "on this virtual host",
            ),
            (
                403,
                "ACCESS_REFUSED - access to queue 'shop_dlx' in vhost '/' refused for user 'mary'",
                Refused,
                "`configure`",
            ),
            (
                403,
                "ACCESS_REFUSED - configure access to queue 'shop' in vhost '/' refused for user 'mary'",
                Refused,
                "`configure`",
            ),
            (
                530,
                "NOT_ALLOWED - negotiated frame_max = 64 is lower than the minimum allowed value (4096)",
                Refused,
                "`frame_max`",
            ),
            (
                503,
                "COMMAND_INVALID - unknown authentication mechanism 'EXTERNAL'",
                Refused,
                "`auth_mechanism`",
            ),
            (
                406,
                "PRECONDITION_FAILED - inequivalent arg 'x-queue-type' for queue 'limit.reached' in \
                 vhost '/'",
                Mismatch,
                "",
            ),
            (
                403,
                "ACCESS_REFUSED - access to queue 'orders.expired' in vhost '/' refused for user 'mary'",
                Refused,
                "`configure`",
            ),
        ] {
            let refusal = Refusal::of(reply, text);

            assert_eq!(refusal.kind, kind, "{text}");
            assert!(refusal.advice.contains(words), "{text}: {}", refusal.advice);
            assert_eq!(refusal.advice.is_empty(), words.is_empty(), "{text}");
        }
    }
}

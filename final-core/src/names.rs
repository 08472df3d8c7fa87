//! Names that come from the user and go into SQL, AMQP and logs.
//!
//! Services, topics and headers are checked here once; table, index and lock names are made from a checked
//! [`ServiceName`] only.

use std::sync::Arc;

use crate::{Error, received::HeaderOwner};

/// A checked service name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServiceName(Arc<str>);

impl ServiceName {
    const MAX: usize = 40;

    /// Checks a name: `[a-z][a-z0-9_-]{0,39}`, not ending in `_dlx`.
    pub(crate) fn new(name: &str) -> Result<Self, Error> {
        let reason = if name.is_empty() {
            "it is empty"
        } else if name.len() > Self::MAX {
            "it is longer than 40 characters"
        } else if !name.starts_with(|c: char| c.is_ascii_lowercase()) {
            "it does not start with a lower-case letter"
        } else if !name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-')
        {
            "it has a character outside `a-z`, `0-9`, `_` and `-`"
        } else if name.ends_with("_dlx") {
            "names ending in `_dlx` are those of dead-letter queues"
        } else {
            return Ok(Self(name.into()));
        };
        Err(Error::InvalidServiceName {
            name: shorten(name),
            reason,
        })
    }

    /// The name of a group of the log. A program that opens the log without a bus gives its group any name. A group
    /// that cannot be a service has no tables of its own.
    pub(crate) fn of_group(name: &str) -> Self {
        Self(name.into())
    }

    /// The name as a part of the names of tables: for a group of the log that can be no service, one that no service
    /// can have, because it is too long.
    fn in_tables(&self) -> String {
        match Self::new(&self.0) {
            Ok(name) => name.0.replace('-', "_"),
            Err(_) => format!(
                "group_of_the_log_without_tables_{:016x}",
                fnv(self.0.as_bytes())
            ),
        }
    }

    /// The name as given.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn shared(&self) -> Arc<str> {
        Arc::clone(&self.0)
    }

    /// The outbox table's name, without schema: `final_<service>_outbox`, `-` written as `_`.
    pub(crate) fn table(&self) -> String {
        format!("final_{}_outbox", self.in_tables())
    }

    /// The table of the claims on its records.
    pub(crate) fn claims_table(&self) -> String {
        format!("final_{}_claims", self.in_tables())
    }

    /// The name of the table of suspects beside the outbox.
    pub(crate) fn suspects_table(&self) -> String {
        format!("final_{}_suspects", self.in_tables())
    }

    /// The name of the table of the dead letters that were collected from the broker.
    ///
    /// A database may hold the log, whose own table of dead letters is `final_log_dead`. So that of a service named
    /// `log` has another name.
    pub(crate) fn letters_table(&self) -> String {
        match &*self.0 {
            "log" => "final_log_dead_collected".to_owned(),
            _ => format!("final_{}_dead", self.in_tables()),
        }
    }

    /// A short name for an index or lock, the same for the same service and purpose.
    ///
    /// PostgreSQL cuts names at 63 bytes, so the service is hashed (FNV-1a, 64 bits).
    pub(crate) fn short(&self, purpose: &str) -> String {
        format!("final_{:016x}_{purpose}", fnv(self.table().as_bytes()))
    }
}

/// FNV-1a of 64 bits.
pub(crate) fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// Checks a topic that is published to or subscribed: 1 to 255 bytes, no control characters, not
/// `amq.*` (RabbitMQ's own).
pub(crate) fn check_topic(topic: &str) -> Result<(), Error> {
    let reason = if topic.trim().is_empty() {
        "it is empty or blank"
    } else if topic.len() > 255 {
        "it is longer than 255 bytes"
    } else if topic.chars().any(char::is_control) {
        "it contains a control character"
    } else if topic.starts_with("amq.") {
        "names starting with `amq.` are reserved by RabbitMQ"
    } else {
        return Ok(());
    };
    Err(Error::InvalidTopic {
        topic: shorten(topic),
        reason,
    })
}

/// Checks a topic that is subscribed: also no wildcards.
pub(crate) fn check_subscription(topic: &str) -> Result<(), Error> {
    check_topic(topic)?;
    if topic.contains(['*', '#']) {
        let reason = "wildcards are not supported; subscribe each topic by its name";
        return Err(Error::InvalidTopic {
            topic: shorten(topic),
            reason,
        });
    }
    Ok(())
}

/// All headers and the key of a message together, in bytes. RabbitMQ closes the connection when a
/// header frame exceeds its 128 KiB.
const MAX_HEADERS: usize = 64 * 1024;

/// Checks a header's name.
pub(crate) fn check_header(name: &str, total: usize) -> Result<(), Error> {
    let owner = HeaderOwner::of(name);
    let reason = if name.is_empty() {
        "its name is empty"
    } else if name.len() > 255 {
        "its name is longer than 255 bytes"
    } else if name.chars().any(char::is_control) {
        "its name contains a control character"
    } else if owner == HeaderOwner::Bus {
        "names starting with `x-final-` belong to the bus; choose another name"
    } else if owner == HeaderOwner::Broker {
        "RabbitMQ writes this header or routes by it (`CC`, `BCC`, `x-death`, `x-delivery-count` and the \
         like); choose another name"
    } else if total > MAX_HEADERS {
        "all headers together are larger than 64 KiB; put large data into the payload"
    } else {
        return Ok(());
    };
    Err(Error::InvalidHeader {
        name: shorten(name),
        reason,
    })
}

/// Checks what a message says its payload is.
pub(crate) fn check_content_type(topic: &str, content_type: &str) -> Result<(), Error> {
    let reason = if content_type.len() > 255 {
        "its content type is longer than 255 bytes"
    } else if content_type.chars().any(char::is_control) {
        "its content type contains a control character"
    } else {
        return Ok(());
    };
    Err(Error::InvalidPolicy {
        topic: shorten(topic),
        reason,
    })
}

/// Shortens a long name, so that an error does not repeat it in full.
fn shorten(text: &str) -> String {
    const KEEP: usize = 64;
    match text.char_indices().nth(KEEP) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// What is made of a service's name goes into SQL as it is.
        #[test]
        fn only_plain_names_are_made_of_a_service_name(
            name in prop_oneof!["[a-z0-9_-]{0,44}", ".{0,50}", "[a-z]['\"`;\\\\ a-z\\x00]{0,9}"]
        ) {
            let Ok(service) = ServiceName::new(&name) else { return Ok(()) };
            let tables = [service.table(), service.letters_table()];
            for made in tables.into_iter().chain([service.short("parked"), service.as_str().replace('-', "_")]) {
                prop_assert!(made.starts_with(|c: char| c.is_ascii_lowercase()), "{made:?}");
                prop_assert!(made.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'));
                // PostgreSQL cuts what is longer.
                prop_assert!(made.len() <= 63, "{made:?}");
            }
        }

        #[test]
        fn an_error_about_a_name_is_short(name in "[A-Z']{1,3000}") {
            let error = ServiceName::new(&name).unwrap_err().to_string();
            prop_assert!(error.len() < 500, "{error}");
            let error = check_topic(&format!("{name}\0")).unwrap_err().to_string();
            prop_assert!(error.len() < 500, "{error}");
        }
    }

    #[test]
    fn no_services_letters_are_in_the_table_of_the_log() {
        let letters = |name| ServiceName::new(name).unwrap().letters_table();

        assert_eq!(letters("my-shop"), "final_my_shop_dead");
        assert_ne!(letters("log"), "final_log_dead");
    }

    /// They stand in tables that earlier releases made, and PostgreSQL cuts names at 63 bytes.
    #[test]
    fn names_of_indexes_are_short_and_never_change() {
        let shop = ServiceName::new("my-shop").unwrap();
        assert_eq!(shop.short("due"), "final_ec04b06cad4888b9_due");

        let longest = ServiceName::new(&"s".repeat(ServiceName::MAX)).unwrap();
        assert_eq!(longest.short("due").len(), shop.short("due").len());
    }
}

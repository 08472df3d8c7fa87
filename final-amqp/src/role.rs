//! What a connection is for, and whether RabbitMQ grants it what it needs.
//!
//! Input: a new connection with the limits that were agreed. Output: the number of channels it can have, a warning
//! about what is short, or an error where it is too little.

use final_core::broker::{BrokerError, BrokerErrorKind};
use lapin::Connection;

use crate::options::Settings;

/// A heartbeat below this ends connections on machines that are only busy. It is told.
const SHORT_HEARTBEAT: u16 = 5;

/// What a connection is for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Role {
    /// Part of its name in RabbitMQ's list of connections.
    pub(crate) name: &'static str,
    /// How many channels of its own work it has.
    pub(crate) channels: usize,
    /// How many more it opens, for declarations and dead letters.
    pub(crate) besides: usize,
}

impl Role {
    pub(crate) const DOCTOR: Self = Self::of("doctor", 1, 0);
    pub(crate) const QUARANTINE: Self = Self::of("quarantine", 1, 0);
    pub(crate) const TAIL: Self = Self::of("tail", 1, 0);
    pub(crate) const DEAD_LETTER_QUARANTINE: Self = Self::of("dead-letter quarantine", 1, 0);

    /// Besides its own channel it declares the queue of the dead letters.
    pub(crate) const COLLECTOR: Self = Self::of("collector", 1, 1);

    pub(crate) fn publisher(settings: &Settings) -> Self {
        Self::of("publisher", settings.publish_channels, 2)
    }

    pub(crate) fn subscriber(channels: usize) -> Self {
        Self::of("subscriber", channels, 1)
    }

    const fn of(name: &'static str, channels: usize, besides: usize) -> Self {
        Self {
            name,
            channels,
            besides,
        }
    }

    /// How many channels of its own work this connection can have.
    pub(crate) fn granted(self, connection: &Connection) -> usize {
        let all = usize::from(connection.configuration().channel_max());
        all.saturating_sub(self.besides).clamp(1, self.channels)
    }

    /// Fails if these limits are too low to work at all. Tells what else is short.
    pub(crate) fn check(
        self,
        settings: &Settings,
        service: &str,
        connection: &Connection,
    ) -> Result<(), BrokerError> {
        let agreed = connection.configuration();
        let channels = usize::from(agreed.channel_max());
        let least = 1 + self.besides;
        if channels < least {
            let text = format!(
                "RabbitMQ allows {channels} channel(s) for each connection, and the {} needs {least}; \
                 raise `channel_max` in RabbitMQ's configuration",
                self.name
            );
            return Err(BrokerError::new(BrokerErrorKind::Unreachable, text));
        }
        let short = |setting, granted, wanted| {
            if settings
                .shortages
                .is_new(service, self.name, setting, granted)
            {
                tracing::warn!(
                    target: "final::amqp",
                    service,
                    role = self.name,
                    setting,
                    granted,
                    wanted,
                    "RabbitMQ grants less than was asked for, and the bus goes on with that; raise this setting in RabbitMQ's configuration"
                );
            }
        };
        let wanted = self.channels + self.besides;
        if channels < wanted {
            short("channel_max", channels, wanted);
        }
        let asked = settings.uri.query.heartbeat.unwrap_or_default();
        if agreed.heartbeat() < asked.min(SHORT_HEARTBEAT) {
            short("heartbeat", agreed.heartbeat().into(), asked.into());
        }
        Ok(())
    }
}

/// Fails if the URL itself asks for too few channels.
pub(crate) fn check_url(settings: &Settings) -> Result<(), BrokerError> {
    let least = 1 + Role::publisher(settings).besides;
    match settings.uri.query.channel_max {
        Some(channels) if usize::from(channels) < least => {
            let text = format!(
                "the broker's URL cannot be used: its parameter `channel_max` has to be {least} or more"
            );
            Err(BrokerError::new(BrokerErrorKind::Invalid, text))
        }
        _ => Ok(()),
    }
}

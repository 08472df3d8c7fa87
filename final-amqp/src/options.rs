//! `Amqp`: which RabbitMQ, and how to use it.

use std::{fmt, sync::Arc, time::Duration};

use final_core::Error;
use lapin::{
    tcp::{OwnedIdentity, OwnedTLSConfig},
    uri::AMQPUri,
};

use crate::uri;

/// The longest time anything may be given: beyond all clocks a deadline cannot be reckoned.
const A_DAY: Duration = Duration::from_secs(24 * 3600);

/// A RabbitMQ, as [`Bus::new`](final_core::Bus::new) takes it.
///
/// ```
/// use final_amqp::{Amqp, QueueKind};
///
/// let amqp = Amqp::new("amqp://guest:guest@127.0.0.1:5672/%2f")?
///     .queue_kind(QueueKind::Classic)
///     .prefetch(50);
/// # Ok::<_, final_core::Error>(())
/// ```
///
/// Making one connects to nothing; starting the bus does. Its `Debug` shows no user or password.
#[derive(Clone)]
pub struct Amqp {
    pub(crate) settings: Arc<Settings>,
}

/// Which kind of queue a service's messages wait in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum QueueKind {
    /// Replicated and always on disk. The default.
    #[default]
    Quorum,
    /// One node only. Needed where Go services of the same name share the queue, and for queues that
    /// were declared as classic ones.
    Classic,
}

/// Everything that can be set, with its default.
#[derive(Clone)]
pub(crate) struct Settings {
    pub(crate) uri: AMQPUri,
    pub(crate) tls: OwnedTLSConfig,
    pub(crate) queue_kind: QueueKind,
    pub(crate) queue: Option<String>,
    pub(crate) prefetch: u16,
    pub(crate) connection_name: Option<String>,
    pub(crate) publish_channels: usize,
    pub(crate) confirm_timeout: Duration,
    pub(crate) connect_timeout: Duration,
}

impl Amqp {
    /// Names a RabbitMQ by its URL: `amqp://user:password@host:port/vhost`, or `amqps://` for TLS.
    ///
    /// # Errors
    ///
    /// Fails if the URL cannot be read. The error does not repeat it.
    pub fn new(url: impl AsRef<str>) -> Result<Self, Error> {
        let mut uri = uri::parse(url.as_ref())?;
        uri.query.heartbeat.get_or_insert(10);
        Ok(Self {
            settings: Arc::new(Settings {
                uri,
                tls: OwnedTLSConfig::default(),
                queue_kind: QueueKind::default(),
                queue: None,
                prefetch: 300,
                connection_name: None,
                publish_channels: 2,
                confirm_timeout: Duration::from_secs(30),
                connect_timeout: Duration::from_secs(10),
            }),
        })
    }

    /// Sets which kind of queue the service and its dead letters wait in; quorum otherwise.
    pub fn queue_kind(self, kind: QueueKind) -> Self {
        self.with(|settings| settings.queue_kind = kind)
    }

    /// Consumes from a queue of this name; the service's name otherwise.
    ///
    /// For queues that exist under a name our rule for services forbids. Its dead letters are named
    /// after it: `<name>_exchange_dlx` and `<name>_dlx`.
    pub fn queue(self, name: impl Into<String>) -> Self {
        self.with(|settings| settings.queue = Some(name.into()))
    }

    /// Sets how many messages the broker sends ahead of their settlement, over all consumers; 300
    /// otherwise.
    ///
    /// This only buffers: how many handlers run is the bus's `concurrency`. Each consumer holds an
    /// equal share, at least one.
    pub fn prefetch(self, messages: u16) -> Self {
        self.with(|settings| settings.prefetch = messages.max(1))
    }

    /// Sets the interval at which a dead connection is noticed; 10 s otherwise. At least 1 s.
    pub fn heartbeat(self, interval: Duration) -> Self {
        let seconds = u16::try_from(interval.as_secs()).unwrap_or(u16::MAX);
        self.with(|settings| settings.uri.query.heartbeat = Some(seconds.max(1)))
    }

    /// Sets the name RabbitMQ shows for our connections; the service's name otherwise.
    pub fn connection_name(self, name: impl Into<String>) -> Self {
        self.with(|settings| settings.connection_name = Some(name.into()))
    }

    /// Trusts this certificate authority too, for `amqps://`: one or more certificates in PEM.
    pub fn ca_certificate(self, pem: impl AsRef<[u8]>) -> Self {
        let pem = String::from_utf8_lossy(pem.as_ref()).into_owned();
        self.with(|settings| settings.tls.cert_chain = Some(pem))
    }

    /// Shows this certificate to the broker: certificate and PKCS#8 key, each in PEM.
    pub fn client_certificate(self, pem: impl Into<Vec<u8>>, key: impl Into<Vec<u8>>) -> Self {
        let (pem, key) = (pem.into(), key.into());
        self.with(|settings| settings.tls.identity = Some(OwnedIdentity::PKCS8 { pem, key }))
    }

    /// Shows this certificate to the broker: a PKCS#12 archive (`.p12`, `.pfx`) and its password.
    pub fn client_pkcs12(self, der: impl Into<Vec<u8>>, password: impl Into<String>) -> Self {
        let (der, password) = (der.into(), password.into());
        self.with(|settings| settings.tls.identity = Some(OwnedIdentity::PKCS12 { der, password }))
    }

    /// Sets over how many channels messages are published; 2 otherwise, 1 to 64.
    pub fn publish_channels(self, channels: usize) -> Self {
        self.with(|settings| settings.publish_channels = channels.clamp(1, 64))
    }

    /// Sets how long the broker may take to confirm a message; 30 s otherwise.
    ///
    /// A quorum queue without a majority answers nothing at all; its topic is then parked. At most a day.
    pub fn confirm_timeout(self, limit: Duration) -> Self {
        self.with(|settings| settings.confirm_timeout = limit.min(A_DAY))
    }

    /// Sets how long one attempt to connect may take; 10 s otherwise. At most a day.
    pub fn connect_timeout(self, limit: Duration) -> Self {
        self.with(|settings| settings.connect_timeout = limit.min(A_DAY))
    }

    fn with(mut self, set: impl FnOnce(&mut Settings)) -> Self {
        set(Arc::make_mut(&mut self.settings));
        self
    }
}

impl fmt::Debug for Amqp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.settings.fmt(f)
    }
}

/// By hand: user, password and keys stay out of logs.
impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Amqp")
            .field("broker", &uri::address(&self.uri))
            .field("vhost", &self.uri.vhost)
            .field("queue_kind", &self.queue_kind)
            .field("prefetch", &self.prefetch)
            .field("publish_channels", &self.publish_channels)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_no_secret() {
        let amqp = Amqp::new("amqps://mary:s3cret@mq.example/%2f")
            .unwrap()
            .client_pkcs12(b"s3cret".to_vec(), "s3cret")
            .client_certificate("s3cret", "s3cret");
        let shown = format!("{amqp:?}");

        assert!(shown.contains("mq.example:5671"), "{shown}");
        assert!(
            !shown.contains("s3cret") && !shown.contains("mary"),
            "{shown}"
        );
    }

    #[test]
    fn takes_any_kind_of_string() {
        let url = String::from("amqp://localhost/%2f");

        assert!(Amqp::new(&url).is_ok());
        assert!(Amqp::new(url.as_str()).is_ok());
        assert!(Amqp::new(url).is_ok());
    }

    /// As long as the README says.
    #[test]
    fn a_confirm_may_take_thirty_seconds_unless_told_otherwise() {
        let amqp = Amqp::new("amqp://localhost/%2f").unwrap();

        assert_eq!(amqp.settings.confirm_timeout, Duration::from_secs(30));
    }

    #[test]
    fn a_clone_keeps_its_own_options() {
        let one = Amqp::new("amqp://localhost/%2f").unwrap();
        let two = one.clone().prefetch(7).heartbeat(Duration::from_millis(1));

        assert_eq!(one.settings.prefetch, 300);
        assert_eq!(two.settings.prefetch, 7);
        assert_eq!(two.settings.uri.query.heartbeat, Some(1));
        assert_eq!(one.settings.uri.query.heartbeat, Some(10));
    }
}

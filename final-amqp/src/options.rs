//! [`Amqp`]: which RabbitMQ to use, and how.
//!
//! State: the settings, each with its default. Output: shared [`Settings`] for the link.

use std::{fmt, future::Future, sync::Arc, time::Duration};

use final_core::{BoxError, Error};
use lapin::{
    tcp::{OwnedIdentity, OwnedTLSConfig},
    uri::AMQPUri,
};
use tokio::runtime::Handle;

use crate::{
    credentials::{Credentials, CredentialsSource},
    declare::Declare,
    shortages::Shortages,
    uri,
};

/// The frame size that is asked for, which is RabbitMQ's own default. lapin reserves 64 frames of memory for
/// each connection, so it needs a limit where the broker has none.
const FRAME_MAX: u32 = 128 * 1024;

/// The longest limit. A deadline too far in the future cannot be computed.
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
/// Creating an `Amqp` does not connect; starting the bus does. `Debug` shows no user and no password.
#[derive(Clone)]
pub struct Amqp {
    pub(crate) settings: Arc<Settings>,
}

/// Which kind of queue a service's messages wait in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum QueueKind {
    /// Replicated and always on disk. The default.
    #[default]
    Quorum,
    /// On one node only. Use it if Go services of the same name share the queue, and for a queue that was
    /// declared as a classic queue.
    Classic,
}

/// Everything that can be set, with its default.
#[derive(Clone)]
pub(crate) struct Settings {
    pub(crate) uri: AMQPUri,
    pub(crate) credentials: Option<CredentialsSource>,
    pub(crate) tls: OwnedTLSConfig,
    pub(crate) queue_kind: QueueKind,
    pub(crate) queue: Option<String>,
    pub(crate) declare: Declare,
    pub(crate) prefetch: u16,
    pub(crate) connection_name: Option<String>,
    pub(crate) publish_channels: usize,
    pub(crate) confirm_timeout: Duration,
    pub(crate) connect_timeout: Duration,
    pub(crate) shortages: Shortages,
}

impl Amqp {
    /// Takes the URL of a RabbitMQ: `amqp://user:password@host:port/vhost`, or `amqps://` for TLS.
    ///
    /// The virtual host `/` is written `/%2f`, or left out together with its slash. These parameters may follow
    /// a `?`: `heartbeat` (seconds), `connection_timeout` (milliseconds), `frame_max` (bytes), `channel_max`
    /// and `auth_mechanism`.
    ///
    /// # Errors
    ///
    /// Fails if the URL cannot be read, ends in a slash, or has a parameter that is not known. The error names
    /// the parameter, and repeats nothing else of the URL.
    pub fn new(url: impl AsRef<str>) -> Result<Self, Error> {
        let mut uri = uri::parse(url.as_ref())?;
        uri.query.heartbeat.get_or_insert(10);
        uri.query.frame_max.get_or_insert(FRAME_MAX);
        let connect_timeout = uri.query.connection_timeout.unwrap_or(10_000);
        Ok(Self {
            settings: Arc::new(Settings {
                uri,
                credentials: None,
                tls: OwnedTLSConfig::default(),
                queue_kind: QueueKind::default(),
                queue: None,
                declare: Declare::default(),
                prefetch: 300,
                connection_name: None,
                publish_channels: 2,
                confirm_timeout: Duration::from_secs(30),
                connect_timeout: Duration::from_millis(connect_timeout),
                shortages: Shortages::default(),
            }),
        })
    }

    /// Takes user and password from this function, in place of those of the URL.
    ///
    /// It is asked at each connect, so passwords may change and tokens may expire while the bus runs. It may
    /// take as long as [`connect_timeout`](Self::connect_timeout). If it fails, takes longer, or RabbitMQ
    /// refuses what it gave, the bus logs that at `WARN` and tries again with what it gives then; `start` goes
    /// on without the broker meanwhile. The text of its error is logged, so it must not have a secret in it.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use final_amqp::{Amqp, Credentials};
    ///
    /// # async fn fetch_token() -> Result<String, std::io::Error> { Ok("token".into()) }
    /// let amqp = Amqp::new("amqps://mq.example/shop")?.credentials(async || {
    ///     let token = fetch_token().await?; // of your identity provider, or of Vault
    ///     let credentials = Credentials::new("shop", token).valid_for(Duration::from_secs(3600));
    ///     Ok::<_, std::io::Error>(credentials)
    /// });
    /// # Ok::<_, final_core::Error>(())
    /// ```
    pub fn credentials<F, A, E>(self, source: F) -> Self
    where
        F: Fn() -> A + Send + Sync + 'static,
        A: Future<Output = Result<Credentials, E>> + Send + 'static,
        E: Into<BoxError>,
    {
        let source = CredentialsSource::new(source);
        self.with(|settings| settings.credentials = Some(source))
    }

    /// Sets the kind of the service's queue and of its dead-letter queue. Default: quorum.
    pub fn queue_kind(self, kind: QueueKind) -> Self {
        self.with(|settings| settings.queue_kind = kind)
    }

    /// Sets the name of the queue to consume from. Default: the service's name.
    ///
    /// Use it for an existing queue whose name is not allowed as a service's name. The dead-letter exchange
    /// and queue are then `<name>_exchange_dlx` and `<name>_dlx`. A queue that something other than a bus
    /// made needs [`declare`](Self::declare) as well.
    pub fn queue(self, name: impl Into<String>) -> Self {
        self.with(|settings| settings.queue = Some(name.into()))
    }

    /// Sets what the bus declares in RabbitMQ. Default: [`Declare::All`].
    ///
    /// ```
    /// use final_amqp::{Amqp, Declare};
    ///
    /// // Consumes from a queue that another program made, with whatever arguments.
    /// let amqp = Amqp::new("amqp://localhost/%2f")?
    ///     .queue("Legacy.Orders")
    ///     .declare(Declare::Missing);
    /// # Ok::<_, final_core::Error>(())
    /// ```
    pub fn declare(self, declare: Declare) -> Self {
        self.with(|settings| settings.declare = declare)
    }

    /// Sets how many unsettled messages the broker may have sent at most, over all consumers. Default: 300.
    ///
    /// How many it sends follows the handlers: a few more than the `concurrency` of the bus, what was handled in the
    /// last tenth of a second, and what waits for a retry. When fast handlers become slow, some more can be in hand
    /// for a while. Each consumer gets an equal share, at least one.
    ///
    /// The prefetch changes by consuming anew. With [`Declare::Missing`] and [`Declare::Nothing`] it never changes,
    /// because a single active consumer would: it is twice the `concurrency` and a quarter of it.
    pub fn prefetch(self, messages: u16) -> Self {
        self.with(|settings| settings.prefetch = messages.max(1))
    }

    /// Sets the heartbeat, which detects a dead connection. Default: 10 s, at least 1 s.
    pub fn heartbeat(self, interval: Duration) -> Self {
        let seconds = u16::try_from(interval.as_secs()).unwrap_or(u16::MAX);
        self.with(|settings| settings.uri.query.heartbeat = Some(seconds.max(1)))
    }

    /// Sets the name that RabbitMQ shows for the connections. Default: the service's name.
    pub fn connection_name(self, name: impl Into<String>) -> Self {
        self.with(|settings| settings.connection_name = Some(name.into()))
    }

    /// Trusts this certificate authority too, for `amqps://`. Takes one or more certificates in PEM.
    pub fn ca_certificate(self, pem: impl AsRef<[u8]>) -> Self {
        let pem = String::from_utf8_lossy(pem.as_ref()).into_owned();
        self.with(|settings| settings.tls.cert_chain = Some(pem))
    }

    /// Sends this client certificate to the broker. Takes the certificate and its PKCS#8 key, each in PEM.
    pub fn client_certificate(self, pem: impl Into<Vec<u8>>, key: impl Into<Vec<u8>>) -> Self {
        let (pem, key) = (pem.into(), key.into());
        self.with(|settings| settings.tls.identity = Some(OwnedIdentity::PKCS8 { pem, key }))
    }

    /// Sends this client certificate to the broker. Takes a PKCS#12 archive (`.p12`, `.pfx`) and its password.
    pub fn client_pkcs12(self, der: impl Into<Vec<u8>>, password: impl Into<String>) -> Self {
        let (der, password) = (der.into(), password.into());
        self.with(|settings| settings.tls.identity = Some(OwnedIdentity::PKCS12 { der, password }))
    }

    /// Sets the number of channels to publish over. Default: 2, from 1 to 64.
    pub fn publish_channels(self, channels: usize) -> Self {
        self.with(|settings| settings.publish_channels = channels.clamp(1, 64))
    }

    /// Sets how long the broker may take to confirm a message. Default: 30 s, at most a day.
    ///
    /// A quorum queue without a majority confirms nothing. Its topic is parked after this time.
    pub fn confirm_timeout(self, limit: Duration) -> Self {
        self.with(|settings| settings.confirm_timeout = limit.min(A_DAY))
    }

    /// Sets how long one attempt to connect may take. Default: 10 s, at most a day.
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

impl Settings {
    /// The settings for a link that is opened on this runtime. The link's tasks run elsewhere, and the service's
    /// own code stays here.
    pub(crate) fn at_home(&self) -> Arc<Self> {
        let mut settings = self.clone();
        if let (Some(source), Ok(home)) = (&mut settings.credentials, Handle::try_current()) {
            source.stay_at(home);
        }
        Arc::new(settings)
    }
}

/// Written by hand to keep user, password and keys out of logs.
impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Amqp")
            .field("broker", &uri::address(&self.uri))
            .field("vhost", &self.uri.vhost)
            .field("credentials", &self.credentials)
            .field("queue_kind", &self.queue_kind)
            .field("declare", &self.declare)
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
            .client_certificate("s3cret", "s3cret")
            .credentials(async || Ok::<_, BoxError>(Credentials::new("mary", "s3cret")));
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
    fn the_url_and_the_methods_set_the_same_limits() {
        let url = "amqp://localhost/%2f?connection_timeout=3000&heartbeat=7";
        let amqp = Amqp::new(url).unwrap();
        assert_eq!(amqp.settings.connect_timeout, Duration::from_secs(3));
        assert_eq!(amqp.settings.uri.query.heartbeat, Some(7));

        let amqp = amqp.connect_timeout(Duration::from_secs(4));
        assert_eq!(amqp.settings.connect_timeout, Duration::from_secs(4));
    }

    /// lapin would reserve 256 GiB for the connection.
    #[test]
    fn a_broker_without_a_limit_of_frames_gets_ours() {
        let amqp = Amqp::new("amqp://localhost").unwrap();

        assert_eq!(amqp.settings.uri.query.frame_max, Some(128 * 1024));
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

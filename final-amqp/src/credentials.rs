//! User and password that change: asked for at each connect.
//!
//! Input: a function of the service. Output: [`Credentials`] for one connection, or an error that says why
//! there are none. The function may fail, hang or panic: that is an attempt that failed, and is tried again.

use std::{fmt, future::Future, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use final_core::{
    BoxError,
    broker::{BrokerError, BrokerErrorKind},
};
use futures::{FutureExt, future::BoxFuture};
use tokio::{runtime::Handle, time::timeout};
use tokio_util::task::AbortOnDropHandle;

use crate::{text::cut, uri::can_be_login};

/// The longest text of an error of the source that is shown.
const MAX_ERROR: usize = 500;

/// User and password for one connection, as [`Amqp::credentials`](crate::Amqp::credentials) takes them.
///
/// RabbitMQ takes an OAuth 2 token as the password, with any user. `Debug` shows neither.
#[derive(Clone)]
pub struct Credentials {
    pub(crate) user: String,
    pub(crate) password: String,
    pub(crate) valid_for: Option<Duration>,
}

impl Credentials {
    /// Takes a user and a password or token.
    pub fn new(user: impl Into<String>, password: impl Into<String>) -> Self {
        Self {
            user: user.into(),
            password: password.into(),
            valid_for: None,
        }
    }

    /// Says for how long they are valid from now on, for tokens that expire.
    ///
    /// The source is asked again before this time is over, and the open connections are given what it says.
    /// So they go on without a break. Without this, a connection lasts until RabbitMQ ends it, and the next
    /// one asks the source.
    pub fn valid_for(mut self, time: Duration) -> Self {
        self.valid_for = Some(time);
        self
    }
}

/// Written by hand to keep user and password out of logs.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("valid_for", &self.valid_for)
            .finish_non_exhaustive()
    }
}

type Ask = dyn Fn() -> BoxFuture<'static, Result<Credentials, BoxError>> + Send + Sync;

/// Where credentials come from.
#[derive(Clone)]
pub(crate) struct CredentialsSource {
    ask: Arc<Ask>,
    /// The service's runtime. The connections that the source keeps belong to it.
    home: Option<Handle>,
}

impl CredentialsSource {
    pub(crate) fn new<F, A, E>(source: F) -> Self
    where
        F: Fn() -> A + Send + Sync + 'static,
        A: Future<Output = Result<Credentials, E>> + Send + 'static,
        E: Into<BoxError>,
    {
        let ask = move || {
            let answer = source();
            async move { answer.await.map_err(Into::into) }.boxed()
        };
        Self {
            ask: Arc::new(ask),
            home: None,
        }
    }

    /// Runs the source on this runtime from now on.
    pub(crate) fn stay_at(&mut self, home: Handle) {
        self.home = Some(home);
    }

    /// Asks once, for at most this long.
    pub(crate) async fn ask(&self, limit: Duration) -> Result<Credentials, BrokerError> {
        let ask = Arc::clone(&self.ask);
        // The call itself may panic too, so it happens inside.
        let asked = async move { AssertUnwindSafe(async { ask().await }).catch_unwind().await };
        let asked = async {
            match &self.home {
                Some(home) => AbortOnDropHandle::new(home.spawn(asked)).await,
                None => Ok(asked.await),
            }
        };
        let why = match timeout(limit, asked).await {
            Ok(Err(_)) => "the runtime of the service has ended".to_owned(),
            Ok(Ok(Ok(Ok(credentials)))) => {
                if can_be_login(&credentials.user) && can_be_login(&credentials.password) {
                    return Ok(credentials);
                }
                "it gave a user or password with a zero byte".to_owned()
            }
            Ok(Ok(Ok(Err(error)))) => cut(&error.to_string(), MAX_ERROR).to_owned(),
            Ok(Ok(Err(_))) => "it panicked".to_owned(),
            Err(_) => format!("it did not answer within {limit:?}"),
        };
        // The error itself stays here: its `Debug` could show more than its text.
        let text = format!("the source given to `Amqp::credentials` failed: {why}");
        Err(BrokerError::new(BrokerErrorKind::Unreachable, text))
    }
}

impl fmt::Debug for CredentialsSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CredentialsSource")
    }
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, future::pending};

    use super::*;

    const LIMIT: Duration = Duration::from_millis(50);

    async fn error_of(source: CredentialsSource) -> String {
        let error = source.ask(LIMIT).await.unwrap_err();
        assert_eq!(error.kind(), BrokerErrorKind::Unreachable);
        format!("{error} {error:?}")
    }

    #[tokio::test]
    async fn a_source_that_fails_hangs_or_panics_is_an_attempt_that_failed() {
        let failing = CredentialsSource::new(async || Err("vault is sealed"));
        assert!(error_of(failing).await.contains("vault is sealed"));

        let hanging = CredentialsSource::new(pending::<Result<Credentials, Infallible>>);
        assert!(error_of(hanging).await.contains("50ms"));

        let panicking = CredentialsSource::new(async || -> Result<Credentials, Infallible> {
            panic!("a bug of the source, on purpose")
        });
        assert!(error_of(panicking).await.contains("panicked"));

        let calling = CredentialsSource::new(|| -> std::future::Pending<Result<_, Infallible>> {
            panic!("a bug of the source, on purpose")
        });
        assert!(error_of(calling).await.contains("panicked"));

        let zero = async || Ok::<_, Infallible>(Credentials::new("mary", "s3\0cret"));
        let error = error_of(CredentialsSource::new(zero)).await;
        assert!(error.contains("zero byte") && !error.contains("cret"));
    }

    /// Connections that the source keeps, to Vault for example, belong to the runtime on which they were made.
    #[tokio::test]
    async fn a_source_runs_on_the_runtime_of_the_service() {
        let mut source = CredentialsSource::new(async || {
            Ok::<_, Infallible>(Credentials::new(
                format!("{:?}", std::thread::current().id()),
                "secret",
            ))
        });
        source.stay_at(Handle::current());
        let asked = tokio::task::spawn_blocking(move || {
            let links = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            links.unwrap().block_on(source.ask(Duration::from_secs(60)))
        });

        let credentials = asked.await.unwrap().unwrap();

        assert_eq!(
            credentials.user,
            format!("{:?}", std::thread::current().id())
        );
    }

    #[tokio::test]
    async fn a_long_error_is_cut() {
        let long = CredentialsSource::new(async || Err("x".repeat(100_000)));

        assert!(error_of(long).await.len() < 2_000);
    }

    #[test]
    fn debug_shows_no_secret() {
        let credentials = Credentials::new("mary", "s3cret").valid_for(Duration::from_secs(60));
        let shown = format!("{credentials:?}");

        assert!(!shown.contains("mary") && !shown.contains("s3cret"));
        assert!(shown.contains("60s"), "{shown}");
    }
}

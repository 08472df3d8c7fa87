//! Keeps a connection logged in, where its credentials are valid for a limited time.
//!
//! Input: the source of credentials, and for how long the last ones are valid. Output: new secrets for the
//! open connection. It ends where the source names another user, as only a new connection can have that.

use std::{future::pending, time::Duration};

use lapin::Connection;
use tokio::time::sleep;

use crate::{
    deadline::{CALL_LIMIT, within},
    error::told,
    options::Settings,
    outage::OutageNotice,
    retry_delay::RetryDelay,
};

/// Which part of its time passes before credentials are renewed.
const RENEWED_AT: f64 = 0.75;
/// The shortest time between two questions to the source.
const LEAST: Duration = Duration::from_secs(1);
const LONGEST_DELAY: Duration = Duration::from_secs(30);

/// What an outage notice calls this.
pub(crate) const LOGIN: &str = "renewing the login";

/// As whom a connection logged in, and for how long.
#[derive(Clone, Debug)]
pub(crate) struct Login {
    pub(crate) user: String,
    pub(crate) valid_for: Option<Duration>,
}

impl Login {
    /// Renews the secret of this connection again and again. Returns once the user is another one.
    pub(crate) async fn keep(
        mut self,
        settings: &Settings,
        notice: &OutageNotice,
        connection: &Connection,
    ) {
        let Some(source) = &settings.credentials else {
            return pending().await;
        };
        let mut delay = RetryDelay::between(LEAST, LONGEST_DELAY);
        while let Some(time) = self.valid_for {
            sleep(time.mul_f64(RENEWED_AT).max(LEAST)).await;
            loop {
                let why = match source.ask(settings.connect_timeout).await {
                    Ok(credentials) if credentials.user != self.user => return,
                    Ok(credentials) => {
                        let secret = credentials.password.into();
                        let updated = connection.update_secret(secret, "renewed".into());
                        match within(CALL_LIMIT, updated).await {
                            Ok(()) => {
                                self.valid_for = credentials.valid_for;
                                break;
                            }
                            Err(error) => told(&error),
                        }
                    }
                    Err(error) => error.to_string(),
                };
                notice.fails(&why);
                sleep(delay.next()).await;
            }
            notice.works();
            delay.reset();
        }
        pending().await
    }
}

//! Which RabbitMQ is meant.
//!
//! Input: the command line, and the context. Output: its settings, and its place in a form that can be shown.

use std::{fmt, fs, path::PathBuf};

use clap::Args;
use final_amqp::Amqp;

use crate::{contexts::Context, exit::Failure, redact::place};

/// Which RabbitMQ is meant.
#[derive(Debug, Args)]
pub(crate) struct BrokerArgs {
    /// A RabbitMQ, `amqp://..` or `amqps://..`; without a URL that of the context
    #[arg(long, value_name = "URL", num_args = 0..=1, default_missing_value = "")]
    rabbitmq: Option<BrokerUrl>,

    /// The certificate of its authority in PEM, for `amqps://`; not needed where the machine trusts it
    #[arg(long, value_name = "FILE", requires = "rabbitmq")]
    rabbitmq_ca: Option<PathBuf>,
}

/// A RabbitMQ, by its URL.
#[derive(Debug)]
pub(crate) struct FoundBroker {
    pub(crate) amqp: Amqp,
    /// Its URL without its password.
    pub(crate) place: String,
}

impl BrokerArgs {
    /// Whether the command line names one.
    pub(crate) fn is_named(&self) -> bool {
        self.rabbitmq.is_some()
    }

    /// That of the command line, else that of the context.
    pub(crate) fn find(&self, context: &Context) -> Result<Option<FoundBroker>, Failure> {
        let named = self.rabbitmq.as_ref().map(|url| url.0.clone());
        let url = match named.filter(|url| !url.is_empty()) {
            Some(url) => Some(url),
            None => context.rabbitmq_url()?,
        };
        let Some(url) = url else {
            return Ok(None);
        };
        let mut amqp = Amqp::new(&url)?;
        if let Some(file) = self.rabbitmq_ca.as_ref().or(context.rabbitmq_ca.as_ref()) {
            let pem = fs::read(file).map_err(|error| {
                let file = file.display();
                Failure::usage(format!(
                    "the authority's certificate cannot be read from {file}: {error}"
                ))
            })?;
            amqp = amqp.ca_certificate(pem);
        }
        Ok(Some(FoundBroker {
            amqp,
            place: place(&url),
        }))
    }
}

/// A URL whose `Debug` shows nothing of it.
#[derive(Clone)]
struct BrokerUrl(String);

impl From<&str> for BrokerUrl {
    fn from(url: &str) -> Self {
        Self(url.into())
    }
}

impl fmt::Debug for BrokerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BrokerUrl")
    }
}

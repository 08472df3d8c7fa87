//! Finds what weakens a promise in RabbitMQ, and says how to mend it.
//!
//! Input: a RabbitMQ, services, and topics that they publish. Output: [`Finding`]s, the worst first.
//!
//! ```text
//!   connect ─▶ version ─▶ each service: queue, its arguments, dead letters ─▶ topics ─▶ management ─▶ alarms
//! ```
//!
//! Everything but bindings and policies is asked by AMQP, over one connection. Nothing is changed: what is declared is
//! there already, and the one message that is published has no queue. RabbitMQ tells bindings and policies by its
//! management API alone.

mod alarm;
mod diagnoses;
mod management;
mod queues;
mod version;

use std::sync::Arc;

use final_core::{
    Error,
    admin::doctor::{COULD_NOT_CHECK, Finding},
};
use lapin::Connection;

pub use self::diagnoses::DIAGNOSES;
use self::management::Management;
use crate::{
    Amqp,
    connection::{close, connect},
    error::told,
    role::Role,
};

/// An examination of RabbitMQ: what is to be looked at.
///
/// ```no_run
/// use final_amqp::{Amqp, doctor::BrokerDoctor};
///
/// # async fn example() -> Result<(), final_core::Error> {
/// let amqp = Amqp::new("amqp://guest:guest@127.0.0.1:5672/%2f")?;
/// for finding in BrokerDoctor::new(amqp).service("shop").topic("order.placed").examine().await {
///     println!("{finding}");
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct BrokerDoctor {
    amqp: Amqp,
    services: Vec<String>,
    publishers: Vec<String>,
    collecting: Vec<String>,
    topics: Vec<Arc<str>>,
    management: Option<Management>,
}

impl BrokerDoctor {
    /// Examines this RabbitMQ, with its options: a queue is compared with the one that a service with these options
    /// would declare.
    #[must_use]
    pub fn new(amqp: Amqp) -> Self {
        Self {
            amqp,
            services: Vec::new(),
            publishers: Vec::new(),
            collecting: Vec::new(),
            topics: Vec::new(),
            management: None,
        }
    }

    /// Looks at the queue and the dead letters of a service that handles messages.
    #[must_use]
    pub fn service(mut self, name: impl Into<String>) -> Self {
        self.services.push(name.into());
        self
    }

    /// Looks at the queue and the dead letters of a service if it has them. A service that only publishes has none.
    #[must_use]
    pub fn publisher(mut self, name: impl Into<String>) -> Self {
        self.publishers.push(name.into());
        self
    }

    /// The service collects its dead letters into its database, so they do not stay in the queue to be looked at, and a
    /// delivery limit of that queue is no finding.
    #[must_use]
    pub fn collecting(mut self, name: impl Into<String>) -> Self {
        self.collecting.push(name.into());
        self
    }

    /// Looks at the exchange of a topic.
    #[must_use]
    pub fn topic(mut self, name: impl AsRef<str>) -> Self {
        self.topics.push(name.as_ref().into());
        self
    }

    /// Asks the management API for bindings and policies, which AMQP does not tell: `http://user:password@host:15672`, or
    /// `https://` with the authorities of the [`Amqp`]. Without a login in the URL, that of the broker is used; the user
    /// needs the tag `monitoring`.
    ///
    /// # Errors
    ///
    /// Fails if the URL cannot be read. The error repeats nothing of it.
    pub fn management(mut self, url: impl AsRef<str>) -> Result<Self, Error> {
        let api = Management::new(url.as_ref(), &self.amqp.settings);
        let api = api.map_err(|reason| {
            Error::InvalidOptions(format!(
                "the URL of the management API cannot be used: {reason}"
            ))
        })?;
        self.management = Some(api);
        Ok(self)
    }

    /// Looks at everything. The worst findings come first. A RabbitMQ that cannot be reached is a finding as well.
    ///
    /// It may be dropped at any time.
    pub async fn examine(&self) -> Vec<Finding> {
        let settings = &self.amqp.settings;
        let mut findings = match connect(settings, "doctor", Role::DOCTOR).await {
            Ok(connected) => {
                let mut findings = version::look(connected.version.as_deref());
                let version = connected.version.as_deref();
                findings.extend(self.look(&connected.connection, version).await);
                close(&connected.connection).await;
                findings
            }
            Err(error) => {
                let mend =
                    "Start it, or correct the URL; services go on by themselves once it is back";
                vec![diagnoses::UNREACHABLE.found(error.to_string(), mend)]
            }
        };
        findings.sort_by_key(|finding| finding.level);
        findings
    }

    async fn look(&self, connection: &Connection, version: Option<&str>) -> Vec<Finding> {
        let mut findings = Vec::new();
        let asks = queues::Asks {
            connection,
            settings: &self.amqp.settings,
        };
        let services = self.services.iter().map(|service| (service, true));
        let publishers = self.publishers.iter().map(|service| (service, false));
        for (service, has_queue) in services.chain(publishers) {
            match asks.service(service).await {
                Ok(found) => {
                    let is_right = |finding: &Finding| {
                        finding.name != diagnoses::QUEUE_MISSING.name || has_queue
                    };
                    findings.extend(found.into_iter().filter(is_right));
                }
                Err(error) => findings.push(could_not(
                    &format!("the queues of the service {service}"),
                    &error,
                )),
            }
        }
        for topic in &self.topics {
            match asks.topic(topic).await {
                Ok(found) => findings.extend(found),
                Err(error) => findings.push(could_not(
                    &format!("the exchange of the topic {topic}"),
                    &error,
                )),
            }
        }
        findings.extend(self.by_management(version).await);
        // Last, because under an alarm the connection is blocked from then on.
        match alarm::look(connection).await {
            Ok(found) => findings.extend(found),
            Err(error) => findings.push(could_not("alarms", &error)),
        }
        findings
    }
}

impl BrokerDoctor {
    /// Bindings and policies.
    async fn by_management(&self, version: Option<&str>) -> Vec<Finding> {
        let settings = &self.amqp.settings;
        let services = self.services.iter().chain(&self.publishers);
        let Some(management) = &self.management else {
            let what = "bindings, policies and delivery limits are not told by AMQP, and no management API was named";
            let mend = "Name it: `--management http://user:password@host:15672`";
            let is_all =
                self.services.is_empty() && self.publishers.is_empty() && self.topics.is_empty();
            return (!is_all)
                .then(|| COULD_NOT_CHECK.found(what, mend))
                .into_iter()
                .collect();
        };
        let mut findings = Vec::new();
        for service in services {
            let found = management.service(settings, service, version).await;
            let is_collected = self.collecting.contains(service);
            let counts = |finding: &Finding| {
                !is_collected || finding.name != diagnoses::DEAD_LETTERS_LIMITED.name
            };
            findings.extend(found.into_iter().filter(counts));
        }
        for topic in &self.topics {
            findings.extend(management.topic(settings, topic).await);
        }
        findings
    }
}

/// A question that was refused or not answered.
fn could_not(what: &str, error: &lapin::Error) -> Finding {
    COULD_NOT_CHECK.found(
        format!("{what} could not be looked at: {}", told(error)),
        "Look again with a user that has the permission, or later",
    )
}

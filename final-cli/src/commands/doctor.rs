//! `final doctor [SERVICE]`: what silently weakens a promise, and what to type against it.
//!
//! Input: a database, and a RabbitMQ if one is named. Output: findings, the worst first, and exit code 3 if one of them
//! is more than a note. Nothing is changed.

use std::time::Duration;

use clap::Args;
use final_amqp::{Amqp, QueueKind, doctor::BrokerDoctor};
use final_core::{
    OutboxDatabase,
    admin::{
        ServiceInfo,
        doctor::{Doctor, Finding, Level},
    },
};
use serde::Serialize;

use crate::{
    arguments::{DatabaseUrl, FormatArgs},
    broker::BrokerArgs,
    exit::{Exit, Failure},
    output::{Output, text::harmless, time},
    redact::without_passwords,
    session::Session,
};

/// Find what silently weakens a promise, and say how to mend it
///
/// It looks at the database of the session, and at RabbitMQ if --rabbitmq or the context names one. docs/doctor.md has
/// a row for each finding. The exit code is 3 if an error or a warning is found.
#[derive(Debug, Args)]
#[command(after_help = "Example: final doctor shop --rabbitmq amqp://mq.example/shop")]
pub(crate) struct DoctorArgs {
    /// The service; all of the database, if nothing is said
    service: Option<String>,

    #[command(flatten)]
    broker: BrokerArgs,

    /// RabbitMQ's management API, http://user:password@host:15672, for bindings and policies. Without a login in it, that
    /// of RabbitMQ is used
    #[arg(long, value_name = "URL")]
    management: Option<DatabaseUrl>,

    /// Expects classic queues, as with QueueKind::Classic
    #[arg(long)]
    classic: bool,

    /// How long a transaction may be open, and a message may wait for somebody to take it
    #[arg(long, value_name = "TIME", value_parser = time::parse, default_value = "5m")]
    older_than: Duration,

    #[command(flatten)]
    pub(crate) format: FormatArgs,
}

/// A finding as a line of JSON.
#[derive(Serialize)]
struct FindingView<'a> {
    level: &'static str,
    name: &'static str,
    /// `database` or `rabbitmq`.
    place: &'static str,
    what: &'a str,
    why: &'a str,
    mend: &'a str,
}

impl DoctorArgs {
    pub(crate) async fn run<DB: OutboxDatabase>(
        self,
        session: &Session<DB>,
        out: &mut Output,
    ) -> Result<Exit, Failure> {
        let mut findings: Vec<(&'static str, Finding)> = Vec::new();
        let database = self.database(session).await?;
        findings.extend(database.into_iter().map(|finding| ("database", finding)));
        match self.broker.find(&session.context)? {
            Some(broker) => {
                let rabbitmq = self.rabbitmq(session, broker.amqp).await?;
                findings.extend(rabbitmq.into_iter().map(|finding| ("rabbitmq", finding)));
            }
            None if self.management.is_some() => {
                return Err(Failure::usage(
                    "--management needs --rabbitmq, or a context with `rabbitmq_url`",
                ));
            }
            None => {}
        }
        findings.sort_by_key(|(_, finding)| finding.level);
        for (place, finding) in &findings {
            write(place, finding, out)?;
        }
        if findings.is_empty() && !out.is_json() {
            out.line("nothing was found")?;
        }
        let is_found = findings
            .iter()
            .any(|(_, finding)| finding.level < Level::Note);
        Ok(if is_found { Exit::Found } else { Exit::Done })
    }

    async fn database<DB: OutboxDatabase>(
        &self,
        session: &Session<DB>,
    ) -> Result<Vec<Finding>, Failure> {
        let mut doctor = Doctor::new(session.pool.clone())
            .open_for(self.older_than)
            .waiting_for(self.older_than);
        if let Some(service) = &self.service {
            doctor = doctor.service(service);
        }
        Ok(doctor.examine().await?)
    }

    /// A service that is named has a queue. Of the others it is not known: a service that only publishes has none.
    async fn rabbitmq<DB: OutboxDatabase>(
        &self,
        session: &Session<DB>,
        mut amqp: Amqp,
    ) -> Result<Vec<Finding>, Failure> {
        if self.classic {
            amqp = amqp.queue_kind(QueueKind::Classic);
        }
        let mut doctor = BrokerDoctor::new(amqp);
        if let Some(url) = &self.management {
            doctor = doctor.management(&url.0)?;
        }
        let admin = session.admin();
        let services = admin.services().await?;
        if let Some(service) = &self.service {
            // A group of the log has no queue in RabbitMQ.
            let is_group = |known: &ServiceInfo| known.name == *service && known.reads_log;
            doctor = match services.iter().any(is_group) {
                true => doctor.publisher(service.clone()),
                false => doctor.service(service),
            };
        }
        for known in services {
            match &self.service {
                Some(service) if *service != known.name => continue,
                Some(_) => {}
                None => doctor = doctor.publisher(known.name.clone()),
            }
            if known.collects_letters {
                doctor = doctor.collecting(known.name.clone());
            }
            // Topics that nobody seems to subscribe.
            let outbox = admin.service(known.name).overview().await?.outbox;
            for parked in outbox.into_iter().flat_map(|outbox| outbox.parked) {
                doctor = doctor.topic(parked.topic);
            }
        }
        Ok(doctor.examine().await)
    }
}

/// One finding: a line of JSON, or a paragraph for a person.
pub(crate) fn write(
    place: &'static str,
    finding: &Finding,
    out: &mut Output,
) -> Result<(), Failure> {
    let [what, why, mend] =
        [&finding.what, &finding.why, &finding.mend].map(|text| without_passwords(text));
    if out.is_json() {
        let view = FindingView {
            level: finding.level.as_str(),
            name: finding.name,
            place,
            what: &what,
            why: &why,
            mend: &mend,
        };
        return out.json("finding", &view);
    }
    out.line(&format!("{} {} ({place})", finding.level, finding.name))?;
    for (word, text) in [("what", what), ("why", why), ("mend", mend)] {
        out.line(&harmless(&format!("  {word:<5} {text}")))?;
    }
    out.line("")
}

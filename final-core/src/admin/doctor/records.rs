//! Records of an outbox that do not move.
//!
//! Input: the outbox of a service, asked as the relay asks. Output: findings about records that nobody has claimed, and
//! about topics without a queue.

use std::time::Duration;

use super::{
    finding::{Diagnosis, Finding, Level},
    transactions::age,
    ward::Ward,
};
use crate::{
    OutboxDatabase,
    database::{DbResult, Dialect, limits::micros},
    names::ServiceName,
    outbox::Table,
};

pub(super) const RECORDS_WITHOUT_OWNER: Diagnosis = Diagnosis::new(
    Level::Error,
    "records_without_owner",
    "Committed messages wait, and no process is about to send them",
);

pub(super) const CLAIMS_WITHOUT_OWNER: Diagnosis = Diagnosis::new(
    Level::Error,
    "claims_without_owner",
    "Committed messages wait: the process that had claimed them is gone, and no other has taken them over",
);

pub(super) const TOPIC_WITHOUT_QUEUE: Diagnosis = Diagnosis::new(
    Level::Error,
    "topic_without_queue",
    "Committed messages wait until a service subscribes their topic",
);

/// Topics that are named in a finding.
const MOST_TOPICS: u32 = 5;

pub(super) async fn look<DB: OutboxDatabase>(
    ward: &Ward<DB>,
    service: &ServiceName,
    table: Table<'_, DB>,
    limit: Duration,
) -> DbResult<Vec<Finding>> {
    let name = service.as_str();
    let mut findings = Vec::new();
    if let Some(overdue) = table.overdue().await?
        && overdue > limit
    {
        let overdue = age(micros(overdue));
        let claims = ended_claims(DB::DIALECT, &service.claims_table());
        let claims: i64 = ward.first(&claims, &[]).await?;
        let mend = format!(
            "Start an instance of the service {name}; if one runs, its log says why it sends nothing, and \
             `final status {name}` says what waits"
        );
        findings.push(match claims {
            0 => RECORDS_WITHOUT_OWNER.found(
                format!("the oldest record of the service {name} that no process has claimed has been due for {overdue}"),
                mend,
            ),
            _ => CLAIMS_WITHOUT_OWNER.found(
                format!(
                    "{claims} claim(s) on records of the service {name} were not finished before their lease ended, and \
                     the oldest record that no process has claimed has been due for {overdue}"
                ),
                mend,
            ),
        });
    }
    let parked = table.parked_topics(MOST_TOPICS).await?;
    if !parked.is_empty() {
        let unroutable = table.backlog().await?.unroutable();
        let topics = parked.join(", ");
        findings.push(TOPIC_WITHOUT_QUEUE.found(
            format!("{unroutable} record(s) of the service {name} wait for a queue; their topics: {topics}"),
            format!(
                "Start the service that subscribes the topic, or drop the messages with \
                 `final outbox discard --service {name} --status unroutable --topic {}`",
                parked.first().map_or("", String::as_str)
            ),
        ));
    }
    Ok(findings)
}

/// Claims whose lease has ended, and that their owners have not finished.
fn ended_claims(dialect: Dialect, claims: &str) -> String {
    let (now, day_one) = match dialect {
        Dialect::Postgres => ("clock_timestamp()", "timestamptz '1970-01-02 00:00:00+00'"),
        Dialect::MySql => ("UTC_TIMESTAMP(6)", "TIMESTAMP'1970-01-02 00:00:00'"),
        Dialect::Sqlite => ("unixepoch('subsec') * 1000", "86400000"),
    };
    format!("SELECT COUNT(*) FROM {claims} WHERE live_until <= {now} AND live_until > {day_one}")
}

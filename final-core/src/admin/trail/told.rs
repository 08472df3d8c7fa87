//! A trail in words.

use std::fmt;

use super::{GroupPosition, Station, Trail};
use crate::admin::{RecordInfo, RecordState, not_moving::Spoken};

impl fmt::Display for Trail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Message {}", self.id)?;
        for station in &self.stations {
            write!(f, "\n  {station}")?;
        }
        if self.stations.is_empty() {
            f.write_str(
                "\n  No place knows it by this id. It was sent and acked, or handled by each of its groups, or never \
                 written. Acked records are deleted, unless `Options::retention` is set. Over RabbitMQ it may also wait \
                 for a retry, or be replayed from the collected letters: then it is in the outbox under another id, with \
                 a topic that begins with x-final-detour.",
            )?;
        }
        if !self.is_complete {
            f.write_str(
                "\n  Not every row was looked at: the log is long and has no index of ids. The rows near the time \
                 at which the id was made were looked at, and the newest.",
            )?;
        }
        Ok(())
    }
}

impl fmt::Display for Station {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Record { service, record } => {
                write!(f, "Outbox of {service}, topic {:?}: ", record.topic)?;
                record_told(record, f)
            }
            Self::Scheduled {
                topic,
                due_in,
                recipient,
                ..
            } => {
                write!(
                    f,
                    "Log, topic {topic:?}: not due yet, for another {}",
                    Spoken(*due_in)
                )?;
                for_alone(recipient.as_deref(), f)
            }
            Self::Logged {
                seq,
                lane,
                topic,
                recipient,
                ..
            } => {
                write!(f, "Log, topic {topic:?}: row {seq}, lane {lane}")?;
                for_alone(recipient.as_deref(), f)
            }
            Self::Group {
                group,
                seq,
                lane,
                position,
                member,
            } => {
                write!(f, "Group {group}, row {seq}: ")?;
                match (position, member) {
                    (GroupPosition::Settled, _) => f.write_str("settled."),
                    (GroupPosition::Open, Some(member)) => {
                        write!(
                            f,
                            "read by {member}, and not settled: a handler has it, or it waits for one."
                        )
                    }
                    (GroupPosition::Open, None) => {
                        write!(
                            f,
                            "read, not settled, and no running process has lane {lane}."
                        )
                    }
                    (GroupPosition::Waiting { read_to }, Some(member)) => {
                        write!(
                            f,
                            "waits; {member} has read lane {lane} up to row {read_to}."
                        )
                    }
                    (GroupPosition::Waiting { read_to }, None) => write!(
                        f,
                        "waits; no running process has lane {lane}, which was read up to row {read_to}."
                    ),
                }
            }
            Self::Dead(letter) => write!(
                f,
                "Dead letter of {} ({}), for {}, after {} attempts: {}",
                letter.service,
                letter.source,
                Spoken(letter.age),
                letter.attempts,
                letter.reason
            ),
            Self::Operation(operation) => write!(
                f,
                "Operation {} of {}: {}, {}, {} done.",
                operation.id, operation.who, operation.action, operation.state, operation.done
            ),
        }
    }
}

fn for_alone(recipient: Option<&str>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match recipient {
        Some(service) => write!(f, ", for {service} alone."),
        None => f.write_str("."),
    }
}

fn record_told(record: &RecordInfo, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let error = record.error.as_deref();
    match (record.state, record.available_in) {
        (RecordState::Pending, None) => f.write_str("due, and no process has it")?,
        (RecordState::Pending, Some(wait)) => write!(f, "due in {}", Spoken(wait))?,
        (RecordState::InHand, _) => {
            let owner = record.owner.unwrap_or_default();
            let left = record.lease_left.unwrap_or_default();
            write!(
                f,
                "process {owner} is sending it, and has leased it for another {}",
                Spoken(left)
            )?;
        }
        (RecordState::Unroutable, _) => f.write_str("it waits until its topic can be sent to")?,
        (RecordState::Failed, _) => f.write_str("it failed, and will not be sent as it is")?,
        (RecordState::Acked, _) => f.write_str("the broker has it")?,
    }
    write!(
        f,
        "; {} old, {} attempts",
        Spoken(record.age),
        record.attempts
    )?;
    match error {
        Some(error) => write!(f, ", the last answer: {error}."),
        None => f.write_str("."),
    }
}

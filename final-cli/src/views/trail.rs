//! The trail of a message.

use final_core::admin::{GroupPosition, Station, Trail};
use serde::Serialize;

use super::{LetterView, OperationView, RecordView};
use crate::output::time::{millis, utc};

/// Where one message is.
#[derive(Debug, Serialize)]
pub(crate) struct TrailView {
    message_id: String,
    is_complete: bool,
    stations: Vec<StationView>,
}

#[derive(Debug, Serialize)]
#[serde(tag = "at", rename_all = "snake_case")]
enum StationView {
    Record(RecordView),
    Scheduled {
        topic: String,
        due_at: String,
        due_in_ms: u64,
        recipient: Option<String>,
    },
    Log {
        seq: i64,
        lane: u32,
        topic: String,
        written_at: String,
        recipient: Option<String>,
    },
    Group {
        group: String,
        seq: i64,
        lane: u32,
        position: &'static str,
        read_to: Option<i64>,
        member: Option<String>,
    },
    Dead(LetterView),
    Operation(OperationView),
}

impl From<&Trail> for TrailView {
    fn from(trail: &Trail) -> Self {
        Self {
            message_id: trail.id.to_string(),
            is_complete: trail.is_complete,
            stations: trail.stations.iter().filter_map(station).collect(),
        }
    }
}

fn station(station: &Station) -> Option<StationView> {
    Some(match station {
        Station::Record {
            service, record, ..
        } => StationView::Record(RecordView::new(service, record)),
        Station::Scheduled {
            topic,
            due_at,
            due_in,
            recipient,
            ..
        } => StationView::Scheduled {
            topic: topic.clone(),
            due_at: utc(*due_at),
            due_in_ms: millis(*due_in),
            recipient: recipient.clone(),
        },
        Station::Logged {
            seq,
            lane,
            topic,
            written_at,
            recipient,
            ..
        } => StationView::Log {
            seq: *seq,
            lane: *lane,
            topic: topic.clone(),
            written_at: utc(*written_at),
            recipient: recipient.clone(),
        },
        Station::Group {
            group,
            seq,
            lane,
            position,
            member,
            ..
        } => {
            let (position, read_to) = match position {
                GroupPosition::Waiting { read_to, .. } => ("waiting", Some(*read_to)),
                GroupPosition::Open => ("open", None),
                GroupPosition::Settled => ("settled", None),
                _ => ("unknown", None),
            };
            StationView::Group {
                group: group.clone(),
                seq: *seq,
                lane: *lane,
                position,
                read_to,
                member: member.map(|member| member.to_string()),
            }
        }
        Station::Dead(letter) => StationView::Dead(letter.into()),
        Station::Operation(operation) => StationView::Operation(operation.into()),
        _ => return None,
    })
}

//! The overview of a service.

use final_core::admin::{Count, NotMoving, Overview};
use serde::Serialize;

use super::{CountView, GroupView, age_text, count_text, ms};
use crate::output::{Cell, Table};

/// A service: what waits, who has it, what does not move.
#[derive(Debug, Serialize)]
pub(crate) struct OverviewView {
    service: String,
    outbox: Option<OutboxView>,
    group: Option<GroupView>,
    dead: Vec<DeadView>,
    not_moving: Vec<NotMovingView>,
}

#[derive(Debug, Serialize)]
struct OutboxView {
    schema: String,
    pending: CountView,
    in_hand: CountView,
    unroutable: CountView,
    failed: CountView,
    oldest_due_ms: Option<u64>,
    parked: Vec<ParkedView>,
    owners: Vec<OwnerView>,
}

#[derive(Debug, Serialize)]
struct ParkedView {
    topic: String,
    count: CountView,
    oldest_ms: Option<u64>,
    reason: Option<String>,
}

#[derive(Debug, Serialize)]
struct OwnerView {
    owner: String,
    records: CountView,
    lease_left_ms: Option<u64>,
}

#[derive(Debug, Serialize)]
struct DeadView {
    source: String,
    count: CountView,
    oldest_ms: Option<u64>,
}

#[derive(Debug, Serialize)]
struct NotMovingView {
    /// A name for programs.
    name: &'static str,
    /// For a person.
    text: String,
}

impl From<&Overview> for OverviewView {
    fn from(overview: &Overview) -> Self {
        let outbox = overview.outbox.as_ref().map(|outbox| OutboxView {
            schema: outbox.schema.to_string(),
            pending: outbox.pending.into(),
            in_hand: outbox.in_hand.into(),
            unroutable: outbox.unroutable.into(),
            failed: outbox.failed.into(),
            oldest_due_ms: ms(outbox.oldest_due),
            parked: outbox
                .parked
                .iter()
                .map(|parked| ParkedView {
                    topic: parked.topic.clone(),
                    count: parked.count.into(),
                    oldest_ms: ms(Some(parked.oldest)),
                    reason: parked.reason.clone(),
                })
                .collect(),
            owners: outbox
                .owners
                .iter()
                .map(|owner| OwnerView {
                    owner: owner.owner.to_string(),
                    records: owner.records.into(),
                    lease_left_ms: ms(owner.left),
                })
                .collect(),
        });
        Self {
            service: overview.service.clone(),
            outbox,
            group: overview.group.as_ref().map(GroupView::from),
            dead: overview
                .dead
                .iter()
                .map(|dead| DeadView {
                    source: dead.source.to_string(),
                    count: dead.count.into(),
                    oldest_ms: ms(dead.oldest),
                })
                .collect(),
            not_moving: overview
                .not_moving
                .iter()
                .map(|stuck| NotMovingView {
                    name: name(stuck),
                    text: stuck.to_string(),
                })
                .collect(),
        }
    }
}

fn name(stuck: &NotMoving) -> &'static str {
    match stuck {
        NotMoving::Schema(_) => "schema",
        NotMoving::Failed { .. } => "failed",
        NotMoving::Parked { .. } => "parked",
        NotMoving::Due { .. } => "due",
        NotMoving::OwnerGone { .. } => "owner_gone",
        NotMoving::LanesWithoutMember { .. } => "lanes_without_member",
        NotMoving::Held { .. } => "held",
        NotMoving::Lag { .. } => "lag",
        NotMoving::DeadLetters { .. } => "dead_letters",
        _ => "other",
    }
}

/// Services, a row each.
pub(crate) fn overview_table(services: &[Overview]) -> Table {
    let mut table = Table::new(&[
        "service",
        ">pending",
        ">in hand",
        ">oldest due",
        ">unroutable",
        ">failed",
        ">dead",
        ">log waiting",
        ">log oldest",
        ">members",
    ]);
    for service in services {
        let outbox = service.outbox.as_ref();
        let group = service.group.as_ref();
        let dead = service.dead.iter().fold(Count::default(), |mut sum, dead| {
            sum.number += dead.count.number;
            sum.more |= dead.count.more;
            sum
        });
        let count = |count: Option<Count>| count.map(count_text).unwrap_or_default();
        let bad = |number: Option<Count>| {
            Cell::new(count(number)).bad(number.is_some_and(|number| !number.is_zero()))
        };
        table.row([
            service.service.as_str().into(),
            count(outbox.map(|outbox| outbox.pending)).into(),
            count(outbox.map(|outbox| outbox.in_hand)).into(),
            age_text(outbox.and_then(|outbox| outbox.oldest_due)).into(),
            bad(outbox.map(|outbox| outbox.unroutable)),
            bad(outbox.map(|outbox| outbox.failed)),
            bad(Some(dead)),
            count(group.map(|group| group.waiting)).into(),
            age_text(group.and_then(|group| group.oldest)).into(),
            group
                .map(|group| group.members.to_string())
                .unwrap_or_default()
                .into(),
        ]);
    }
    table
}

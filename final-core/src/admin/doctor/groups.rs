//! Groups of the log that do not read, or not all of it.
//!
//! Input: groups, lanes and members; how long messages may wait. Output: a finding for each group that is behind for a
//! reason that the tables show.
//!
//! ```text
//!   messages wait for long? ─ no ─▶ healthy
//!     └ no live member ─┬ a topic was never read ─▶ group_never_read
//!     │                 └ otherwise ──────────────▶ group_without_member
//!     └ live members ── lanes that none has ──────▶ lanes_without_member
//! ```

use std::time::Duration;

use super::{
    finding::{Diagnosis, Finding, Level},
    transactions::age,
};
use crate::{
    OutboxDatabase,
    database::{DbResult, columns, limits::micros},
    log::tables::Log,
};

pub(super) const GROUP_WITHOUT_MEMBER: Diagnosis = Diagnosis::new(
    Level::Warning,
    "group_without_member",
    "The log keeps every message for the group, also those that all others have settled, so it grows until a member \
     comes or the messages are too old",
);

pub(super) const GROUP_NEVER_READ: Diagnosis = Diagnosis::new(
    Level::Warning,
    "group_never_read",
    "The group has subscribed and has read nothing since: the log keeps every message of its topics for it",
);

pub(super) const LANES_WITHOUT_MEMBER: Diagnosis = Diagnosis::new(
    Level::Error,
    "lanes_without_member",
    "Messages of these lanes are not delivered, while the group looks alive",
);

columns! {
    struct GroupRow {
        name: String,
        members: i64,
        free_lanes: i64,
        lanes: i64,
        read_to: i64,
        starts_after: i64,
    }
}

/// The topic is never read that starts where no lane has come to.
const GROUPS: &str = "\
    SELECT g.name AS name, \
        (SELECT COUNT(*) FROM {members} m WHERE m.group_name = g.name AND m.alive_until > {now}) AS members, \
        (SELECT COUNT(*) FROM {lanes} l WHERE l.group_name = g.name AND (l.member IS NULL OR NOT EXISTS \
            (SELECT 1 FROM {members} m WHERE m.member = l.member AND m.alive_until > {now}))) AS free_lanes, \
        (SELECT COUNT(*) FROM {lanes} l WHERE l.group_name = g.name) AS lanes, \
        (SELECT MAX(l.read_to) FROM {lanes} l WHERE l.group_name = g.name AND l.stream = 0) AS read_to, \
        (SELECT MIN(t.after_seq) FROM {topics} t WHERE t.group_name = g.name AND t.stream = 0) AS starts_after \
    FROM {groups} g ORDER BY g.name";

pub(super) async fn look<DB: OutboxDatabase>(
    log: &Log<DB>,
    only: Option<&str>,
    limit: Duration,
) -> DbResult<Vec<Finding>> {
    let mut findings = Vec::new();
    for group in log.rows::<GroupRow>(GROUPS, Vec::new()).await? {
        let is_whole = group.members > 0 && group.free_lanes == 0;
        if is_whole || only.is_some_and(|only| only != group.name) {
            continue;
        }
        let backlog = log.backlog(&group.name).await?;
        let Some(oldest) = backlog.oldest.filter(|oldest| *oldest > limit) else {
            continue;
        };
        let waits = format!(
            "{} message(s) wait, the oldest for {}",
            backlog.waiting,
            age(micros(oldest))
        );
        findings.push(of_group(&group, &waits));
    }
    Ok(findings)
}

fn of_group(group: &GroupRow, waits: &str) -> Finding {
    let GroupRow {
        name,
        members,
        free_lanes,
        lanes,
        ..
    } = group;
    if *members > 0 {
        return LANES_WITHOUT_MEMBER.found(
            format!("{free_lanes} of {lanes} lanes of the group {name} have no live member, although {members} are there; {waits}"),
            format!(
                "Restart the instances of the service {name} one after the other; `final log lanes {name}` shows who \
                 has which lane"
            ),
        );
    }
    let mend = format!(
        "Start an instance of the service {name}; if it does not come back, run `final log forget {name}`"
    );
    if group.read_to <= group.starts_after {
        return GROUP_NEVER_READ.found(
            format!("no instance of the group {name} has read yet; {waits}"),
            mend,
        );
    }
    GROUP_WITHOUT_MEMBER.found(
        format!("no instance of the group {name} runs; {waits}"),
        mend,
    )
}

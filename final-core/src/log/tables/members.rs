//! Membership: the members of all groups, their leases, and what each member asks about its group.
//!
//! Input: a member and its lease. Output: its row in `final_log_members`, announcements to other processes, and
//! with [`Session::refresh`] everything that a member has to know from time to time.

use std::time::{Duration, Instant};

use uuid::Uuid;

use super::{
    Log,
    dialect::words,
    held::HELD_TOPICS,
    sequence::{self, SequenceRow},
    session::Session,
};
use crate::log::progress::watermark::Watermark;
use crate::{
    OutboxDatabase,
    database::{
        DbResult, columns,
        limits::{duration, micros},
    },
};

/// What other processes are told, where the database can tell them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Announcement {
    /// There are new messages.
    Messages,
    /// Members came or went.
    Members,
}

impl Announcement {
    /// The text of the announcement: the process, so that it does not wake itself, and what it is about.
    fn text(self, process: Uuid) -> String {
        match self {
            Self::Messages => process.to_string(),
            Self::Members => format!("{process} members"),
        }
    }

    /// The announcement in a text, and the process that sent it. A text of another program counts as new messages.
    pub(crate) fn parse(text: &str) -> (Self, &str) {
        match text.split_once(' ') {
            Some((process, _)) => (Self::Members, process),
            None => (Self::Messages, text),
        }
    }
}

/// The answer to [`Session::refresh`].
#[derive(Debug)]
pub(crate) struct Refreshed {
    /// The last visible sequence number. 0 if the log is empty.
    pub(crate) last: i64,
    /// When the next scheduled message is due.
    pub(crate) due_at: Option<Instant>,
    /// The version of the group's subscriptions.
    pub(crate) version: i64,
    /// Live members of the group, this one included.
    pub(crate) members: i64,
    /// Lanes of the group without a live owner.
    pub(crate) free_lanes: i64,
    /// Lanes of this member, by the table.
    pub(crate) own_lanes: i64,
    /// Whether there are buses in other processes.
    pub(crate) others: bool,
    /// Up to this sequence number nothing is missing that was not removed.
    pub(crate) trimmed: i64,
    /// How many messages of the group hold their whole topics.
    pub(crate) held_topics: i64,
    pub(crate) sequence: sequence::SequenceCheck,
}

columns! {
    /// The one row that a refresh gives. The columns from `last_number` on are about the sequence, see
    /// [`SequenceRow`].
    struct RefreshRow {
        last: i64,
        due_in: Option<i64>,
        version: i64,
        members: i64,
        free_lanes: i64,
        own_lanes: i64,
        others: i64,
        trimmed: i64,
        held_topics: i64,
        last_number: Option<i64>,
        highest_row: i64,
        highest_read: i64,
        highest_told: i64,
        highest_trimmed: i64,
        second_at_begin: i64,
        second_at_trimmed: i64,
        last_scheduled: Option<i64>,
        highest_scheduled: Option<i64>,
        clock: i64,
        read_only: bool,
    }
}

impl RefreshRow {
    /// The part of the row about the sequence.
    fn sequence(&self) -> SequenceRow {
        SequenceRow {
            last_number: self.last_number,
            highest_row: self.highest_row,
            highest_read: self.highest_read,
            highest_told: self.highest_told,
            highest_trimmed: self.highest_trimmed,
            second_at_begin: self.second_at_begin,
            second_at_trimmed: self.second_at_trimmed,
            last_scheduled: self.last_scheduled,
            highest_scheduled: self.highest_scheduled,
            clock: self.clock,
        }
    }
}

impl<DB: OutboxDatabase> Log<DB> {
    /// Writes a membership, which lasts as long as its lease.
    pub(crate) async fn join(
        &self,
        group: &str,
        member: Uuid,
        process: Uuid,
        lease: Duration,
    ) -> DbResult<()> {
        // Members that died long ago are forgotten. Their lanes have been free since their leases were over.
        let forget = "DELETE FROM {members} WHERE alive_until < {now} - 86400000000";
        self.run(forget, Vec::new()).await?;
        let join = "{insert} INTO {members} (member, group_name, process, alive_until) \
                    VALUES (?, ?, ?, {now} + ?) {nothing}";
        let values = vec![
            member.into(),
            group.into(),
            process.into(),
            micros(lease).into(),
        ];
        self.run(join, values).await.map(drop)
    }

    /// Extends the lease. False if the membership was removed.
    pub(crate) async fn renew(&self, member: Uuid, lease: Duration) -> DbResult<bool> {
        let renew = "UPDATE {members} SET alive_until = {now} + ? WHERE member = ?";
        let found = self
            .run(renew, vec![micros(lease).into(), member.into()])
            .await?;
        Ok(found > 0)
    }

    /// Removes a membership.
    pub(crate) async fn leave(&self, member: Uuid) -> DbResult<()> {
        let leave = "DELETE FROM {members} WHERE member = ?";
        self.run(leave, vec![member.into()]).await.map(drop)
    }

    /// Makes an announcement to other processes, where the database can.
    pub(crate) async fn notify(&self, process: Uuid, what: Announcement) -> DbResult<()> {
        match words::<DB>().notify {
            Some(notify) => self
                .run(notify, vec![what.text(process).into()])
                .await
                .map(drop),
            None => Ok(()),
        }
    }
}

impl<DB: OutboxDatabase> Session<DB> {
    /// Everything that a member has to know from time to time, in one statement. It also keeps the connection from
    /// being idle for long.
    pub(crate) async fn refresh(
        &mut self,
        group: &str,
        member: Uuid,
        process: Uuid,
        marks: &[Watermark],
    ) -> DbResult<Refreshed> {
        let asked = Instant::now();
        let (of_sequence, values_of_sequence) = sequence::columns(marks);
        let refresh = format!(
            "SELECT \
            (SELECT MAX(seq) FROM {{log}}) AS last, \
            (SELECT MIN(due_at) FROM {{scheduled}}) - {{now}} AS due_in, \
            (SELECT version FROM {{groups}} WHERE name = ?) AS version, \
            (SELECT COUNT(*) FROM {{members}} WHERE group_name = ? AND alive_until > {{now}}) AS members, \
            (SELECT COUNT(*) FROM {{lanes}} l WHERE l.group_name = ? AND (l.member IS NULL OR NOT EXISTS \
                (SELECT 1 FROM {{members}} m WHERE m.member = l.member AND m.alive_until > {{now}}))) AS free_lanes, \
            (SELECT COUNT(*) FROM {{lanes}} WHERE group_name = ? AND member = ?) AS own_lanes, \
            (SELECT COUNT(*) FROM {{members}} WHERE process <> ? AND alive_until > {{now}}) AS others, \
            (SELECT trimmed FROM {{state}} WHERE id = 1) AS trimmed, \
            (SELECT COUNT(*) FROM {HELD_TOPICS}) AS held_topics, \
            {{read_only}} AS read_only, {of_sequence}"
        );
        let mut values = vec![
            group.into(),
            group.into(),
            group.into(),
            group.into(),
            member.into(),
            process.into(),
            group.into(),
        ];
        values.extend(values_of_sequence);
        let row: Option<RefreshRow> = self.first(&refresh, values).await?;
        let row = row.ok_or(sqlx::Error::RowNotFound)?;
        self.found(asked, row.read_only);
        let due_in = row.due_in.map(duration);
        Ok(Refreshed {
            last: row.last,
            due_at: due_in.map(|due_in| asked + due_in),
            version: row.version,
            members: row.members,
            free_lanes: row.free_lanes,
            own_lanes: row.own_lanes,
            others: row.others > 0,
            trimmed: row.trimmed,
            held_topics: row.held_topics,
            sequence: row.sequence().check(marks),
        })
    }
}

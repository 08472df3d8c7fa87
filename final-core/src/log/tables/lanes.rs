//! The rows of a group's lanes: who has each, and how far it has come.

use uuid::Uuid;

use super::{
    Log, Tx,
    extras::{Failure, carry_out},
    lists::padded,
    session::Session,
};
use crate::log::progress::{
    lane::Progress,
    rows::{Advance, LaneId, LaneRow},
    side_effect::SideEffect,
    spans::Spans,
};
use crate::{
    OutboxDatabase,
    database::{DbResult, Value, columns, refused::refuses},
};

/// What became of a commit.
#[derive(Debug)]
pub(crate) enum Committed {
    Done,
    /// Nothing was written: somebody else has these lanes now.
    Lost(Vec<LaneId>),
    /// Nothing was written: the group has subscribed other topics.
    Changed,
    /// Nothing was written: the database does not take one of the extras.
    Refused(sqlx::Error),
}

columns! {
    /// A lane's row as it is read.
    struct LaneColumns {
        stream: i64,
        number: i64,
        member: Option<Uuid>,
        held: i64,
        epoch: i64,
        read_to: i64,
        settled_to: i64,
        open_seqs: String,
        ends_at: Option<i64>,
    }
}

impl From<LaneColumns> for LaneRow {
    fn from(row: LaneColumns) -> Self {
        Self {
            id: LaneId {
                stream: row.stream,
                lane: usize::try_from(row.number).unwrap_or(usize::MAX),
            },
            member: row.member,
            is_held: row.held > 0,
            epoch: row.epoch,
            read_to: row.read_to,
            settled_to: row.settled_to,
            open: Spans::parse(&row.open_seqs),
            ends_at: row.ends_at,
        }
    }
}

impl<DB: OutboxDatabase> Session<DB> {
    pub(crate) async fn lanes(&mut self, group: &str) -> DbResult<Vec<LaneRow>> {
        let lanes = "SELECT l.stream AS stream, CAST(l.lane AS {int}) AS number, l.member AS member, \
                (SELECT COUNT(*) FROM {members} m WHERE m.member = l.member AND m.alive_until > {now}) AS held, \
                l.epoch AS epoch, l.read_to AS read_to, l.settled_to AS settled_to, \
                l.open_seqs AS open_seqs, l.ends_at AS ends_at \
            FROM {lanes} l WHERE l.group_name = ? ORDER BY l.stream, l.lane";
        let rows: Vec<LaneColumns> = self.rows(lanes, vec![group.into()]).await?;
        Ok(rows.into_iter().map(LaneRow::from).collect())
    }

    /// Writes how far lanes have come, and what belongs to it: all or nothing.
    pub(crate) async fn advance(
        &mut self,
        group: &str,
        member: Uuid,
        version: i64,
        lanes: &[Advance],
        extras: &[SideEffect],
    ) -> DbResult<Committed> {
        let done = self
            .try_to_advance(group, member, version, lanes, extras)
            .await;
        self.check(done)
    }

    async fn try_to_advance(
        &mut self,
        group: &str,
        member: Uuid,
        version: i64,
        lanes: &[Advance],
        extras: &[SideEffect],
    ) -> DbResult<Committed> {
        let mut tx = self.begin().await?;
        let current = "SELECT version FROM {groups} WHERE name = ? {share}";
        let current: Option<i64> = tx.first(current, vec![group.into()]).await?;
        if current.unwrap_or_default() != version {
            tx.roll_back().await?;
            return Ok(Committed::Changed);
        }
        let mut lost = Vec::new();
        let (leaving, staying): (Vec<&Advance>, Vec<&Advance>) =
            lanes.iter().partition(|lane| lane.release || lane.remove);
        for lane in leaving {
            if !write(&mut tx, group, member, lane).await? {
                lost.push(lane.id);
            }
        }
        for lanes in staying.chunk_by(|one, other| one.id.stream == other.id.stream) {
            if !write_all(&mut tx, group, member, lanes).await? {
                lost.extend(missing(&mut tx, group, member, lanes).await?);
            }
        }
        if !lost.is_empty() {
            tx.roll_back().await?;
            return Ok(Committed::Lost(lost));
        }
        if extras
            .iter()
            .any(|extra| matches!(extra, SideEffect::Requeue(..)))
        {
            tx.be_durable().await?;
        }
        for extra in extras {
            match carry_out(&mut tx, group, extra).await {
                Ok(()) => {}
                Err(Failure::Refused(error)) => {
                    return tx.give_up().await.map(|()| Committed::Refused(error));
                }
                Err(Failure::Other(error)) => return Err(error),
            }
        }
        match tx.commit().await {
            Ok(()) => Ok(Committed::Done),
            // By a constraint that is checked at the end. Without extras it is not about them.
            Err(error) if !extras.is_empty() && refuses(&error) => Ok(Committed::Refused(error)),
            Err(error) => Err(error),
        }
    }
}

impl<DB: OutboxDatabase> Log<DB> {
    /// Takes a lane nobody alive has, if we are. False if somebody was faster, or stands still in the middle
    /// of writing it: all else of ours must not wait for that.
    pub(crate) async fn claim(&self, group: &str, lane: &LaneRow, member: Uuid) -> DbResult<bool> {
        let claim = "UPDATE {lanes} SET member = ?, epoch = epoch + 1 \
            WHERE group_name = ? AND stream = ? AND lane = ? AND epoch = ? \
              AND (member IS NULL OR NOT EXISTS (SELECT 1 FROM {members} m \
                  WHERE m.member = {lanes}.member AND m.alive_until > {now})) \
              AND EXISTS (SELECT 1 FROM {members} m WHERE m.member = ? AND m.alive_until > {now})";
        let free = "SELECT epoch FROM {lanes} WHERE group_name = ? AND stream = ? AND lane = ? {skip_locked}";
        let mut tx = self.begin().await?;
        let place = key(group, lane.id).to_vec();
        if tx.first::<i64>(free, place).await?.is_none() {
            return tx.roll_back().await.map(|()| false);
        }
        let mut values = vec![member.into()];
        values.extend(key(group, lane.id));
        values.extend([lane.epoch.into(), member.into()]);
        let taken = tx.run(claim, values).await?;
        tx.commit().await?;
        Ok(taken > 0)
    }
}

fn key(group: &str, lane: LaneId) -> [Value<'_>; 3] {
    [group.into(), lane.stream.into(), number(lane.lane)]
}

/// Writes one lane, if it is still ours.
async fn write<DB: OutboxDatabase>(
    tx: &mut Tx<'_, DB>,
    group: &str,
    member: Uuid,
    lane: &Advance,
) -> DbResult<bool> {
    let ours = "WHERE group_name = ? AND stream = ? AND lane = ? AND epoch = ? AND member = ?";
    let mut values: Vec<Value<'_>> = Vec::with_capacity(9);
    let template = if lane.remove {
        format!("DELETE FROM {{lanes}} {ours}")
    } else {
        let Progress {
            read_to,
            open,
            settled_to,
            ..
        } = &lane.progress;
        values.extend([
            (*read_to).into(),
            open.to_string().into(),
            (*settled_to).into(),
        ]);
        let release = if lane.release { ", member = NULL" } else { "" };
        format!("UPDATE {{lanes}} SET read_to = ?, open_seqs = ?, settled_to = ?{release} {ours}")
    };
    values.extend(key(group, lane.id));
    values.extend([lane.epoch.into(), member.into()]);
    Ok(tx.run(&template, values).await? > 0)
}

/// Writes several lanes of one stream by one statement. False if one of them is not ours any more.
async fn write_all<DB: OutboxDatabase>(
    tx: &mut Tx<'_, DB>,
    group: &str,
    member: Uuid,
    lanes: &[&Advance],
) -> DbResult<bool> {
    let Some(first) = lanes.first() else {
        return Ok(true);
    };
    // Repeated lanes do no harm, and there are few texts for the statement cache.
    let all = padded(lanes);
    let mut values: Vec<Value<'_>> = Vec::with_capacity(all.len() * 8 + 3);
    let mut case = |value: &dyn Fn(&Advance) -> Value<'static>| {
        for lane in &all {
            values.extend([number(lane.id.lane), value(lane)]);
        }
        format!("CASE lane{} END", " WHEN ? THEN ?".repeat(all.len()))
    };
    let template = format!(
        "UPDATE {{lanes}} SET read_to = {}, open_seqs = {}, settled_to = {} \
         WHERE group_name = ? AND stream = ? AND member = ? AND ({})",
        case(&|lane| lane.progress.read_to.into()),
        case(&|lane| lane.progress.open.to_string().into()),
        case(&|lane| lane.progress.settled_to.into()),
        vec!["lane = ? AND epoch = ?"; all.len()].join(" OR "),
    );
    values.extend([group.into(), first.id.stream.into(), member.into()]);
    for lane in &all {
        values.extend([number(lane.id.lane), lane.epoch.into()]);
    }
    Ok(tx.run(&template, values).await? == lanes.len() as u64)
}

/// Which of these lanes are not ours any more.
async fn missing<DB: OutboxDatabase>(
    tx: &mut Tx<'_, DB>,
    group: &str,
    member: Uuid,
    lanes: &[&Advance],
) -> DbResult<Vec<LaneId>> {
    let ours = "SELECT CAST(lane AS {int}), epoch FROM {lanes} \
        WHERE group_name = ? AND stream = ? AND member = ?";
    let stream = lanes.first().map_or(0, |lane| lane.id.stream);
    let values = vec![group.into(), stream.into(), member.into()];
    let mut held = Vec::new();
    for (lane, epoch) in tx.rows::<(i64, i64)>(ours, values).await? {
        held.push((usize::try_from(lane).unwrap_or(usize::MAX), epoch));
    }
    let is_lost = |lane: &&&Advance| !held.contains(&(lane.id.lane, lane.epoch));
    Ok(lanes.iter().filter(is_lost).map(|lane| lane.id).collect())
}

fn number(lane: usize) -> Value<'static> {
    i64::try_from(lane).unwrap_or(i64::MAX).into()
}

//! The rows of a group's lanes: the owner of each, and its progress.
//!
//! Input: what the engine wants to write about lanes, with their side effects; or a lane to claim. Output: one
//! transaction that writes all of it or nothing.
//!
//! The epoch is the fence. Claiming a lane raises it, and a member that writes with an older epoch is refused. So a
//! member that was paused past its lease cannot undo what the new owner has written.

use uuid::Uuid;

use super::{
    Log, Tx,
    lists::padded,
    session::Session,
    side_effects::{Failure, carry_out},
};
use crate::log::progress::{
    lane::Progress,
    rows::{Advance, LaneId, LaneRow},
    side_effect::SideEffect,
    spans::Spans,
};
use crate::{
    OutboxDatabase,
    database::{DbResult, Value, columns, limits::by_weight, refused::refuses},
};

/// Bytes of open lists in one statement. The lanes of a stream have nearly the same list, so that together they would
/// not fit into a small `max_allowed_packet`.
const STATEMENT: usize = 32 * 1024;

/// The result of a commit.
#[derive(Debug)]
pub(crate) enum Committed {
    /// Everything was written.
    Done,
    /// Nothing was written: other members have these lanes now.
    Lost(Vec<LaneId>),
    /// Nothing was written: the group has subscribed other topics.
    Changed,
    /// Nothing was written: the database refuses one of the side effects.
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
    /// All lanes of a group.
    pub(crate) async fn lanes(&mut self, group: &str) -> DbResult<Vec<LaneRow>> {
        let lanes = "SELECT l.stream AS stream, CAST(l.lane AS {int}) AS number, l.member AS member, \
                (SELECT COUNT(*) FROM {members} m WHERE m.member = l.member AND m.alive_until > {now}) AS held, \
                l.epoch AS epoch, l.read_to AS read_to, l.settled_to AS settled_to, \
                l.open_seqs AS open_seqs, l.ends_at AS ends_at \
            FROM {lanes} l WHERE l.group_name = ? ORDER BY l.stream, l.lane";
        let rows: Vec<LaneColumns> = self.rows(lanes, vec![group.into()]).await?;
        Ok(rows.into_iter().map(LaneRow::from).collect())
    }

    /// Writes the progress of lanes and its side effects: all or nothing.
    pub(crate) async fn advance(
        &mut self,
        group: &str,
        member: Uuid,
        version: i64,
        lanes: &[Advance],
        effects: &[SideEffect],
    ) -> DbResult<Committed> {
        let done = self
            .try_to_advance(group, member, version, lanes, effects)
            .await;
        self.check(done)
    }

    /// Writes everything in one transaction:
    ///
    /// ```text
    ///   hold the version of the subscriptions ─ it has changed ─────────────▶ Changed
    ///     └▶ lanes that leave, then those that stay ─ one has another epoch ─▶ Lost
    ///          └▶ side effects, COMMIT ─ the database refuses one ───────────▶ Refused
    ///               └▶ Done
    /// ```
    ///
    /// Lanes that stay are written by one statement for each stream. If that finds too few rows, a second
    /// statement tells which lanes are lost.
    async fn try_to_advance(
        &mut self,
        group: &str,
        member: Uuid,
        version: i64,
        lanes: &[Advance],
        effects: &[SideEffect],
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
            for lanes in by_weight(lanes, STATEMENT, |lane| lane.progress.open.text_bytes()) {
                if !write_all(&mut tx, group, member, lanes).await? {
                    lost.extend(missing(&mut tx, group, member, lanes).await?);
                }
            }
        }
        if !lost.is_empty() {
            tx.roll_back().await?;
            return Ok(Committed::Lost(lost));
        }
        if effects
            .iter()
            .any(|effect| matches!(effect, SideEffect::Requeue(..)))
        {
            tx.be_durable().await?;
        }
        for effect in effects {
            match carry_out(&mut tx, group, effect).await {
                Ok(()) => {}
                Err(Failure::Refused(error)) => {
                    return tx
                        .roll_back_refused()
                        .await
                        .map(|()| Committed::Refused(error));
                }
                Err(Failure::Other(error)) => return Err(error),
            }
        }
        match tx.commit().await {
            Ok(()) => Ok(Committed::Done),
            // By a constraint that is checked at the COMMIT. Without side effects it cannot be about them.
            Err(error) if !effects.is_empty() && refuses(&error) => Ok(Committed::Refused(error)),
            Err(error) => Err(error),
        }
    }
}

impl<DB: OutboxDatabase> Log<DB> {
    /// Claims a lane without a live owner, if this member is alive. False if another member was faster.
    ///
    /// Also false if another session has the row locked: an owner may stand still while it writes, and this
    /// member must not wait for that.
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

/// The values of the key of a lane's row.
fn key(group: &str, lane: LaneId) -> [Value<'_>; 3] {
    [group.into(), lane.stream.into(), lane_number(lane.lane)]
}

/// Writes one lane. False if it is another member's by now.
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

/// Writes several lanes of one stream by one statement, with a `CASE` for each column. False if one of them is
/// another member's by now.
async fn write_all<DB: OutboxDatabase>(
    tx: &mut Tx<'_, DB>,
    group: &str,
    member: Uuid,
    lanes: &[&Advance],
) -> DbResult<bool> {
    let Some(first) = lanes.first() else {
        return Ok(true);
    };
    // A repeated lane does no harm, and the statement cache has few texts.
    let all = padded(lanes);
    let mut values: Vec<Value<'_>> = Vec::with_capacity(all.len() * 8 + 3);
    let mut case = |value: &dyn Fn(&Advance) -> Value<'static>| {
        for lane in &all {
            values.extend([lane_number(lane.id.lane), value(lane)]);
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
        values.extend([lane_number(lane.id.lane), lane.epoch.into()]);
    }
    Ok(tx.run(&template, values).await? == lanes.len() as u64)
}

/// The lanes of these that are another member's by now.
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

/// The number of a lane as a value.
fn lane_number(lane: usize) -> Value<'static> {
    i64::try_from(lane).unwrap_or(i64::MAX).into()
}

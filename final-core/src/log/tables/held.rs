//! Rows about messages that are held. They are for operators, and for the next owner of a lane.
//!
//! Input: what the engine holds, and what operators wish. Output: rows of `final_log_held`, and the wishes of a group.
//! The progress does not depend on these rows. A row that is left over after a crash is removed when a lane has a new
//! owner. Until then it holds no topic once its message or its lane is gone.

use uuid::Uuid;

use super::{Log, Tx, session::Session};
use crate::{
    OutboxDatabase,
    database::{DbResult, Value, columns, limits::micros, refused::refuses_values},
    handler::Hold,
    log::progress::{
        held::{HeldRow, HeldWrite, KnownHeld, Wish},
        rows::LaneId,
    },
};

/// Rows of a group that one statement reads. Many members can hold more together.
const PAGE: usize = 2_000;

/// The numbers of what is held.
const KEY: i64 = 0;
const TOPIC: i64 = 1;

/// The numbers of what an operator wishes.
pub(crate) const NO_WISH: i64 = 0;
pub(crate) const RETRY: i64 = 1;
pub(crate) const SKIP: i64 = 2;

/// The rows about messages of a group that hold their whole topics. `max_age` can have removed a message, and the last
/// owner of an ended stream's lane can have crashed before it removed the row.
pub(crate) const HELD_TOPICS: &str = "{held} h WHERE h.group_name = ? AND h.scope = 1 \
    AND EXISTS (SELECT 1 FROM {log} l WHERE l.seq = h.seq AND l.message_id = h.message_id) \
    AND EXISTS (SELECT 1 FROM {lanes} o WHERE o.group_name = h.group_name AND o.stream = h.stream AND o.lane = h.lane)";

columns! {
    /// A row, as the next owner of its lane needs it.
    struct KnownRow {
        seq: i64,
        stream: i64,
        lane_number: i64,
        topic: String,
        scope_number: i64,
        reason: String,
        attempts: i64,
        times: i64,
        is_retried: i64,
        wish_number: i64,
        wish_reason: Option<String>,
    }
}

impl From<KnownRow> for KnownHeld {
    fn from(row: KnownRow) -> Self {
        let small = |number: i64| u32::try_from(number).unwrap_or_default();
        Self {
            seq: row.seq,
            lane: LaneId {
                stream: row.stream,
                lane: usize::try_from(row.lane_number).unwrap_or(usize::MAX),
            },
            topic: row.topic,
            hold: hold_of(row.scope_number),
            reason: row.reason,
            attempts: small(row.attempts),
            times: small(row.times),
            retries: row.is_retried != 0,
            wish: wish_of(row.wish_number, row.wish_reason),
        }
    }
}

/// What a number in the table holds.
pub(crate) fn hold_of(number: i64) -> Hold {
    match number {
        TOPIC => Hold::Topic,
        _ => Hold::Key,
    }
}

fn wish_of(number: i64, reason: Option<String>) -> Option<Wish> {
    match number {
        RETRY => Some(Wish::Retry),
        SKIP => Some(Wish::Skip(reason.unwrap_or_default())),
        _ => None,
    }
}

const KNOWN: &str = "seq, stream, CAST(lane AS {int}) AS lane_number, topic, CAST(scope AS {int}) AS scope_number, \
    reason, attempts, times, CAST(retries AS {int}) AS is_retried, CAST(wish AS {int}) AS wish_number, wish_reason";

impl<DB: OutboxDatabase> Log<DB> {
    /// Everything that is held of a group in lanes that are `meant`.
    pub(crate) async fn held(
        &self,
        group: &str,
        meant: impl Fn(LaneId) -> bool,
    ) -> DbResult<Vec<KnownHeld>> {
        let held = known("{held} WHERE group_name = ?");
        let mut pages = Pages::new(meant);
        while let Some(after) = pages.next() {
            pages.take(self.rows(&held, page(group, after)).await?);
        }
        Ok(pages.found)
    }

    /// The sequence numbers of a group's rows whose lanes are gone with their streams: all of these streams is done.
    pub(crate) async fn held_without_lanes(&self, group: &str) -> DbResult<Vec<i64>> {
        let held = "SELECT h.seq FROM {held} h WHERE h.group_name = ? AND NOT EXISTS (SELECT 1 FROM {lanes} o \
            WHERE o.group_name = h.group_name AND o.stream = h.stream AND o.lane = h.lane) \
            AND h.seq > ? ORDER BY h.seq LIMIT ?";
        // The others are found when these are removed.
        self.rows(held, page(group, 0)).await
    }
}

/// The rows after a sequence number, of some of a table's, in order.
fn known(some: &str) -> String {
    format!("SELECT {KNOWN} FROM {some} AND seq > ? ORDER BY seq LIMIT ?")
}

/// The values of a page.
fn page(group: &str, after: i64) -> Vec<Value<'_>> {
    vec![group.into(), after.into(), (PAGE as i64).into()]
}

/// Rows that are read page by page. Those in lanes that are `meant` are found.
struct Pages<F> {
    meant: F,
    /// The last sequence number of the last page. `None` at the end.
    after: Option<i64>,
    found: Vec<KnownHeld>,
}

impl<F: Fn(LaneId) -> bool> Pages<F> {
    fn new(meant: F) -> Self {
        Self {
            meant,
            after: Some(0),
            found: Vec::new(),
        }
    }

    /// After which sequence number the next page begins.
    fn next(&self) -> Option<i64> {
        self.after
    }

    fn take(&mut self, rows: Vec<KnownRow>) {
        let last = rows.last().map(|row| row.seq);
        self.after = last.filter(|_| rows.len() >= PAGE);
        let known = rows.into_iter().map(KnownHeld::from);
        self.found
            .extend(known.filter(|known| (self.meant)(known.lane)));
    }
}

impl<DB: OutboxDatabase> Session<DB> {
    /// What operators wish for held messages of a group in its `own` lanes.
    pub(crate) async fn wishes(
        &mut self,
        group: &str,
        own: impl Fn(LaneId) -> bool,
    ) -> DbResult<Vec<(i64, Wish)>> {
        let wishes = known(&format!(
            "{{held}} WHERE group_name = ? AND wish <> {NO_WISH}"
        ));
        let mut pages = Pages::new(own);
        while let Some(after) = pages.next() {
            pages.take(self.rows(&wishes, page(group, after)).await?);
        }
        let wishes = pages.found.into_iter();
        Ok(wishes
            .filter_map(|known| Some((known.seq, known.wish?)))
            .collect())
    }

    /// The messages of a group that hold their whole topics, in other lanes than these.
    pub(crate) async fn held_topics(
        &mut self,
        group: &str,
        own: impl Fn(LaneId) -> bool,
    ) -> DbResult<Vec<(String, i64)>> {
        let held = known(HELD_TOPICS);
        let mut pages = Pages::new(|lane| !own(lane));
        while let Some(after) = pages.next() {
            pages.take(self.rows(&held, page(group, after)).await?);
        }
        let held = pages.found.into_iter();
        Ok(held.map(|known| (known.topic, known.seq)).collect())
    }

    /// Writes rows about held messages, all or none.
    ///
    /// What is held in a lane is written only while the lane is this member's. The row of a lane that another member has
    /// would be left over once that member has handled the message.
    pub(crate) async fn write_held(
        &mut self,
        group: &str,
        member: Uuid,
        writes: &[HeldWrite],
    ) -> DbResult<()> {
        let mut done = self.try_to_write_held(group, member, writes, false).await;
        if done.as_ref().is_err_and(refuses_values) {
            // The reason or the key has something that this database does not store.
            done = self.try_to_write_held(group, member, writes, true).await;
        }
        self.check(done)
    }

    async fn try_to_write_held(
        &mut self,
        group: &str,
        member: Uuid,
        writes: &[HeldWrite],
        plain: bool,
    ) -> DbResult<()> {
        let mut tx = self.begin().await?;
        for write in writes {
            let done = match write {
                HeldWrite::Save(row) => {
                    match is_owner(&mut tx, group, member, row.known.lane).await {
                        Ok(true) => save(&mut tx, group, row, plain).await,
                        Ok(false) => Ok(()),
                        Err(error) => Err(error),
                    }
                }
                HeldWrite::Remove(seq) => {
                    let remove = "DELETE FROM {held} WHERE group_name = ? AND seq = ?";
                    let values = vec![group.into(), (*seq).into()];
                    tx.run(remove, values).await.map(drop)
                }
                HeldWrite::Heard(seq) => {
                    let heard = format!(
                        "UPDATE {{held}} SET wish = {NO_WISH} \
                         WHERE group_name = ? AND seq = ? AND wish = {RETRY}"
                    );
                    let values = vec![group.into(), (*seq).into()];
                    tx.run(&heard, values).await.map(drop)
                }
                HeldWrite::Open(seq) => {
                    let open = format!(
                        "UPDATE {{held}} SET scope = {KEY} WHERE group_name = ? AND seq = ?"
                    );
                    let values = vec![group.into(), (*seq).into()];
                    tx.run(&open, values).await.map(drop)
                }
            };
            if let Err(error) = done {
                let _ = tx.roll_back_refused().await;
                return Err(error);
            }
        }
        tx.commit().await
    }
}

/// Whether a lane is this member's. It stays so until the transaction is over.
async fn is_owner<DB: OutboxDatabase>(
    tx: &mut Tx<'_, DB>,
    group: &str,
    member: Uuid,
    lane: LaneId,
) -> DbResult<bool> {
    let owner = "SELECT epoch FROM {lanes} WHERE group_name = ? AND stream = ? AND lane = ? AND member = ? {share}";
    let number = i64::try_from(lane.lane).unwrap_or(i64::MAX);
    let values = vec![
        group.into(),
        lane.stream.into(),
        number.into(),
        member.into(),
    ];
    Ok(tx.first::<i64>(owner, values).await?.is_some())
}

/// Writes that a message is held. Since when it is held, and what an operator wishes, stays as it is.
async fn save<DB: OutboxDatabase>(
    tx: &mut Tx<'_, DB>,
    group: &str,
    row: &HeldRow,
    plain: bool,
) -> DbResult<()> {
    let HeldRow {
        known,
        id,
        key,
        pause,
    } = row;
    // PostgreSQL stores no text with a NUL.
    let text = |text: &str| match plain {
        true => text.escape_default().to_string(),
        false => text.replace('\0', "\u{fffd}"),
    };
    let (reason, key) = (text(&known.reason), key.as_deref().map(text));
    let lane = i64::try_from(known.lane.lane).unwrap_or(i64::MAX);
    let scope = match known.hold {
        Hold::Key => KEY,
        Hold::Topic => TOPIC,
    };
    let state: Vec<Value<'_>> = vec![
        known.lane.stream.into(),
        lane.into(),
        scope.into(),
        reason.as_str().into(),
        i64::from(known.attempts).into(),
        i64::from(known.times).into(),
        i64::from(known.retries).into(),
        micros(*pause).into(),
    ];
    let place: [Value<'_>; 3] = [group.into(), known.seq.into(), (*id).into()];
    let again = format!(
        "UPDATE {{held}} SET stream = ?, lane = ?, scope = ?, reason = ?, attempts = ?, times = ?, retries = ?, \
             retry_at = {{now}} + ?, wish = CASE WHEN wish = {RETRY} THEN {NO_WISH} ELSE wish END \
         WHERE group_name = ? AND seq = ? AND message_id = ?"
    );
    let values = state.iter().cloned().chain(place.iter().cloned()).collect();
    if tx.run(&again, values).await? > 0 {
        return Ok(());
    }
    // If the sequence went back, another message may have had that number.
    let other = "DELETE FROM {held} WHERE group_name = ? AND seq = ?";
    tx.run(other, vec![group.into(), known.seq.into()]).await?;
    let insert = format!(
        "INSERT INTO {{held}} (stream, lane, scope, reason, attempts, times, retries, retry_at, group_name, seq, \
             message_id, topic, message_key, held_since, wish) \
         VALUES (?, ?, ?, ?, ?, ?, ?, {{now}} + ?, ?, ?, ?, ?, ?, {{now}}, {NO_WISH})"
    );
    let mut values: Vec<Value<'_>> = state.into_iter().chain(place).collect();
    values.push(known.topic.as_str().into());
    values.push(key.as_deref().into());
    tx.run(&insert, values).await.map(drop)
}

//! Subscriptions: the topics of a group, and where it starts with each.
//!
//! Input: topics that a service subscribes, and where to start. Output: rows of `final_log_topics` and
//! `final_log_lanes`.
//!
//! ```text
//!   a new group: one stream, MAIN, that goes on for ever
//!   a group that reads already, with a new topic: MAIN from now on, and another stream up to now
//! ```
//!
//! A group may have read past the start of a new topic. So what lies before now is a stream of its own, which ends
//! where the topic was added. The version of the subscriptions grows with every change: progress that was made with
//! older ones is not written.

use std::{collections::HashMap, sync::Arc, time::UNIX_EPOCH};

use super::{Log, Tx, open_numbers::End};
use crate::log::{
    progress::{
        rows::{LANES, MAIN, Topics},
        spans::Spans,
    },
    tuning::StartFrom,
};
use crate::{
    OutboxDatabase,
    database::{DbResult, Value},
};

/// All subscriptions of a group.
#[derive(Debug, Default)]
pub(crate) struct Subscriptions {
    /// Grows with every change.
    pub(crate) version: i64,
    /// The database's clock, in microseconds since 1970.
    pub(crate) now: i64,
    /// The topics of each stream. Stream 0 is the group's own. Another one brings a topic that was added later, up to
    /// where it was added.
    pub(crate) streams: HashMap<i64, Topics>,
}

impl<DB: OutboxDatabase> Log<DB> {
    /// Subscribes the topics that the group has not subscribed yet.
    ///
    /// | the group | the topic starts | it is read |
    /// | --- | --- | --- |
    /// | is new | now, and so do all others | by MAIN, which begins at the end of the log with the open numbers as open |
    /// | is new | earlier, or others do | by MAIN, which begins at the earliest start; each topic counts from its own start |
    /// | reads already | before the end of the log | by MAIN from the end on, and by another stream up to the end |
    /// | either of these two | at the end, below which numbers are open | also by another stream, of the open numbers alone |
    ///
    /// The open numbers belong to open transactions. Their messages become visible later, and a topic that
    /// starts now gets them as well.
    ///
    /// Trimming waits meanwhile, so no row is removed that the group is about to ask for.
    pub(crate) async fn subscribe(
        &self,
        group: &str,
        topics: &[Arc<str>],
        start: StartFrom,
    ) -> DbResult<()> {
        let mut tx = self.begin().await?;
        let known = read(&mut tx, group).await?;
        if topics.iter().all(|topic| is_known(&known, topic)) {
            return tx.roll_back().await;
        }
        let trimmed = hold_trimming(&mut tx).await?;
        // Version and epochs begin with the clock, so those of a group that was forgotten do not come again. A member
        // of the forgotten group could otherwise take the new one for the old.
        let insert = "{insert} INTO {groups} (name, version) VALUES (?, {now}) {nothing}";
        tx.run(insert, vec![group.into()]).await?;
        let lock = "SELECT version FROM {groups} WHERE name = ? {lock}";
        tx.rows::<i64>(lock, vec![group.into()]).await?;
        let known = read(&mut tx, group).await?;

        let main = known.get(&MAIN);
        let is_new = |topic: &&Arc<str>| !is_known(&known, topic);
        let new: Vec<&Arc<str>> = topics.iter().filter(is_new).collect();
        if new.is_empty() {
            return tx.roll_back().await;
        }
        let end = End::read(&mut tx, trimmed).await?;
        let last = end.last;
        let mut starts = Vec::with_capacity(new.len());
        for topic in new {
            starts.push((topic, begin(&mut tx, topic, start, &end).await?));
        }

        let none = Spans::default();
        let mut stream = known.keys().max().map_or(1, |stream| stream + 1);
        let earliest = starts.iter().map(|(_, after)| *after).min().unwrap_or(last);
        // Then the open list has everything that the group's own stream takes up to there.
        let all_begin_now = main.is_none() && earliest == last;
        if all_begin_now {
            for (topic, _) in &starts {
                add_topic(&mut tx, group, MAIN, topic, end.settled_to()).await?;
            }
            add_lanes(&mut tx, group, MAIN, (last, &end.open), None).await?;
        } else if main.is_none() {
            for (topic, after) in &starts {
                add_topic(&mut tx, group, MAIN, topic, *after).await?;
            }
            add_lanes(&mut tx, group, MAIN, (earliest, &none), None).await?;
        } else {
            // The group may have read past the start. Messages before now are read by a stream of their own.
            for (topic, after) in &starts {
                add_topic(&mut tx, group, MAIN, topic, last).await?;
                if *after < last {
                    add_topic(&mut tx, group, stream, topic, *after).await?;
                }
            }
            if earliest < last {
                add_lanes(&mut tx, group, stream, (earliest, &none), Some(last)).await?;
                stream += 1;
            }
        }
        starts.retain(|(_, after)| *after == last && !all_begin_now);
        if !starts.is_empty() && !end.open.is_empty() {
            for (topic, _) in &starts {
                add_topic(&mut tx, group, stream, topic, end.settled_to()).await?;
            }
            add_lanes(&mut tx, group, stream, (last, &end.open), Some(last)).await?;
        }
        let version = "UPDATE {groups} SET version = version + 1 WHERE name = ?";
        tx.run(version, vec![group.into()]).await?;
        tx.commit().await
    }

    /// All subscriptions of a group.
    pub(crate) async fn subscriptions(&self, group: &str) -> DbResult<Subscriptions> {
        let mut tx = self.begin().await?;
        let version = "SELECT version, {now} FROM {groups} WHERE name = ? {share}";
        let version = tx.first::<(i64, i64)>(version, vec![group.into()]).await?;
        let (version, now) = version.unwrap_or_default();
        let streams = read(&mut tx, group).await?;
        tx.commit().await?;
        Ok(Subscriptions {
            version,
            now,
            streams,
        })
    }

    /// Removes a group's unread messages and its dead letters. Messages of open transactions stay: their
    /// numbers are listed as open. False if a member of the group is alive.
    pub(crate) async fn purge(&self, group: &str) -> DbResult<bool> {
        let mut tx = self.begin().await?;
        let trimmed = hold_trimming(&mut tx).await?;
        let alive = "SELECT COUNT(*) FROM {members} WHERE group_name = ? AND alive_until > {now}";
        let alive: Option<i64> = tx.first(alive, vec![group.into()]).await?;
        if alive.unwrap_or_default() > 0 {
            return tx.roll_back().await.map(|()| false);
        }
        let end = End::read(&mut tx, trimmed).await?;
        // Streams of topics that were added later are done as well.
        let brought = "DELETE FROM {lanes} WHERE group_name = ? AND stream <> 0";
        tx.run(brought, vec![group.into()]).await?;
        let settled_to = end.settled_to();
        let begin = "UPDATE {topics} SET after_seq = ? WHERE group_name = ? AND stream = 0 AND after_seq > ?";
        let values = vec![settled_to.into(), group.into(), settled_to.into()];
        tx.run(begin, values).await?;
        let skip = "UPDATE {lanes} SET epoch = epoch + 1, read_to = ?, settled_to = ?, open_seqs = ? \
            WHERE group_name = ?";
        let values = vec![
            end.last.into(),
            settled_to.into(),
            end.open.to_string().into(),
            group.into(),
        ];
        tx.run(skip, values).await?;
        for table in ["{dead}", "{held}"] {
            let delete = format!("DELETE FROM {table} WHERE group_name = ?");
            tx.run(&delete, vec![group.into()]).await?;
        }
        tx.commit().await?;
        Ok(true)
    }

    /// Forgets a group: its subscriptions, its progress, and its dead letters. Messages that only this group has not
    /// read can then be removed. False if the group was not known.
    pub(crate) async fn forget(&self, group: &str) -> DbResult<bool> {
        let mut tx = self.begin().await?;
        hold_trimming(&mut tx).await?;
        for table in ["{lanes}", "{topics}", "{dead}", "{held}"] {
            let delete = format!("DELETE FROM {table} WHERE group_name = ?");
            tx.run(&delete, vec![group.into()]).await?;
        }
        let delete = "DELETE FROM {groups} WHERE name = ?";
        let found = tx.run(delete, vec![group.into()]).await?;
        tx.commit().await?;
        Ok(found > 0)
    }
}

/// Holds the lock that trimming takes until the transaction is over. Returns up to where the log was trimmed.
pub(crate) async fn hold_trimming<DB: OutboxDatabase>(tx: &mut Tx<'_, DB>) -> DbResult<i64> {
    let state = "SELECT trimmed FROM {state} WHERE id = 1 {lock}";
    Ok(tx.first(state, Vec::new()).await?.unwrap_or_default())
}

/// Whether the group has subscribed a topic.
fn is_known(known: &HashMap<i64, Topics>, topic: &Arc<str>) -> bool {
    known
        .get(&MAIN)
        .is_some_and(|main| main.contains_key(topic))
}

/// The topics of each stream.
async fn read<DB: OutboxDatabase>(
    tx: &mut Tx<'_, DB>,
    group: &str,
) -> DbResult<HashMap<i64, Topics>> {
    let topics = "SELECT stream, topic, after_seq FROM {topics} WHERE group_name = ?";
    let mut streams: HashMap<i64, Topics> = HashMap::new();
    let rows: Vec<(i64, String, i64)> = tx.rows(topics, vec![group.into()]).await?;
    for (stream, topic, after) in rows {
        let stream = streams.entry(stream).or_default();
        stream.insert(topic.into(), after);
    }
    Ok(streams)
}

/// The sequence number after which a topic starts.
async fn begin<DB: OutboxDatabase>(
    tx: &mut Tx<'_, DB>,
    topic: &str,
    start: StartFrom,
    end: &End,
) -> DbResult<i64> {
    match start {
        StartFrom::Beginning => Ok(0),
        StartFrom::New => {
            let anybody = "SELECT COUNT(*) FROM {topics} WHERE topic = ?";
            let anybody: Option<i64> = tx.first(anybody, vec![topic.into()]).await?;
            Ok(match anybody {
                Some(1..) => end.last,
                _ => 0,
            })
        }
        StartFrom::At(time) => {
            let time = time.duration_since(UNIX_EPOCH).unwrap_or_default();
            let time = i64::try_from(time.as_micros()).unwrap_or(i64::MAX);
            let first = "SELECT MIN(seq) FROM {log} WHERE topic = ? AND created_at >= ?";
            let values = vec![topic.into(), time.into()];
            let first: Option<Option<i64>> = tx.first(first, values).await?;
            let begin = first
                .flatten()
                .map_or(end.last, |first| first - 1)
                .min(end.last);
            // A row that is not visible yet was written at about the same time as its neighbours.
            Ok(match end.open.first() {
                Some(first) if first <= begin => begin.min(end.before(tx, time).await?),
                _ => begin,
            })
        }
    }
}

/// Adds a topic to a stream.
async fn add_topic<DB: OutboxDatabase>(
    tx: &mut Tx<'_, DB>,
    group: &str,
    stream: i64,
    topic: &str,
    after: i64,
) -> DbResult<()> {
    let insert = "INSERT INTO {topics} (group_name, stream, topic, after_seq) VALUES (?, ?, ?, ?)";
    let values = vec![group.into(), stream.into(), topic.into(), after.into()];
    tx.run(insert, values).await.map(drop)
}

/// Adds the sixteen lanes of a stream. It starts after a sequence number, and the open numbers below that are
/// left to do.
async fn add_lanes<DB: OutboxDatabase>(
    tx: &mut Tx<'_, DB>,
    group: &str,
    stream: i64,
    (after, open): (i64, &Spans),
    ends_at: Option<i64>,
) -> DbResult<()> {
    let insert = "INSERT INTO {lanes} \
        (group_name, stream, lane, epoch, read_to, open_seqs, settled_to, ends_at) \
        VALUES (?, ?, ?, {now}, ?, ?, ?, ?)";
    for lane in 0..LANES {
        let values = vec![
            group.into(),
            stream.into(),
            i64::try_from(lane).unwrap_or(0).into(),
            after.into(),
            open.to_string().into(),
            open.first().map_or(after, |first| first - 1).into(),
            Value::Int(ends_at),
        ];
        tx.run(insert, values).await?;
    }
    Ok(())
}

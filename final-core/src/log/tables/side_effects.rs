//! Side effects in the transaction of the progress: dead letters, requeued and postponed messages.
//!
//! Input: side effects of settled messages. Output: rows of `final_log_dead`, `final_log` and `final_log_scheduled`, in
//! the transaction that
//! says that the messages are settled. If the database refuses one, trials in transactions that are rolled back
//! find out which, and which form of it is taken.

use super::{Tx, session::Session};
use crate::log::progress::{
    letter::{LetterColumns, LetterDraft},
    side_effect::{LaterCopy, SideEffect},
};
use crate::{
    OutboxDatabase,
    database::{
        DbResult, Value,
        limits::micros,
        refused::{code, refuses, refuses_values},
    },
};

/// Why a side effect was not written.
pub(crate) enum Failure {
    /// The database refuses it. The transaction may be over.
    Refused(sqlx::Error),
    /// The database has failed. It may take the side effect later.
    Other(sqlx::Error),
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        if refuses(&error) {
            Self::Refused(error)
        } else {
            Self::Other(error)
        }
    }
}

/// Refusals that one round of trials looks into. The rest waits for the next round.
const MOST_REFUSALS: usize = 500;

/// The result of a round of trials.
#[derive(Default)]
pub(crate) struct Tried {
    /// Side effects that are refused in every form, by their places in the list, and why.
    pub(crate) refused: Vec<(usize, sqlx::Error)>,
    /// From this place on nothing was tried.
    pub(crate) untried: Option<usize>,
    /// Whether a letter was changed.
    pub(crate) changed: bool,
}

impl<DB: OutboxDatabase> Session<DB> {
    /// Finds the side effects that are refused, and for each letter a form that is taken, if there is one. Everything
    /// is tried in transactions that are rolled back, so nothing is written.
    pub(crate) async fn try_out(
        &mut self,
        group: &str,
        effects: &mut [SideEffect],
    ) -> DbResult<Tried> {
        let (mut tried, mut refusals) = (Tried::default(), 0);
        let mut from = 0;
        while from < effects.len() {
            let Some((at, error)) = self.first_refused(group, effects, from).await? else {
                break;
            };
            from = at;
            refusals += 1;
            if self.simplify(&mut effects[at], &error).await? {
                tried.changed = true;
            } else {
                tried.refused.push((at, error));
                from += 1;
            }
            if refusals >= MOST_REFUSALS {
                tried.untried = Some(from).filter(|from| *from < effects.len());
                break;
            }
        }
        Ok(tried)
    }

    /// Why the database refuses a side effect even in its simplest form. `None` if it takes it by now.
    pub(crate) async fn would_take(
        &mut self,
        group: &str,
        effect: &SideEffect,
    ) -> DbResult<Option<sqlx::Error>> {
        let mut simplest = [effect.clone()];
        if let [SideEffect::DeadLetter(_, letter)] = &mut simplest {
            letter.be_simplest();
        }
        let refused = self.first_refused(group, &simplest, 0).await?;
        Ok(refused.map(|(_, error)| error))
    }

    /// The first side effect from a place on that is refused, with its place. Nothing is written.
    async fn first_refused(
        &mut self,
        group: &str,
        effects: &[SideEffect],
        from: usize,
    ) -> DbResult<Option<(usize, sqlx::Error)>> {
        let first = self.look_for_refused(group, effects, from).await;
        self.check(first)
    }

    /// Writes them one after the other in a transaction that is rolled back. Constraints and triggers that
    /// would wait for the COMMIT act at each statement.
    async fn look_for_refused(
        &mut self,
        group: &str,
        effects: &[SideEffect],
        from: usize,
    ) -> DbResult<Option<(usize, sqlx::Error)>> {
        let mut tx = self.begin().await?;
        tx.be_strict().await?;
        for (at, effect) in effects.iter().enumerate().skip(from) {
            match carry_out(&mut tx, group, effect).await {
                Ok(()) => {}
                Err(Failure::Refused(error)) => {
                    return tx.roll_back_refused().await.map(|()| Some((at, error)));
                }
                Err(Failure::Other(error)) => return Err(error),
            }
        }
        tx.roll_back().await.map(|()| None)
    }

    /// Gives a letter its next form. False if it has none.
    async fn simplify(&mut self, effect: &mut SideEffect, error: &sqlx::Error) -> DbResult<bool> {
        let SideEffect::DeadLetter(seq, letter) = effect else {
            return Ok(false);
        };
        // If the error is not about values, another form would be refused as well. A table that passes a row over
        // gives no error, and may go by the row's values.
        if error.as_database_error().is_some() && !refuses_values(error) {
            return Ok(false);
        }
        if letter.needs_headers() {
            let headers = "SELECT headers FROM {log} WHERE seq = ?";
            let headers: Option<Option<String>> = self.first(headers, vec![(*seq).into()]).await?;
            letter.set_headers(headers.flatten());
        }
        Ok(letter.simplify(&code(error)))
    }
}

/// Writes a side effect.
pub(crate) async fn carry_out<DB: OutboxDatabase>(
    tx: &mut Tx<'_, DB>,
    group: &str,
    effect: &SideEffect,
) -> Result<(), Failure> {
    match effect {
        SideEffect::DeadLetter(seq, letter) => write_dead_letter(tx, group, *seq, letter).await,
        SideEffect::Requeue(seq, lane) => requeue(tx, group, *seq, *lane).await,
        SideEffect::Postpone(seq, copy) => postpone(tx, group, *seq, copy).await,
    }
}

/// Writes a dead letter. It does not use an INSERT that leaves out rows that are there already: on MySQL such
/// an INSERT also leaves out a row that a CHECK refuses, and the letter would be gone.
///
/// A letter has the sequence number of its message. So it is written once, even if its commit was not answered.
/// If the sequence went back, the letter of another message may have that number. Then it takes a number below
/// all others.
///
/// | the letter was not written, because | what happens |
/// | --- | --- |
/// | a letter of this message is there | nothing more to do |
/// | a letter of another message has its number | it takes a number below all others |
/// | the message is gone from the log | nothing more to do |
/// | a trigger or a rule keeps the row out | it counts as refused |
async fn write_dead_letter<DB: OutboxDatabase>(
    tx: &mut Tx<'_, DB>,
    group: &str,
    seq: i64,
    letter: &LetterDraft,
) -> Result<(), Failure> {
    if write_letter(tx, group, seq, seq, letter).await? {
        return Ok(());
    }
    // The letter is there already, or its message was removed, or a trigger has passed the row over.
    let why = "SELECT (SELECT COUNT(*) FROM {log} WHERE seq = ?), \
        (SELECT COUNT(*) FROM {dead} WHERE group_name = ? AND seq = ?), \
        (SELECT COUNT(*) FROM {dead} d, {log} l WHERE d.group_name = ? AND d.seq = ? AND l.seq = ? \
             AND l.message_id = d.message_id), \
        (SELECT MIN(seq) FROM {dead} WHERE group_name = ?)";
    let (group_name, number) = (Value::from(group), Value::from(seq));
    let values = vec![
        number.clone(),
        group_name.clone(),
        number.clone(),
        group_name.clone(),
        number.clone(),
        number,
        group_name,
    ];
    match tx.first::<(i64, i64, i64, i64)>(why, values).await? {
        Some((1.., 1.., 0, lowest)) => {
            let free = lowest.min(0) - 1;
            if write_letter(tx, group, seq, free, letter).await? {
                return Ok(());
            }
        }
        Some((1.., 0, _, _)) => {}
        _ => return Ok(()),
    }
    Err(Failure::Refused(passed_over("final_log_dead")))
}

/// Writes the letter of a message under a number, unless another letter has it. False if nothing was written.
async fn write_letter<DB: OutboxDatabase>(
    tx: &mut Tx<'_, DB>,
    group: &str,
    seq: i64,
    number: i64,
    letter: &LetterDraft,
) -> Result<bool, Failure> {
    let LetterColumns {
        reason,
        key,
        headers,
    } = letter.parts();
    let mut values: Vec<Value<'_>> = vec![group.into(), number.into()];
    let headers = match headers {
        Some(text) => {
            values.push(text.into());
            "?"
        }
        None if key => "headers",
        None => "NULL",
    };
    let key = if key { "message_key" } else { "NULL" };
    let copy = format!(
        "INSERT INTO {{dead}} (group_name, seq, {{message}}, reason, attempts, died_at) \
         SELECT ?, CAST(? AS {{int}}), message_id, topic, {key}, {headers}, payload, content_type, durable, lane, \
             weight, ?, ?, {{now}} FROM {{log}} \
         WHERE seq = ? AND NOT EXISTS \
             (SELECT 1 FROM {{dead}} d WHERE d.group_name = ? AND d.seq = ?)"
    );
    values.extend([
        reason.into(),
        i64::from(letter.attempts()).into(),
        seq.into(),
        group.into(),
        number.into(),
    ]);
    Ok(tx.run(&copy, values).await? > 0)
}

/// Writes a copy of a message for the group alone, at the end of a lane. If the message is gone from the log,
/// there is nothing to requeue.
async fn requeue<DB: OutboxDatabase>(
    tx: &mut Tx<'_, DB>,
    group: &str,
    seq: i64,
    lane: usize,
) -> Result<(), Failure> {
    let copy = "INSERT INTO {log} (message_id, topic, message_key, headers, payload, \
            content_type, durable, lane, weight, recipient, expires_at, created_at) \
        SELECT message_id, topic, message_key, headers, payload, content_type, durable, \
            CAST(? AS {int}), weight, ?, expires_at, {now} FROM {log} WHERE seq = ?";
    let lane = i64::try_from(lane).unwrap_or(0);
    let values = vec![lane.into(), group.into(), seq.into()];
    if tx.run(copy, values).await? > 0 {
        return Ok(());
    }
    must_be_gone(tx, seq, "final_log").await
}

/// Writes a copy of a message for the group alone, among the messages that are not due yet. Its time to live no longer
/// counts, because it has been delivered in time. If the message is gone from the log, there is nothing to postpone.
async fn postpone<DB: OutboxDatabase>(
    tx: &mut Tx<'_, DB>,
    group: &str,
    seq: i64,
    later: &LaterCopy,
) -> Result<(), Failure> {
    let copy = "INSERT INTO {scheduled} (message_id, topic, message_key, headers, payload, \
            content_type, durable, lane, weight, recipient, expires_at, created_at, due_at) \
        SELECT message_id, topic, message_key, ?, payload, content_type, durable, \
            CAST(? AS {int}), weight, ?, NULL, {now}, {now} + ? FROM {log} WHERE seq = ?";
    let values = vec![
        later.headers.as_deref().into(),
        i64::try_from(later.lane).unwrap_or(0).into(),
        group.into(),
        micros(later.delay).into(),
        seq.into(),
    ];
    if tx.run(copy, values).await? > 0 {
        return Ok(());
    }
    must_be_gone(tx, seq, "final_log_scheduled").await
}

/// No row was written. That is right if the message is gone from the log, and a refusal otherwise.
async fn must_be_gone<DB: OutboxDatabase>(
    tx: &mut Tx<'_, DB>,
    seq: i64,
    table: &str,
) -> Result<(), Failure> {
    let is_there = "SELECT COUNT(*) FROM {log} WHERE seq = ?";
    let is_there: Option<i64> = tx.first(is_there, vec![seq.into()]).await?;
    if is_there.unwrap_or_default() > 0 {
        return Err(Failure::Refused(passed_over(table)));
    }
    Ok(())
}

/// The error for a row that a table has passed over.
pub(crate) fn passed_over(table: &str) -> sqlx::Error {
    let text = format!(
        "{table} took no row and gave no error: a trigger or a rule of the table passes it over"
    );
    sqlx::Error::Protocol(text)
}

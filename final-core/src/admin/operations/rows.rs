//! The rows of `final_operations`.
//!
//! Input: a plan; or a number, or a filter. Output: a row; or [`Operation`]s.

use sqlx::Pool;

use super::{OPERATIONS, Operation, OperationFilter, OperationState, make_operations};
use crate::{
    OutboxDatabase,
    admin::{
        Action, AdminError, Answer, Count, Selection,
        desk::{Desk, doing},
        plan::CutOff,
    },
    database::{
        DbResult, Value, columns,
        limits::{count, error_text, moment},
    },
};

/// How many operations are listed, unless the filter says something else, and how many at most.
const USUAL: u32 = 100;
const MOST: u32 = 1_000;

/// How often a number is looked for while other programs are faster.
const TRIES: u32 = 16;

/// How much of a name is kept.
const MOST_NAME: usize = 200;

columns! {
    /// An operation as it is read.
    pub(in crate::admin) struct OperationRow {
        id: i64,
        pub(in crate::admin) service: String,
        who: String,
        action: String,
        subject: String,
        filter: String,
        pub(in crate::admin) terms: String,
        cut_off: i64,
        cut_off_seq: i64,
        total: i64,
        more: i64,
        done: i64,
        refused: i64,
        refusal: Option<String>,
        state: String,
        planned_at: i64,
        started_at: Option<i64>,
        ended_at: Option<i64>,
    }
}

const COLUMNS: &str = "id, service, who, action, subject, filter, terms, cut_off, cut_off_seq, total, more, done, \
    refused, refusal, state, planned_at, started_at, ended_at";

/// A plan that is to be written down.
pub(in crate::admin) struct NewOperation<'a> {
    pub(in crate::admin) service: &'a str,
    pub(in crate::admin) who: &'a str,
    pub(in crate::admin) action: Action,
    pub(in crate::admin) selection: &'a Selection,
    pub(in crate::admin) cut_off: CutOff,
    pub(in crate::admin) total: Count,
}

impl OperationRow {
    pub(in crate::admin) fn cut_off(&self) -> CutOff {
        CutOff {
            at: self.cut_off,
            seq: self.cut_off_seq,
        }
    }

    /// Whether it is about letters.
    pub(in crate::admin) fn on_letters(&self) -> bool {
        self.subject == "letters"
    }

    /// The action; `None` if a newer release has planned it.
    pub(in crate::admin) fn action(&self) -> Option<Action> {
        match self.action.as_str() {
            "replay" => Some(Action::Replay),
            "retry" => Some(Action::Retry),
            "discard" => Some(Action::Discard),
            _ => None,
        }
    }

    /// How many are still to be done, with the limit of its filter; `None` if their number is not known.
    pub(in crate::admin) fn left(&self, limit: Option<u32>) -> Option<u64> {
        let counted = (self.more == 0).then_some(self.total);
        let all = counted.into_iter().chain(limit.map(i64::from)).min();
        all.map(|all| count(all - self.done))
    }

    pub(in crate::admin) fn is_done(&self) -> bool {
        self.state == "done"
    }

    pub(in crate::admin) fn is_stopped(&self) -> bool {
        self.state == "stopped"
    }

    /// The state as it stands in the table.
    pub(in crate::admin) fn state(&self) -> &str {
        &self.state
    }

    /// The operation. `is_held` says whether a program carries it out now.
    pub(in crate::admin) fn operation(self, is_held: bool) -> Operation {
        let state = match self.state.as_str() {
            "planned" => OperationState::Planned,
            "running" if is_held => OperationState::Running,
            "running" => OperationState::Interrupted,
            "stopped" => OperationState::Stopped,
            _ => OperationState::Done,
        };
        Operation {
            id: self.id,
            on_letters: self.on_letters(),
            action: self.action().unwrap_or(Action::Discard),
            service: self.service,
            who: self.who,
            filter: self.filter,
            cut_off: moment(self.cut_off),
            total: Count {
                number: count(self.total),
                more: self.more != 0,
            },
            done: count(self.done),
            refused: count(self.refused),
            refusal: self.refusal,
            state,
            planned_at: moment(self.planned_at),
            started_at: self.started_at.map(moment),
            ended_at: self.ended_at.map(moment),
        }
    }
}

impl<DB: OutboxDatabase> Desk<DB> {
    /// Makes the tables of operations, if they are missing.
    pub(in crate::admin) async fn ready_for_operations(&self) -> Answer<()> {
        let there = self.has_table(OPERATIONS).await;
        if !there.map_err(doing("looking for the table of operations"))? {
            let pool: Pool<DB> = self.pool();
            make_operations::<DB>(&pool).await?;
        }
        Ok(())
    }

    /// Writes a plan down. Returns its number.
    pub(in crate::admin) async fn write_down(&self, new: &NewOperation<'_>) -> DbResult<i64> {
        let on_letters = matches!(new.selection, Selection::Letters(_));
        let subject = if on_letters { "letters" } else { "records" };
        let who: String = new
            .who
            .chars()
            .filter(|c| *c != '\0')
            .take(MOST_NAME)
            .collect();
        let (action, filter) = (new.action.to_string(), new.selection.sentence());
        let (filter, terms) = (filter.replace('\0', " "), new.selection.terms());
        let write = format!(
            "INSERT INTO {{operations}} ({COLUMNS}) \
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, 0, NULL, 'planned', {{now}}, NULL, NULL)"
        );
        for _ in 0..TRIES {
            // Two plans at the same time would have the same number, and the key lets only one of them have it.
            let highest = "SELECT MAX(id) FROM {operations}";
            let highest: Option<Option<i64>> = self.first(highest, &[]).await?;
            let id = highest.flatten().unwrap_or(0) + 1;
            let values = [
                id.into(),
                new.service.into(),
                who.as_str().into(),
                action.as_str().into(),
                subject.into(),
                filter.as_str().into(),
                terms.as_str().into(),
                new.cut_off.at.into(),
                new.cut_off.seq.into(),
                i64::try_from(new.total.number).unwrap_or(i64::MAX).into(),
                i64::from(new.total.more).into(),
            ];
            let mut tx = self.begin().await?;
            match tx.run(&write, &values).await {
                Ok(_) => return tx.commit().await.map(|()| id),
                Err(sqlx::Error::Database(error)) if error.is_unique_violation() => {}
                Err(error) if DB::is_deadlock(&error) => {}
                Err(error) => return Err(error),
            }
            tx.roll_back().await?;
        }
        Err(sqlx::Error::Configuration(
            "other programs have taken each number for an operation; try again".into(),
        ))
    }

    /// The row of an operation.
    pub(in crate::admin) async fn operation_row(&self, id: i64) -> Answer<OperationRow> {
        let row = format!("SELECT {COLUMNS} FROM {{operations}} WHERE id = ?");
        let row = self.first(&row, &[id.into()]).await;
        match row {
            Err(error) if DB::is_missing_table(&error, OPERATIONS) => {
                Err(AdminError::UnknownOperation(id))
            }
            row => row
                .map_err(doing("reading an operation"))?
                .ok_or(AdminError::UnknownOperation(id)),
        }
    }

    /// How long the lease of an operation lasts, in microseconds. `None` if nobody carries it out.
    pub(in crate::admin) async fn lease_left(&self, id: i64) -> DbResult<Option<i64>> {
        let left = "SELECT live_until - {now} FROM {leases} WHERE name = ? AND live_until > {now}";
        self.first(left, &[id.to_string().into()]).await
    }

    /// An operation as it stands.
    pub(in crate::admin) async fn operation(&self, id: i64) -> Answer<Operation> {
        let row = self.operation_row(id).await?;
        let left = self.lease_left(id).await;
        let left = left.map_err(doing("reading the lease of an operation"))?;
        Ok(row.operation(left.is_some()))
    }

    /// The operations that a filter means, the latest first.
    pub(in crate::admin) async fn operations(
        &self,
        filter: &OperationFilter,
    ) -> DbResult<Vec<Operation>> {
        let mut condition = "1 = 1".to_owned();
        let mut values: Vec<Value<'_>> = Vec::new();
        if let Some(service) = &filter.service {
            condition.push_str(" AND service = ?");
            values.push(service.as_str().into());
        }
        if filter.unfinished {
            condition.push_str(" AND state <> 'done'");
        }
        if let Some(before) = filter.before {
            condition.push_str(" AND id < ?");
            values.push(before.into());
        }
        values.push(i64::from(filter.limit.unwrap_or(USUAL).min(MOST)).into());
        let rows = format!(
            "SELECT {COLUMNS} FROM {{operations}} WHERE {condition} ORDER BY id DESC LIMIT ?"
        );
        let rows: Vec<OperationRow> = match self.rows(&rows, &values).await {
            Err(error) if DB::is_missing_table(&error, OPERATIONS) => return Ok(Vec::new()),
            rows => rows?,
        };
        let held = "SELECT name FROM {leases} WHERE live_until > {now}";
        let held: Vec<String> = self.rows(held, &[]).await?;
        let operation = |row: OperationRow| {
            let is_held = held.contains(&row.id.to_string());
            row.operation(is_held)
        };
        Ok(rows.into_iter().map(operation).collect())
    }

    /// Stops an operation that is not done.
    pub(in crate::admin) async fn stop(&self, id: i64) -> Answer<Operation> {
        if self.operation_row(id).await?.is_done() {
            return Err(AdminError::OperationEnded(id));
        }
        let stop = "UPDATE {operations} SET state = 'stopped', ended_at = {now} \
            WHERE id = ? AND state IN ('planned', 'running')";
        let stopped = async {
            let mut tx = self.begin().await?;
            tx.run(stop, &[id.into()]).await?;
            tx.commit().await
        };
        stopped.await.map_err(doing("stopping an operation"))?;
        self.operation(id).await
    }

    /// Counts one that the database refuses.
    pub(in crate::admin) async fn note_refusal(
        &self,
        id: i64,
        error: &sqlx::Error,
    ) -> DbResult<()> {
        let note = "UPDATE {operations} SET refused = refused + 1, refusal = ? WHERE id = ?";
        let mut tx = self.begin().await?;
        tx.run(note, &[error_text(&error.to_string()).into(), id.into()])
            .await?;
        tx.commit().await
    }
}

//! What is done with the rows of a batch.
//!
//! Input: an action, the part of a plan that it is for, and keys. Output: statements inside a transaction. Rows that
//! the database refuses are found by halves, and stay as they are.

use uuid::Uuid;

use super::{HELD, Held};
use crate::{
    OutboxDatabase,
    admin::{
        Action, LetterSource, RecordState,
        desk::{Desk, DeskTx, TRIES, table_of},
        plan::PlanPart,
        services::ServiceTables,
        walk::WalkPlace,
    },
    database::{
        DbResult, Dialect, Value,
        batch::{begin_batch, takes_too_long},
        insert::{all_changed, all_written},
        lists::{list, padded},
        refused::refuses_values,
        removal::removal,
    },
    log::REPLAY,
    outbox::statements::Statements,
};

/// The rows of a batch: numbers of letters, or ids of records.
pub(super) type Keys = Vec<WalkPlace>;

/// The result of a batch.
pub(super) enum Batched {
    Done {
        done: u64,
        refused: u64,
        /// How many rows other sessions had locked.
        passed_over: u64,
    },
    /// The operation was stopped, or another program has it. Nothing was changed by the last transaction.
    TakenAway,
}

/// The result of one transaction.
enum Tried {
    Done {
        done: u64,
        passed_over: u64,
    },
    TakenAway,
    /// The database refuses one of the rows.
    Refused(sqlx::Error),
}

/// An action on one part of a plan.
pub(super) struct Work<'a> {
    action: Action,
    part: PlanPart,
    service: &'a str,
    /// The table that the rows are in.
    table: String,
    statements: Statements,
}

impl<'a> Work<'a> {
    pub(super) async fn new<DB: OutboxDatabase>(
        desk: &Desk<DB>,
        action: Action,
        part: PlanPart,
        tables: &'a ServiceTables,
    ) -> DbResult<Self> {
        let table = match part {
            PlanPart::Letters(source) => source.table::<DB>(tables),
            PlanPart::Records(_) => table_of(DB::DIALECT, &tables.service.table()),
        };
        Ok(Self {
            action,
            part,
            service: tables.service.as_str(),
            table,
            statements: desk.statements(&tables.service).await?,
        })
    }

    /// Whether members of the log are to hear of its rows.
    pub(super) fn wakes_readers(&self) -> bool {
        self.action == Action::Replay && self.part == PlanPart::Letters(LetterSource::Log)
    }

    /// The condition that a row is one of these, and its values.
    fn listed(&self, keys: &[WalkPlace]) -> (String, Vec<Value<'a>>) {
        match self.part {
            PlanPart::Letters(source) => {
                let (owned, mut values) = source.owned(self.service);
                let seqs: Vec<i64> = keys.iter().map(|key| key.number).collect();
                let seqs = padded(&seqs);
                let listed = format!("{owned} AND seq IN ({})", list(seqs.len()));
                values.extend(seqs.into_iter().map(Value::from));
                (listed, values)
            }
            PlanPart::Records(state) => {
                let ids: Vec<Uuid> = keys.iter().map(|key| key.id).collect();
                let ids = padded(&ids);
                let listed = format!(
                    "message_id IN ({}) AND status = {}",
                    list(ids.len()),
                    state.status()
                );
                (listed, ids.into_iter().map(Value::from).collect())
            }
        }
    }

    /// The column by which rows are found.
    fn column(&self) -> &'static str {
        match self.part {
            PlanPart::Letters(_) => "seq",
            PlanPart::Records(_) => "message_id",
        }
    }

    /// Locks those of the rows that are still there and that no other session has locked.
    async fn lock<DB: OutboxDatabase>(
        &self,
        tx: &mut DeskTx<'_, DB>,
        keys: &[WalkPlace],
    ) -> DbResult<Keys> {
        let (listed, values) = self.listed(keys);
        // Where most of a small table is meant, MySQL would rather go through all of it, and wait for every caller's
        // open INSERT.
        let hint = match DB::DIALECT {
            Dialect::MySql => " FORCE INDEX (PRIMARY)",
            Dialect::Postgres | Dialect::Sqlite => "",
        };
        let column = self.column();
        let lock = format!(
            "SELECT {column} FROM {}{hint} WHERE {listed} ORDER BY {column} {{skip_locked}}",
            self.table
        );
        Ok(match self.part {
            PlanPart::Letters(_) => {
                let seqs: Vec<i64> = tx.rows(&lock, &values).await?;
                seqs.into_iter().map(WalkPlace::of_number).collect()
            }
            PlanPart::Records(_) => {
                let ids: Vec<Uuid> = tx.rows(&lock, &values).await?;
                ids.into_iter()
                    .map(|id| WalkPlace::of_time(0, id))
                    .collect()
            }
        })
    }

    /// How many of the rows are there, also those that other sessions have locked.
    async fn there<DB: OutboxDatabase>(
        &self,
        tx: &mut DeskTx<'_, DB>,
        keys: &[WalkPlace],
    ) -> DbResult<u64> {
        let (listed, values) = self.listed(keys);
        let count = format!("SELECT COUNT(*) FROM {} WHERE {listed}", self.table);
        let counted: Vec<i64> = tx.rows(&count, &values).await?;
        Ok(counted
            .first()
            .map_or(0, |number| u64::try_from(*number).unwrap_or(0)))
    }

    /// Does it with rows that are locked.
    async fn apply<DB: OutboxDatabase>(
        &self,
        tx: &mut DeskTx<'_, DB>,
        keys: &[WalkPlace],
    ) -> DbResult<()> {
        let seqs: Vec<i64> = keys.iter().map(|key| key.number).collect();
        match (self.part, self.action) {
            (PlanPart::Letters(LetterSource::Collected), Action::Replay) => {
                self.statements.letters.replay::<DB>(tx.conn(), &seqs).await
            }
            (PlanPart::Letters(LetterSource::Collected), _) => {
                self.statements
                    .letters
                    .discard::<DB>(tx.conn(), &seqs)
                    .await
            }
            (PlanPart::Letters(LetterSource::Log), action) => {
                if action == Action::Replay {
                    let (listed, values) = self.listed(keys);
                    let (copy, order) = REPLAY;
                    let copy = format!("{copy} WHERE {listed} {order}");
                    all_written(tx.run(&copy, &values).await?, keys.len())?;
                }
                let (delete, values) = removal(DB::DIALECT, &self.table, Some(self.service), &seqs);
                all_changed(tx.run(&delete, &values).await?, keys.len())
            }
            (PlanPart::Records(state), Action::Retry) => self.retry(tx, state, keys).await,
            (PlanPart::Records(_), _) => {
                let ids: Vec<Uuid> = keys.iter().map(|key| key.id).collect();
                let arguments = vec![("ids", (&ids[..]).into())];
                let (delete, values) = self.statements.delete.bind(arguments)?;
                all_changed(tx.run_sql(&delete, &values).await?, keys.len())
            }
        }
    }

    /// Makes records pending and due, as if they were new.
    async fn retry<DB: OutboxDatabase>(
        &self,
        tx: &mut DeskTx<'_, DB>,
        state: RecordState,
        keys: &[WalkPlace],
    ) -> DbResult<()> {
        let ids: Vec<Uuid> = keys.iter().map(|key| key.id).collect();
        if state == RecordState::Failed {
            let arguments = vec![("ids", (&ids[..]).into())];
            let (retry, values) = self.statements.retry_failed.bind(arguments)?;
            return all_changed(tx.run_sql(&retry, &values).await?, keys.len());
        }
        let (listed, mut values) = self.listed(keys);
        let (nobody, hint, end) = match DB::DIALECT {
            Dialect::MySql => (
                "x'00000000000000000000000000000000'",
                " FORCE INDEX (PRIMARY)",
                " ORDER BY message_id LIMIT ?",
            ),
            Dialect::Postgres | Dialect::Sqlite => ("NULL", "", ""),
        };
        if DB::DIALECT == Dialect::MySql {
            values.push(i64::try_from(keys.len()).unwrap_or(i64::MAX).into());
        }
        let retry = format!(
            "UPDATE {}{hint} SET status = 0, claimed_by = {nobody}, attempts = 0, faults = 0, \
                 available_at = {{clock}} WHERE {listed}{end}",
            self.table
        );
        all_changed(tx.run(&retry, &values).await?, keys.len())
    }
}

impl<DB: OutboxDatabase> Desk<DB> {
    /// Does it with a batch of rows: all in one transaction, or by halves if the database refuses one of them or if all
    /// of them take too long.
    pub(super) async fn batch(
        &self,
        held: &Held,
        work: &Work<'_>,
        keys: Keys,
    ) -> DbResult<Batched> {
        let (mut done, mut refused, mut passed_over) = (0, 0, 0);
        let mut parts = vec![keys];
        while let Some(mut part) = parts.pop() {
            let mut tries = 1;
            let tried = loop {
                match self.try_batch(held, work, &part).await {
                    Err(error) if tries < TRIES && DB::is_deadlock(&error) => tries += 1,
                    tried => break tried,
                }
            };
            if let Err(error) = &tried
                && part.len() > 1
                && takes_too_long::<DB>(error)
            {
                // Rows may have many megabytes. The lease must last for the halves.
                if !self.renew(held).await? {
                    return Ok(Batched::TakenAway);
                }
                let half = part.split_off(part.len() / 2);
                parts.extend([half, part]);
                continue;
            }
            match tried? {
                Tried::Done {
                    done: some,
                    passed_over: others,
                } => {
                    done += some;
                    passed_over += others;
                }
                Tried::TakenAway => return Ok(Batched::TakenAway),
                Tried::Refused(error) if part.len() == 1 => {
                    tracing::error!(
                        target: "final::outbox",
                        service = work.service, operation = held.id, %error,
                        "the database refuses a row of an operation; the row stays as it is"
                    );
                    self.note_refusal(held.id, &error).await?;
                    refused += 1;
                }
                Tried::Refused(_) => {
                    let half = part.split_off(part.len() / 2);
                    parts.extend([half, part]);
                }
            }
        }
        Ok(Batched::Done {
            done,
            refused,
            passed_over,
        })
    }

    async fn try_batch(&self, held: &Held, work: &Work<'_>, keys: &[WalkPlace]) -> DbResult<Tried> {
        let mut tx = self.begin().await?;
        self.within(begin_batch::<DB>(tx.conn())).await?;
        let all = keys;
        let keys = work.lock(&mut tx, all).await?;
        let passed_over = match keys.len() < all.len() {
            true => work
                .there(&mut tx, all)
                .await?
                .saturating_sub(keys.len() as u64),
            false => 0,
        };
        if keys.is_empty() {
            let done = Tried::Done {
                done: 0,
                passed_over,
            };
            return tx.roll_back().await.map(|()| done);
        }
        let applied = self.within(work.apply(&mut tx, &keys)).await;
        match applied {
            Ok(()) => {}
            Err(error) if is_refusal(&error) => {
                if DB::DIALECT == Dialect::Sqlite {
                    // A trigger's RAISE(ROLLBACK) has ended the transaction. sqlx does not know, and could not begin
                    // another on this connection.
                    let _ = tx.run("BEGIN", &[]).await;
                }
                tx.roll_back().await?;
                return Ok(Tried::Refused(error));
            }
            Err(error) => return Err(error),
        }
        let number = i64::try_from(keys.len()).unwrap_or(i64::MAX);
        let progress = format!(
            "UPDATE {{operations}} SET done = done + ? WHERE id = ? AND state = 'running' AND {HELD}"
        );
        let values = [&[number.into(), held.id.into()], &held.values()[..]].concat();
        if tx.run(&progress, &values).await? == 0 {
            return tx.roll_back().await.map(|()| Tried::TakenAway);
        }
        match tx.commit().await {
            Ok(()) => Ok(Tried::Done {
                done: keys.len() as u64,
                passed_over,
            }),
            Err(error) if is_refusal(&error) => Ok(Tried::Refused(error)),
            Err(error) => Err(error),
        }
    }
}

/// Whether the database refuses a row: for its values, or because a trigger or a rule passes the row over. Other rows
/// may be taken.
fn is_refusal(error: &sqlx::Error) -> bool {
    refuses_values(error) || matches!(error, sqlx::Error::Configuration(_))
}

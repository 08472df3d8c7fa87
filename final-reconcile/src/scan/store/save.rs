//! One step of a scan, in one transaction that only the owner of the lease can commit.
//!
//! ```text
//!  lock the unit's row ─ not ours? deposed ─ paused? nothing is written
//!    ─▶ suspects ─▶ what came of looks, repairs ─▶ position ─▶ counts ─▶ commit
//! ```

use std::borrow::Cow;

use final_core::database::{DbResult, Driver, Value, columns, read};
use uuid::Uuid;

use super::{
    step::{NewSuspect, Saved, ScanKind, Step, Suspect, Term, Then},
    suspects::add,
};
use crate::{form::RowHash, pair::difference::RowDifference, state::SqlState, unit::UnitName};

/// Suspects that are written in one transaction.
const LOT: usize = 200;

/// Which suspect a look was at. If its key came with another change meanwhile, the look was too early. A row that a scan
/// has found once more still differs as it did.
const LOOKED: &str = "slot = ? AND (stamp = ? OR is_json = 0)";

/// The time within which repairs are counted.
const SPAN: i64 = 3_600_000_000;

columns! {
    struct Fence {
        paused: Option<String>,
        span_at: Option<i64>,
        span_found: i64,
        now_at: i64,
    }
}

impl<DB: Driver> SqlState<DB> {
    /// Suspects go first, in lots, so that each transaction is short: a row that is written twice waits once.
    pub(super) async fn save_step(&self, term: &Term, step: &Step) -> DbResult<Saved> {
        self.in_time(async { self.templates().await.map(drop) })
            .await?;
        let rest = step.suspects.len() % LOT;
        let (early, last) = step.suspects.split_at(step.suspects.len() - rest);
        for lot in early.chunks(LOT) {
            let nothing = Step {
                scan: step.scan,
                due: step.due,
                ..Step::default()
            };
            match self.in_time(self.save_lot(term, lot, &nothing)).await? {
                Saved::Now { .. } => {}
                refused => return Ok(refused),
            }
        }
        self.in_time(self.save_lot(term, last, step)).await
    }

    async fn save_lot(&self, term: &Term, lot: &[NewSuspect], step: &Step) -> DbResult<Saved> {
        let mut tx = DB::begin(&self.pool()).await?;
        let fence = match self.fence(&mut tx, term).await? {
            None => return Ok(Saved::Deposed),
            Some(fence) if fence.paused.is_some() => return Ok(Saved::Paused { opened: 0 }),
            Some(fence) => fence,
        };
        for suspects in pieces(lot) {
            self.add_suspects(&mut tx, term, suspects, step).await?;
        }
        let (opened, is_too_much) = self.write_looks(&mut tx, term, step, &fence).await?;
        let column = match step.scan {
            ScanKind::Fresh => Some("UPDATE {jobs} SET fresh = ? WHERE name = ?"),
            ScanKind::Updated => Some("UPDATE {jobs} SET updated = ? WHERE name = ?"),
            ScanKind::Sweep => Some("UPDATE {jobs} SET sweep = ? WHERE name = ?"),
            ScanKind::Watch | ScanKind::Look => None,
        };
        if let (Some(sql), Some(position)) = (column, &step.position) {
            let sql = self.templates().await?.sql(sql);
            let values = [position.as_str().into(), term.unit.name.as_str().into()];
            DB::run_sql(&mut tx, &sql, &values).await?;
        }
        for (scan, begun, tally) in &step.tallies {
            self.count(&mut tx, &term.unit, *scan, *begun, fence.now_at, tally)
                .await?;
        }
        tx.commit().await?;
        Ok(match is_too_much {
            true => Saved::Paused { opened },
            false => Saved::Now { opened },
        })
    }

    /// Locks the row of the unit. None if the lease is not ours any more.
    async fn fence(&self, conn: &mut DB::Connection, term: &Term) -> DbResult<Option<Fence>> {
        let sql = self.templates().await?.sql(
            "SELECT paused, span_at, span_found, {now} AS now_at FROM {jobs} \
             WHERE name = ? AND owner = ? AND epoch = ? {lock}",
        );
        let values = [
            term.unit.name.as_str().into(),
            term.owner.into(),
            term.epoch.into(),
        ];
        let found = read::<DB, Fence>(conn, &sql, &values).await?;
        Ok(found.into_iter().next())
    }

    async fn add_suspects(
        &self,
        conn: &mut DB::Connection,
        term: &Term,
        suspects: &[NewSuspect],
        step: &Step,
    ) -> DbResult<()> {
        let name = term.unit.name.as_str();
        let stamp = Uuid::now_v7();
        let slots: Vec<String> = suspects
            .iter()
            .map(|suspect| term.unit.suspect("row", &suspect.key.0))
            .collect();
        // A look at one of them that is under way may have read the row before.
        let again = format!(
            "UPDATE {{suspects}} SET stamp = ? WHERE slot IN ({})",
            vec!["?"; slots.len()].join(", ")
        );
        let again = self.templates().await?.sql(&again);
        let found = slots.iter().map(|slot| Value::from(slot.as_str()));
        let found: Vec<Value<'_>> = [stamp.into()].into_iter().chain(found).collect();
        DB::run_sql(conn, &again, &found).await?;
        let values: Vec<Value<'_>> = suspects
            .iter()
            .zip(&slots)
            .flat_map(|(suspect, slot)| {
                [
                    slot.as_str().into(),
                    name.into(),
                    step.scan.name().into(),
                    suspect.key.0.as_slice().into(),
                    0_i64.into(),
                    step.due.looked().into(),
                    hash(suspect.source.as_ref()),
                    hash(suspect.target.as_ref()),
                    step.due.value(),
                    stamp.into(),
                ]
            })
            .collect();
        let sql = self.templates().await?.sql(&add(suspects.len(), step.due));
        DB::run_sql(conn, &sql, &values).await?;
        Ok(())
    }

    /// Writes what came of looks. Once so many repairs were opened within the hour, the others stay suspects, and the unit
    /// is paused. Returns how many were opened, and whether there were too many.
    async fn write_looks(
        &self,
        conn: &mut DB::Connection,
        term: &Term,
        step: &Step,
        fence: &Fence,
    ) -> DbResult<(u64, bool)> {
        let is_new = fence.span_at.is_none_or(|at| fence.now_at >= at + SPAN);
        let before = match is_new {
            true => 0,
            false => u64::try_from(fence.span_found).unwrap_or_default(),
        };
        let (mut opened, mut is_too_much) = (0, false);
        let (mut equal, mut over): (Vec<&Suspect>, Vec<&Suspect>) = Default::default();
        for (suspect, then) in &step.looked {
            match then {
                Then::Equal => equal.push(suspect),
                Then::Over => over.push(suspect),
                Then::Again(looks) => {
                    let sql = format!(
                        "UPDATE {{suspects}} SET looked = ?, source_hash = ?, target_hash = ?, looks = ?, changes = ?, \
                         problem = NULL, due_at = {} WHERE {LOOKED}",
                        step.due.sql()
                    );
                    let sql = self.templates().await?.sql(&sql);
                    let (source, target) = looks.last.clone().unwrap_or_default();
                    let values = [
                        step.due.looked().into(),
                        hash(source.as_ref()),
                        hash(target.as_ref()),
                        i64::from(looks.same).into(),
                        i64::from(looks.changes).into(),
                        step.due.value(),
                        suspect.slot.as_str().into(),
                        suspect.stamp.into(),
                    ];
                    DB::run_sql(conn, &sql, &values).await?;
                }
                Then::Later(why, after) => {
                    let due = step.due.but(*after);
                    let sql = format!(
                        "UPDATE {{suspects}} SET problem = ?, due_at = {} WHERE {LOOKED}",
                        due.sql()
                    );
                    let sql = self.templates().await?.sql(&sql);
                    let values = [
                        why.as_str().into(),
                        due.value(),
                        suspect.slot.as_str().into(),
                        suspect.stamp.into(),
                    ];
                    DB::run_sql(conn, &sql, &values).await?;
                }
                Then::Repair(row) => {
                    let unit = &term.unit;
                    let is_full = before + opened >= step.most_repairs;
                    if is_full && !self.is_open(conn, unit, row).await? {
                        is_too_much = true;
                        continue;
                    }
                    opened += self.open_one(conn, unit, row).await?;
                    over.push(suspect);
                }
            }
        }
        for suspects in pieces(&equal) {
            self.forget(conn, suspects, "slot = ? AND stamp = ?")
                .await?;
        }
        for suspects in pieces(&over) {
            self.forget(conn, suspects, LOOKED).await?;
        }
        if opened > 0 {
            let sql = self
                .templates()
                .await?
                .sql("UPDATE {jobs} SET span_at = ?, span_found = ? WHERE name = ?");
            let begun = fence.span_at.filter(|_| !is_new).unwrap_or(fence.now_at);
            let found = i64::try_from(before + opened).unwrap_or(i64::MAX);
            let values = [begun.into(), found.into(), term.unit.name.as_str().into()];
            DB::run_sql(conn, &sql, &values).await?;
        }
        if is_too_much {
            let sql = self
                .templates()
                .await?
                .sql("UPDATE {jobs} SET paused = ?, paused_at = {now} WHERE name = ?");
            let why = format!(
                "more than {} rows differ within an hour, which looks like a wrong mapping",
                step.most_repairs
            );
            let values = [why.into(), term.unit.name.as_str().into()];
            DB::run_sql(conn, &sql, &values).await?;
        }
        Ok((opened, is_too_much))
    }

    /// Whether a repair of the row is open already.
    async fn is_open(
        &self,
        conn: &mut DB::Connection,
        unit: &UnitName,
        row: &RowDifference,
    ) -> DbResult<bool> {
        let sql = self
            .templates()
            .await?
            .sql("SELECT slot FROM {repairs} WHERE slot = ?");
        let found =
            read::<DB, String>(conn, &sql, &[unit.repair(&row.key_form, &row.key.0).into()])
                .await?;
        Ok(!found.is_empty())
    }

    async fn forget(
        &self,
        conn: &mut DB::Connection,
        suspects: &[&Suspect],
        condition: &str,
    ) -> DbResult<()> {
        let these = vec![format!("({condition})"); suspects.len()].join(" OR ");
        let sql = format!("DELETE FROM {{suspects}} WHERE {these}");
        let sql = self.templates().await?.sql(&sql);
        let values: Vec<Value<'_>> = suspects
            .iter()
            .flat_map(|suspect| [suspect.slot.as_str().into(), suspect.stamp.into()])
            .collect();
        DB::run_sql(conn, &sql, &values).await?;
        Ok(())
    }
}

/// Pieces of few lengths, so that there are few statements.
fn pieces<T>(all: &[T]) -> impl Iterator<Item = &[T]> {
    let (hundreds, rest) = all.split_at(all.len() - all.len() % 100);
    let (tens, ones) = rest.split_at(rest.len() - rest.len() % 10);
    let hundreds = hundreds.chunks(100);
    hundreds.chain(tens.chunks(10)).chain(ones.chunks(1))
}

fn hash(hash: Option<&RowHash>) -> Value<'_> {
    Value::Bytes(hash.map(|hash| Cow::Borrowed(hash.0.as_slice())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_have_all_in_their_order_and_three_lengths_at_most() {
        let all: Vec<usize> = (0..237).collect();
        let lengths: Vec<usize> = pieces(&all).map(<[usize]>::len).collect();
        assert_eq!(lengths, [100, 100, 10, 10, 10, 1, 1, 1, 1, 1, 1, 1]);
        assert_eq!(pieces(&all).flatten().copied().collect::<Vec<_>>(), all);
        assert_eq!(pieces::<u8>(&[]).count(), 0);
    }
}

//! Rows of version 2, which know no source.
//!
//! Their unit is named by job and target alone. It becomes the unit that has this job and this target now, with its
//! position, its suspects and its repairs: version 2 took all sources for one. What no job has any more stays as it is, so
//! that an operator sees it, and can have it forgotten.

use std::sync::Arc;

use final_core::database::{DbResult, Driver, columns, read};

use crate::{repair::store::SqlRepairs, unit::UnitName};

/// Repairs that are moved in one transaction.
const LOT: usize = 100;

columns! {
    struct PlaceRow {
        job: String,
        target: String,
    }
}

columns! {
    struct SlotRow {
        slot: String,
        row_key: Vec<u8>,
    }
}

impl<DB: Driver> SqlRepairs<DB> {
    /// Makes rows of version 2 those of these units. A unit that has a row of its own takes none.
    pub(crate) async fn adopt(&self, units: &[Arc<UnitName>]) -> DbResult<()> {
        self.in_time(self.name_units()).await?;
        for unit in units {
            let old = UnitName::of_version_2(&unit.job, &unit.target);
            while self.in_time(self.move_repairs(unit, &old)).await? == LOT {}
            self.in_time(self.move_rest(unit, &old)).await?;
        }
        Ok(())
    }

    /// Repairs and alerts of version 2 have no unit. They get the name that their job and target had there.
    async fn name_units(&self) -> DbResult<()> {
        let templates = self.templates().await?;
        for table in ["{repairs}", "{alerts}"] {
            let sql = format!("SELECT DISTINCT job, target FROM {table} WHERE unit IS NULL");
            let sql = templates.sql(&sql);
            let mut conn = self.pool().acquire().await?;
            let places = read::<DB, PlaceRow>(&mut conn, &sql, &[]).await?;
            drop(conn);
            for place in places {
                let (job, target) = (place.job.as_str(), place.target.as_str());
                let sql = format!(
                    "UPDATE {table} SET unit = ? WHERE unit IS NULL AND job = ? AND target = ?"
                );
                let sql = templates.sql(&sql);
                let values = [
                    UnitName::of_version_2(job, target).into(),
                    job.into(),
                    target.into(),
                ];
                let mut conn = self.pool().acquire().await?;
                DB::run_sql(&mut conn, &sql, &values).await?;
            }
        }
        Ok(())
    }

    /// Moves some repairs. Returns how many.
    async fn move_repairs(&self, unit: &UnitName, old: &str) -> DbResult<usize> {
        if self.has_row(unit).await? {
            return Ok(0);
        }
        let templates = self.templates().await?;
        let find =
            format!("SELECT slot, row_key FROM {{repairs}} WHERE unit = ? LIMIT {LOT} {{lock}}");
        let find = templates.sql(&find);
        let is_there = templates.sql("SELECT slot FROM {repairs} WHERE slot = ?");
        let remove = templates.sql("DELETE FROM {repairs} WHERE slot = ?");
        let change = templates.sql("UPDATE {repairs} SET slot = ?, unit = ? WHERE slot = ?");
        let mut tx = DB::begin(&self.pool()).await?;
        let found = read::<DB, SlotRow>(&mut tx, &find, &[old.into()]).await?;
        for row in &found {
            let (slot, before) = (unit.repair(&row.row_key), row.slot.as_str());
            let other = read::<DB, String>(&mut tx, &is_there, &[slot.as_str().into()]).await?;
            match other.is_empty() {
                true => {
                    let values = [slot.into(), unit.name.as_str().into(), before.into()];
                    DB::run_sql(&mut tx, &change, &values).await?;
                }
                // A row has one repair.
                false => {
                    DB::run_sql(&mut tx, &remove, &[before.into()]).await?;
                }
            }
        }
        tx.commit().await?;
        Ok(found.len())
    }

    /// The position comes last, because a unit that has it takes nothing more.
    async fn move_rest(&self, unit: &UnitName, old: &str) -> DbResult<()> {
        if self.has_row(unit).await? {
            return Ok(());
        }
        let templates = self.templates().await?;
        let mut tx = DB::begin(&self.pool()).await?;
        for table in ["{suspects}", "{runs}", "{alerts}"] {
            let sql = templates.sql(&format!("UPDATE {table} SET unit = ? WHERE unit = ?"));
            DB::run_sql(&mut tx, &sql, &[unit.name.as_str().into(), old.into()]).await?;
        }
        let sql = templates.sql("UPDATE {jobs} SET name = ?, source = ? WHERE name = ?");
        let values = [
            unit.name.as_str().into(),
            unit.source.as_str().into(),
            old.into(),
        ];
        DB::run_sql(&mut tx, &sql, &values).await?;
        tx.commit().await
    }

    async fn has_row(&self, unit: &UnitName) -> DbResult<bool> {
        let sql = self.templates().await?;
        let sql = sql.sql("SELECT name FROM {jobs} WHERE name = ?");
        let mut conn = self.pool().acquire().await?;
        let found = read::<DB, String>(&mut conn, &sql, &[unit.name.as_str().into()]).await?;
        Ok(!found.is_empty())
    }
}

//! Rows that are to be looked at.
//!
//! A row waits once. If it changes once more while a look is under way, or is found once more, its stamp is another one.
//! So a look that found both rows equal before that does not remove it.

use std::{collections::HashSet, sync::Arc, time::Duration};

use final_core::database::{DbResult, Driver, Value, columns, read};
use uuid::Uuid;

use super::step::{ScanKind, Suspect, SuspectKey, WatchedKey};
use crate::{
    form::{Row, RowHash, time::micros_of},
    mirror::Due,
    pair::judge::Looks,
    state::SqlState,
    unit::UnitName,
};

/// Keys that are written in one transaction.
const LOT: usize = 100;

columns! {
    struct SuspectRow {
        slot: String,
        scan: String,
        row_key: Vec<u8>,
        is_json: i64,
        looked: i64,
        source_hash: Option<Vec<u8>>,
        target_hash: Option<Vec<u8>>,
        looks: i64,
        changes: i64,
        stamp: Uuid,
    }
}

/// What `looked` says of a row that was looked at.
const BY_CLOCK: i64 = 1;
const BY_HEARTBEAT: i64 = 2;

impl Due {
    /// Until when a row waits, as SQL.
    pub(super) fn sql(self) -> &'static str {
        match self {
            Self::After(_) => "{now} + ?",
            Self::Passed(_) => "?",
        }
    }

    /// The value in it.
    pub(super) fn value(self) -> Value<'static> {
        match self {
            Self::After(time) => micros_of(time).into(),
            Self::Passed(time) => time.into(),
        }
    }

    /// The same for a row that waits for this time.
    pub(super) fn but(self, time: Duration) -> Self {
        match self {
            Self::After(_) => Self::After(time),
            Self::Passed(due) => Self::Passed(due.saturating_add(micros_of(time))),
        }
    }

    /// How a row is looked at that waits so long. What was seen in the other way counts no more.
    pub(super) fn looked(self) -> i64 {
        match self {
            Self::After(_) => BY_CLOCK,
            Self::Passed(_) => BY_HEARTBEAT,
        }
    }
}

/// The statement that adds so many suspects. Those that are there stay as they are.
pub(super) fn add(rows: usize, due: Due) -> String {
    let row = format!("(?, ?, ?, ?, ?, ?, ?, ?, 0, 0, {}, ?)", due.sql());
    format!(
        "{{insert}} INTO {{suspects}} (slot, unit, scan, row_key, is_json, looked, source_hash, target_hash, looks, changes, \
         due_at, stamp) VALUES {} {{nothing}}",
        vec![row; rows].join(", ")
    )
}

impl<DB: Driver> SqlState<DB> {
    pub(super) async fn due_suspects(
        &self,
        unit: &UnitName,
        passed: Option<i64>,
        most: u32,
    ) -> DbResult<Vec<Suspect>> {
        let until = passed.map_or("{now}", |_| "?");
        let sql = format!(
            "SELECT slot, scan, row_key, is_json, looked, source_hash, target_hash, looks, changes, stamp \
             FROM {{suspects}} WHERE unit = ? AND due_at <= {until} ORDER BY due_at LIMIT {most}"
        );
        let sql = self.templates().await?.sql(&sql);
        let mut values = vec![Value::from(unit.name.as_str())];
        values.extend(passed.map(Value::from));
        let looked = passed.map_or(BY_CLOCK, |_| BY_HEARTBEAT);
        let mut conn = self.pool().acquire().await?;
        let rows = read::<DB, SuspectRow>(&mut conn, &sql, &values).await?;
        rows.into_iter().map(|row| row.suspect(looked)).collect()
    }

    pub(super) async fn unreadable_suspect(&self, unit: &UnitName) -> DbResult<Option<String>> {
        let sql = self
            .templates()
            .await?
            .sql("SELECT problem FROM {suspects} WHERE unit = ? AND problem IS NOT NULL LIMIT 1");
        let mut conn = self.pool().acquire().await?;
        let found = read::<DB, String>(&mut conn, &sql, &[unit.name.as_str().into()]).await?;
        Ok(found.into_iter().next())
    }

    /// The index has the units, so no row is read.
    pub(super) async fn count_suspects(&self, unit: &UnitName, most: u32) -> DbResult<u32> {
        let sql = format!(
            "SELECT CAST(COUNT(*) AS {{int}}) AS waiting FROM (SELECT unit FROM {{suspects}} WHERE unit = ? LIMIT {most}) w"
        );
        let sql = self.templates().await?.sql(&sql);
        let mut conn = self.pool().acquire().await?;
        let found = read::<DB, i64>(&mut conn, &sql, &[unit.name.as_str().into()]).await?;
        let count = found.into_iter().next().unwrap_or_default();
        Ok(u32::try_from(count).unwrap_or(most))
    }

    pub(super) async fn add_watched(&self, keys: &[WatchedKey]) -> DbResult<()> {
        let units: HashSet<&Arc<UnitName>> = keys.iter().map(|key| &key.unit).collect();
        for unit in units {
            let row = async {
                let mut conn = self.pool().acquire().await?;
                self.have_row(&mut conn, unit).await
            };
            self.in_time(row).await?;
        }
        for keys in keys.chunks(LOT) {
            let lot = async {
                let mut tx = DB::begin(&self.pool()).await?;
                for key in keys {
                    self.add_watched_one(&mut tx, key).await?;
                }
                tx.commit().await
            };
            self.in_time(lot).await?;
        }
        Ok(())
    }

    /// A row that is being looked at right now may have been read before this change, so it is looked at once more. Where the
    /// mirror tells how far it is, the row goes on waiting for the time that it has: a row that changes faster than the mirror
    /// lags would wait for ever for the newest one.
    async fn add_watched_one(&self, conn: &mut DB::Connection, key: &WatchedKey) -> DbResult<()> {
        let templates = self.templates().await?;
        let again = templates.sql(match key.due {
            Due::After(_) => {
                "UPDATE {suspects} SET stamp = ?, due_at = CASE WHEN due_at <= {now} THEN {now} + ? ELSE due_at END \
                 WHERE slot = ?"
            }
            Due::Passed(_) => "UPDATE {suspects} SET stamp = ? WHERE slot = ?",
        });
        let add = templates.sql(&add(1, key.due));
        let slot = key.unit.suspect("json", key.json.as_bytes());
        let stamp = Uuid::now_v7();
        let mut renew: Vec<Value<'_>> = vec![stamp.into()];
        renew.extend(matches!(key.due, Due::After(_)).then(|| key.due.value()));
        renew.push(slot.as_str().into());
        if DB::run_sql(conn, &again, &renew).await? > 0 {
            return Ok(());
        }
        let values = [
            slot.as_str().into(),
            key.unit.name.as_str().into(),
            ScanKind::Watch.name().into(),
            key.json.as_bytes().into(),
            1_i64.into(),
            0_i64.into(),
            Value::Bytes(None),
            Value::Bytes(None),
            key.due.value(),
            stamp.into(),
        ];
        if DB::run_sql(conn, &add, &values).await? == 0 {
            // Another process was faster.
            DB::run_sql(conn, &again, &renew).await?;
        }
        Ok(())
    }
}

impl SuspectRow {
    /// `looked`: how rows are looked at now.
    fn suspect(self, looked: i64) -> DbResult<Suspect> {
        let hash = |hash: Option<Vec<u8>>| hash.map(RowHash);
        let count = |count: i64| u32::try_from(count).unwrap_or(u32::MAX);
        let key = match self.is_json {
            0 => SuspectKey::Row(Row(self.row_key)),
            _ => {
                let text = String::from_utf8(self.row_key);
                SuspectKey::Json(text.map_err(|error| sqlx::Error::Decode(error.into()))?)
            }
        };
        Ok(Suspect {
            slot: self.slot,
            stamp: self.stamp,
            scan: ScanKind::of(&self.scan),
            key,
            looks: Looks {
                last: (self.looked == looked)
                    .then(|| (hash(self.source_hash), hash(self.target_hash))),
                same: count(self.looks),
                changes: count(self.changes),
            },
        })
    }
}

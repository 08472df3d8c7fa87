//! Writing on SQLite.

use final_core::database::{DbResult, Dialect};
use futures::future::BoxFuture;
use sqlx::{Sqlite, SqliteConnection};

use super::{ANSWER, Change, WrittenTable};
use crate::{
    error::Reconciled,
    form::{
        Row,
        here::{Cell, stored},
    },
    own::OwnPool,
    plan::SidePlan,
    side::{
        ask::{
            asked::Asked,
            sqlite::{SqliteTable, bound, sql},
        },
        chunk::Found,
    },
    sql::keys::{Condition, Search},
};

impl WrittenTable for SqliteTable {
    type Db = Sqlite;

    fn pool(&self) -> &OwnPool<Sqlite> {
        &self.pool
    }

    fn plan(&self) -> &SidePlan {
        &self.plan
    }

    fn shown_value(&self, _: usize) -> String {
        "?".to_owned()
    }

    /// A transaction that writes has the lock of the whole file.
    fn find<'a>(
        &'a self,
        conn: &'a mut SqliteConnection,
        key: &'a Row,
    ) -> BoxFuture<'a, Reconciled<Vec<Found>>> {
        Box::pin(self.found_on(conn, key))
    }

    fn run<'a>(
        &'a self,
        conn: &'a mut SqliteConnection,
        key: &'a Row,
        change: Change<'a>,
    ) -> BoxFuture<'a, Reconciled<DbResult<u64>>> {
        Box::pin(async move {
            let mut condition = Condition::new(Dialect::Sqlite, &self.plan.keys);
            if !condition.one_of(std::slice::from_ref(key), Search::ByIndex) {
                return Err(self.wrong("a key cannot be taken apart"));
            }
            if matches!(change, Change::Insert(_)) {
                condition.values.clear();
            }
            let before = condition.values.len();
            let cells: Vec<Cell> = change
                .values(&self.plan)
                .map(|(at, cell)| self.cell(at, cell))
                .collect();
            let values: Vec<String> = (1..=cells.len())
                .map(|number| format!("?{}", before + number))
                .collect();
            let text = change.sql(Dialect::Sqlite, &self.plan, &values, &condition.sql);
            let query = bound(sql(text), &condition.values);
            let query = cells.into_iter().fold(query, |query, cell| match cell {
                Cell::Null => query.bind(None::<i64>),
                Cell::Integer(value) => query.bind(value),
                Cell::Real(value) => query.bind(value),
                Cell::Text(bytes) => query.bind(String::from_utf8_lossy(&bytes).into_owned()),
                Cell::Blob(bytes) => query.bind(bytes),
            });
            let run = async { Ok(query.execute(conn).await?.rows_affected()) };
            Ok(self.pool.in_time(ANSWER, run).await)
        })
    }
}

impl SqliteTable {
    /// A value as it is stored. Without a form on its way it is stored so already.
    fn cell(&self, at: usize, cell: &Cell) -> Cell {
        let form = self.plan.given.as_ref().and_then(|given| given.get(at));
        match (cell, form, self.plan.columns.get(at)) {
            (Cell::Text(text), Some(form), Some(column)) => stored(text, *form, column.class),
            _ => cell.clone(),
        }
    }
}

//! Writing on PostgreSQL, MySQL and MariaDB.

use final_core::database::{DbResult, Driver};
use futures::future::BoxFuture;
use sqlx::{AssertSqlSafe, SqlSafeStr};

use super::{ANSWER, Change, WrittenTable};
use crate::{
    error::Reconciled,
    form::{Form, Row, here::Cell},
    own::OwnPool,
    plan::SidePlan,
    side::{
        ask::{asked::Asked, server::ServerTable},
        chunk::Found,
    },
    sql::keys::Search,
    sql::taken::{taken, text_for},
};

impl<DB: Driver> WrittenTable for ServerTable<DB> {
    type Db = DB;

    fn pool(&self) -> &OwnPool<DB> {
        &self.pool
    }

    fn plan(&self) -> &SidePlan {
        &self.plan
    }

    fn shown_value(&self, at: usize) -> String {
        self.expression(at, "?")
    }

    fn find<'a>(
        &'a self,
        conn: &'a mut DB::Connection,
        key: &'a Row,
    ) -> BoxFuture<'a, Reconciled<Vec<Found>>> {
        Box::pin(self.locked(conn, key))
    }

    fn run<'a>(
        &'a self,
        conn: &'a mut DB::Connection,
        key: &'a Row,
        change: Change<'a>,
    ) -> BoxFuture<'a, Reconciled<DbResult<u64>>> {
        Box::pin(async move {
            let mut condition = self.condition();
            let mut values = Vec::with_capacity(self.plan.columns.len());
            // MySQL counts placeholders as they come, and these come before the key's.
            for (at, cell) in change.values(&self.plan) {
                let placeholder = condition.text(self.text(at, cell)?);
                values.push(self.expression(at, &placeholder));
            }
            if !condition.one_of(std::slice::from_ref(key), Search::ByIndex) {
                return Err(self.wrong("a key cannot be taken apart"));
            }
            if matches!(change, Change::Insert(_)) {
                condition.values.truncate(values.len());
            }
            let sql = change.sql(DB::DIALECT, &self.plan, &values, &condition.sql);
            let sql = AssertSqlSafe(sql).into_sql_str();
            let run = DB::run_sql(conn, &sql, &condition.values);
            Ok(self.pool.in_time(ANSWER, run).await)
        })
    }
}

impl<DB: Driver> ServerTable<DB> {
    /// The form in which a value comes.
    fn form(&self, at: usize) -> Form {
        let given = self.plan.given.as_ref();
        let form = given.and_then(|given| given.get(at)).copied();
        form.unwrap_or(Form::Text { trim: false })
    }

    fn expression(&self, at: usize, placeholder: &str) -> String {
        match self.plan.columns.get(at) {
            Some(column) => taken(DB::DIALECT, column, self.form(at), placeholder),
            None => placeholder.to_owned(),
        }
    }

    fn text(&self, at: usize, cell: &Cell) -> Reconciled<Option<String>> {
        let (Cell::Text(bytes), Some(column)) = (cell, self.plan.columns.get(at)) else {
            return Ok(None);
        };
        let text = std::str::from_utf8(bytes);
        let text = text.map_err(|_| {
            let name = &column.name;
            self.wrong(format!(
                "the source's value for `{name}` is no text of UTF-8"
            ))
        })?;
        Ok(Some(text_for(column, self.form(at), text)))
    }
}

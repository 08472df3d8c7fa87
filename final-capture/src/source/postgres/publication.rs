//! The publication: which tables the server sends.
//!
//! Input: the tables and the selection. Output: a publication that names each wanted table.
//!
//! Its comment names the slot that it follows. Two captures that shared one would take out each other's tables.
//!
//! It never says FOR ALL TABLES: a table without a key in a publication makes the UPDATE of the application fail.

use std::collections::{HashMap, HashSet};

use final_core::admin::doctor::{Diagnosis, Finding, Level};
use sqlx::{AssertSqlSafe, Row};

use super::{
    catalog::Catalog,
    fault,
    tables::{self, Found, quote},
};
use crate::{select::Selection, source::SourceError, table::TableName};

/// A captured table can be captured no longer.
const TABLE_LOST: Diagnosis = Diagnosis::new(
    Level::Error,
    "source_table_lost",
    "its changes from here on are not in the stream",
);
/// Two captures would take each other's tables out.
const PUBLICATION_FOREIGN: Diagnosis = Diagnosis::new(
    Level::Error,
    "source_publication_foreign",
    "a publication follows the tables of one capture, and the tables of the other would be taken out",
);
/// The publication has to be changed, and our role may not.
const PUBLICATION_RIGHTS: Diagnosis = Diagnosis::new(
    Level::Error,
    "source_publication",
    "the server sends only what the publication names",
);

/// What the publication is, and what it must be.
#[derive(Clone, Debug)]
pub(super) struct Publication {
    pub(super) name: String,
    /// The slot whose capture it belongs to.
    pub(super) slot: String,
}

/// A publication as the server shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct State {
    pub(super) oid: u32,
    /// The operations that it leaves out.
    pub(super) left_out: Vec<&'static str>,
    /// Changes of a partition come as changes of its table.
    pub(super) is_via_root: bool,
    pub(super) maker: Maker,
    /// Our role may change it.
    pub(super) may_change: bool,
    pub(super) tables: HashMap<TableName, Member>,
}

/// Who made a publication.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Maker {
    /// An operator. It keeps its tables.
    #[default]
    Operator,
    /// A capture of ours, and so it follows the selection.
    Ours,
    /// A capture of ours, before the mark named the slot.
    Unnamed,
    /// The capture of another slot.
    Other { slot: String },
}

/// A table in a publication.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Member {
    /// Rows that do not meet this are left out.
    pub(super) filter: Option<String>,
    /// Columns are left out.
    pub(super) has_columns_left_out: bool,
}

/// The mark without a slot, as it was once.
const MARK_UNNAMED: &str = "made by final capture, and follows its tables";
const MARK_BEGIN: &str = "made by final capture for the slot ";
const MARK_END: &str = ", and follows its tables";
const OPERATIONS: &str = "insert, update, delete, truncate";

impl Maker {
    fn of(comment: Option<&str>, slot: &str) -> Self {
        let Some(comment) = comment else {
            return Self::Operator;
        };
        if comment == MARK_UNNAMED {
            return Self::Unnamed;
        }
        let named = comment
            .strip_prefix(MARK_BEGIN)
            .and_then(|rest| rest.strip_suffix(MARK_END));
        match named {
            Some(named) if named == slot => Self::Ours,
            Some(named) => Self::Other {
                slot: named.to_owned(),
            },
            None => Self::Operator,
        }
    }
}

impl Publication {
    /// The statement that makes it the publication of our slot.
    fn mark(&self) -> String {
        // The name of a slot has no quote.
        let Self { name, slot } = self;
        format!(
            "COMMENT ON PUBLICATION {} IS '{MARK_BEGIN}{slot}{MARK_END}'",
            quote(name)
        )
    }

    /// What is wrong if the publication belongs to the capture of another slot.
    pub(super) fn foreign(&self, state: &State) -> Option<Finding> {
        let Maker::Other { slot } = &state.maker else {
            return None;
        };
        Some(PUBLICATION_FOREIGN.found(
            format!(
                "the publication {} belongs to the capture of the slot {slot}",
                self.name
            ),
            format!(
                "name another publication for this capture; or, if the capture of the slot {slot} is gone \
                 for good, run `{}`",
                self.mark()
            ),
        ))
    }

    /// What the server has under this name.
    pub(super) async fn look(&self, catalog: &Catalog) -> sqlx::Result<Option<State>> {
        let row = sqlx::query(
            "SELECT oid::bigint AS oid, pubinsert, pubupdate, pubdelete, pubtruncate, pubviaroot,
                    pg_catalog.pg_has_role(pubowner, 'USAGE') AS may_change,
                    pg_catalog.obj_description(oid, 'pg_publication') AS comment
             FROM pg_catalog.pg_publication WHERE pubname = $1",
        )
        .bind(&self.name)
        .fetch_optional(&catalog.0)
        .await?;
        let Some(row) = row else {
            return Ok(None);
        };
        let mut left_out = Vec::new();
        for (column, operation) in [
            ("pubinsert", "insert"),
            ("pubupdate", "update"),
            ("pubdelete", "delete"),
            ("pubtruncate", "truncate"),
        ] {
            if !row.try_get::<bool, _>(column)? {
                left_out.push(operation);
            }
        }
        let members = sqlx::query(
            "SELECT t.schemaname::text AS schema, t.tablename::text AS name, t.rowfilter,
                    EXISTS (
                        SELECT FROM pg_catalog.pg_publication_rel r
                        JOIN pg_catalog.pg_class c ON c.oid = r.prrelid
                        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
                        WHERE r.prpubid = $2::bigint::oid AND r.prattrs IS NOT NULL
                          AND n.nspname = t.schemaname AND c.relname = t.tablename
                    ) AS has_columns_left_out
             FROM pg_catalog.pg_publication_tables t WHERE t.pubname = $1",
        )
        .bind(&self.name)
        .bind(row.try_get::<i64, _>("oid")?)
        .fetch_all(&catalog.0)
        .await?;
        let mut tables = HashMap::new();
        for member in members {
            let name = TableName {
                schema: member.try_get::<String, _>("schema")?.into(),
                table: member.try_get::<String, _>("name")?.into(),
            };
            let member = Member {
                filter: member.try_get("rowfilter")?,
                has_columns_left_out: member.try_get("has_columns_left_out")?,
            };
            tables.insert(name, member);
        }
        Ok(Some(State {
            oid: u32::try_from(row.try_get::<i64, _>("oid")?).unwrap_or_default(),
            left_out,
            is_via_root: row.try_get("pubviaroot")?,
            maker: Maker::of(
                row.try_get::<Option<String>, _>("comment")?.as_deref(),
                &self.slot,
            ),
            may_change: row.try_get("may_change")?,
            tables,
        }))
    }

    /// What brings the publication to these tables.
    pub(super) fn plan(&self, state: Option<&State>, wanted: &[&Found]) -> Plan {
        let name = quote(&self.name);
        let fit: Vec<_> = wanted
            .iter()
            .filter(|table| table.can_be_published())
            .collect();
        let missing: Vec<_> = fit
            .iter()
            .filter(|table| state.is_none_or(|state| !state.tables.contains_key(&table.name)))
            .collect();
        let list = |tables: &[String]| tables.join(", ");
        let quoted: Vec<_> = missing.iter().map(|table| table.quoted()).collect();
        let added: Vec<_> = missing.iter().map(|table| table.name.clone()).collect();
        let Some(state) = state else {
            let tables = match quoted.is_empty() {
                true => String::new(),
                false => format!(" FOR TABLE {}", list(&quoted)),
            };
            return Plan {
                statements: vec![
                    format!(
                        "CREATE PUBLICATION {name}{tables} \
                         WITH (publish = '{OPERATIONS}', publish_via_partition_root = true)"
                    ),
                    self.mark(),
                ],
                added,
                lost: Vec::new(),
            };
        };
        let mut statements = Vec::new();
        if matches!(state.maker, Maker::Other { .. }) {
            return Plan::default();
        }
        if state.maker == Maker::Unnamed && state.may_change {
            statements.push(self.mark());
        }
        if !quoted.is_empty() {
            statements.push(format!(
                "ALTER PUBLICATION {name} ADD TABLE {}",
                list(&quoted)
            ));
        }
        let mut lost = Vec::new();
        if matches!(state.maker, Maker::Ours | Maker::Unnamed) {
            lost.extend(
                wanted
                    .iter()
                    .filter(|it| !it.can_be_published() && state.tables.contains_key(&it.name))
                    .map(|it| it.name.clone()),
            );
            let mut left: Vec<_> = state
                .tables
                .keys()
                .filter(|table| !fit.iter().any(|it| it.name == **table))
                .map(|table| format!("{}.{}", quote(&table.schema), quote(&table.table)))
                .collect();
            left.sort();
            if !left.is_empty() {
                statements.push(format!(
                    "ALTER PUBLICATION {name} DROP TABLE {}",
                    list(&left)
                ));
            }
        }
        Plan {
            statements,
            added,
            lost,
        }
    }

    /// Makes the publication, or brings it to the wanted tables. Says whether anything was changed.
    ///
    /// A wanted table without a key is taken out, so that the application can write to it. What is written to it from
    /// then on does not come, so a stream must not go on: `lost` has the error for it, before anything is changed.
    pub(super) async fn ensure(
        &self,
        catalog: &Catalog,
        state: Option<&State>,
        wanted: &[&Found],
        lost: &mut Option<SourceError>,
    ) -> Result<bool, SourceError> {
        if let Some(finding) = state.and_then(|state| self.foreign(state)) {
            return Err(SourceError::Refused(vec![finding]));
        }
        let plan = self.plan(state, wanted);
        if !plan.lost.is_empty() {
            let findings = plan.lost.iter().map(|table| self.has_lost(table));
            *lost = Some(SourceError::Refused(findings.collect()));
        }
        let Plan {
            statements, added, ..
        } = plan;
        if statements.is_empty() {
            return Ok(false);
        }
        match run(catalog, &statements).await {
            Ok(()) => {}
            Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some("42501") => {
                return Err(SourceError::Refused(vec![
                    self.needs_rights(&statements, &error.to_string()),
                ]));
            }
            Err(error) => return Err(fault::catalog(error)),
        }
        for table in &added {
            tracing::info!(
                target: "final::capture",
                publication = self.name,
                %table,
                "a table is captured from now on"
            );
        }
        // A new mark alone changes nothing that the slot decodes with.
        Ok(state.is_none() || !added.is_empty())
    }

    fn has_lost(&self, table: &TableName) -> Finding {
        TABLE_LOST.found(
            format!(
                "the table {table} has no key any more and is taken out of the publication {}",
                self.name
            ),
            "give it a key again, then start the capture and copy by hand what was written meanwhile (`final reconcile` \
             finds it); a start without the key goes on without the table if only a pattern names it",
        )
    }

    /// What is wrong when our role may not change the publication.
    pub(super) fn needs_rights(&self, statements: &[String], why: &str) -> Finding {
        let statements: Vec<_> = statements.iter().map(|it| format!("`{it}`")).collect();
        PUBLICATION_RIGHTS.found(
            format!(
                "the publication {} has to be changed, and our role may not: {why}",
                self.name
            ),
            format!(
                "let the owner of the tables run {}",
                statements.join(" and ")
            ),
        )
    }

    /// Adds the tables that were made since the start. Each complaint goes into `told`, and comes once. `last` is set
    /// where the stream must not go on.
    pub(super) async fn follow(
        &self,
        catalog: &Catalog,
        selection: &Selection,
        told: &mut HashSet<String>,
        last: &mut Option<SourceError>,
    ) {
        let followed = async {
            let all = tables::all(catalog).await.map_err(fault::catalog)?;
            let state = self.look(catalog).await.map_err(fault::catalog)?;
            let Some(state) = state else {
                return Err(SourceError::Away(
                    format!("the publication {} is gone", self.name).into(),
                ));
            };
            // The other capture takes our tables out.
            if let Some(finding) = self.foreign(&state) {
                *last = Some(SourceError::Refused(vec![finding]));
                return Ok(false);
            }
            let wanted = tables::wanted(&all, selection);
            for table in wanted.iter().filter(|table| !table.can_be_published()) {
                if told.insert(table.name.to_string()) {
                    tracing::warn!(
                        target: "final::capture",
                        table = %table.name,
                        "a table without a key or a log is not captured; give it a primary key, or make it logged"
                    );
                }
            }
            self.ensure(catalog, Some(&state), &wanted, last).await
        };
        if let Err(error) = followed.await
            && told.insert(error.to_string())
        {
            tracing::warn!(
                target: "final::capture",
                publication = self.name,
                %error,
                "the publication could not be compared with the tables"
            );
        }
    }
}

/// What brings a publication to the wanted tables.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) statements: Vec<String>,
    /// The tables that the statements add.
    pub(super) added: Vec<TableName>,
    /// The wanted tables that were published and cannot be any more. The statements take them out.
    lost: Vec<TableName>,
}

/// Runs statements in one transaction. It gives up soon where someone holds a lock on a table.
async fn run(catalog: &Catalog, statements: &[String]) -> sqlx::Result<()> {
    let mut transaction = catalog.0.begin().await?;
    sqlx::query("SET LOCAL lock_timeout = '5s'")
        .execute(&mut *transaction)
        .await?;
    for statement in statements {
        // Names are quoted.
        sqlx::query(AssertSqlSafe(statement.as_str()))
            .execute(&mut *transaction)
            .await?;
    }
    transaction.commit().await
}

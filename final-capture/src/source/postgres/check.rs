//! What is wrong with a server for capturing it, each with the statement that mends it.
//!
//! Input: the catalog, the selection. Output: [`Finding`]s. Nothing is changed.

use final_core::admin::doctor::{Diagnosis, Finding, Level};
use sqlx::Row;

use super::{
    catalog::Catalog,
    publication::{Plan, Publication, State},
    tables::{self, Found},
};
use crate::select::{SelectError, Selection};

const VERSION: Diagnosis = Diagnosis::new(
    Level::Error,
    "source_version",
    "the capture relies on what PostgreSQL has had since 15",
);
const WAL_LEVEL: Diagnosis = Diagnosis::new(
    Level::Error,
    "source_wal_level",
    "without it the log does not have the rows",
);
const ROLE: Diagnosis = Diagnosis::new(
    Level::Error,
    "source_role",
    "the server streams only to a role with this right",
);
const SLOTS: Diagnosis = Diagnosis::new(Level::Error, "source_slots", "a new slot has no room");
const SENDERS: Diagnosis = Diagnosis::new(
    Level::Warning,
    "source_senders",
    "the stream needs a sender of its own",
);
const ENCODING: Diagnosis = Diagnosis::new(
    Level::Warning,
    "source_encoding",
    "the server does not turn its texts into UTF-8, and the capture stops at the first text that is not",
);
const KEEP: Diagnosis = Diagnosis::new(
    Level::Note,
    "source_wal_keep",
    "while the capture is away the server keeps its log, until the disk is full",
);
const IDLE: Diagnosis = Diagnosis::new(
    Level::Warning,
    "source_slot_idle_timeout",
    "the server gives a slot up that nobody reads for so long, and its changes are lost",
);
const SLOT_LOST: Diagnosis = Diagnosis::new(
    Level::Error,
    "source_slot_lost",
    "the changes after the position are no longer there",
);
const SLOT_UNRESERVED: Diagnosis = Diagnosis::new(
    Level::Warning,
    "source_slot_unreserved",
    "the next checkpoint may remove the log that the slot needs",
);
const SLOT_FOREIGN: Diagnosis = Diagnosis::new(
    Level::Error,
    "source_slot_foreign",
    "the capture can only read a slot of its own kind",
);
const TABLE_UNKNOWN: Diagnosis = Diagnosis::new(
    Level::Error,
    "source_table_unknown",
    "nothing of it can be captured",
);
const PATTERN_EMPTY: Diagnosis = Diagnosis::new(
    Level::Warning,
    "source_pattern_empty",
    "nothing is captured by it until such a table is made",
);
const RULE: Diagnosis = Diagnosis::new(
    Level::Error,
    "source_selection",
    "a rule that does not fit hides nothing",
);
const NO_KEY: Diagnosis = Diagnosis::new(
    Level::Error,
    "source_table_key",
    "in a publication, an UPDATE or DELETE of the application would fail",
);
const NO_KEY_LEFT_OUT: Diagnosis = Diagnosis::new(
    Level::Warning,
    "source_table_key",
    "in a publication, an UPDATE or DELETE of the application would fail; so the table is left out",
);
const UNLOGGED: Diagnosis = Diagnosis::new(
    Level::Error,
    "source_table_unlogged",
    "its changes are not in the server's log",
);
const UNLOGGED_LEFT_OUT: Diagnosis = Diagnosis::new(
    Level::Warning,
    "source_table_unlogged",
    "its changes are not in the server's log; so the table is left out",
);
const GENERATED: Diagnosis = Diagnosis::new(
    Level::Note,
    "source_generated_columns",
    "the server does not send generated columns",
);
const OPERATIONS: Diagnosis = Diagnosis::new(
    Level::Error,
    "source_publication_operations",
    "changes of these kinds would not come",
);
const ROW_FILTER: Diagnosis = Diagnosis::new(
    Level::Error,
    "source_publication_filter",
    "changes of other rows would not come; the selection of the capture can filter rows, and says so in its messages",
);
const COLUMN_LIST: Diagnosis = Diagnosis::new(
    Level::Warning,
    "source_publication_columns",
    "the other columns are missing in all messages",
);
const VIA_ROOT: Diagnosis = Diagnosis::new(
    Level::Error,
    "source_publication_root",
    "changes would come under the names of the partitions, which are not the wanted name",
);

/// What was seen of a server.
pub(super) struct Seen {
    pub(super) findings: Vec<Finding>,
    pub(super) tables: Vec<Found>,
    pub(super) publication: Option<State>,
    /// It is a standby, which may be about to be promoted.
    pub(super) is_standby: bool,
}

/// Looks at everything.
pub(super) async fn look(
    catalog: &Catalog,
    selection: &Selection,
    publication: &Publication,
    slot: &str,
) -> sqlx::Result<Seen> {
    let mut findings = Vec::new();
    let is_standby = server(catalog, slot, &mut findings).await?;
    slots(catalog, slot, &mut findings).await?;
    let tables = tables::all(catalog).await?;
    let state = publication.look(catalog).await?;
    let wanted = tables::wanted(&tables, selection);
    of_patterns(selection, &tables, &mut findings);
    of_rules(selection, &wanted, &mut findings);
    of_tables(selection, &wanted, &mut findings);
    if let Some(state) = &state {
        of_publication(publication, state, &wanted, &mut findings);
    }
    of_rights(catalog, publication, state.as_ref(), &wanted, &mut findings).await?;
    Ok(Seen {
        findings,
        tables,
        publication: state,
        is_standby,
    })
}

/// Settings of the server and the right of the role. Says whether it is a standby.
async fn server(catalog: &Catalog, slot: &str, findings: &mut Vec<Finding>) -> sqlx::Result<bool> {
    let row = sqlx::query(
        "SELECT current_setting('server_version_num')::int AS version, current_setting('server_version') AS release,
                current_setting('wal_level') AS wal_level, current_setting('server_encoding') AS encoding,
                current_setting('max_replication_slots')::int AS most_slots,
                current_setting('max_wal_senders')::int AS most_senders,
                current_setting('max_slot_wal_keep_size') AS keep,
                COALESCE(current_setting('idle_replication_slot_timeout', true), '0') AS idle,
                pg_catalog.pg_is_in_recovery() AS is_standby,
                (SELECT count(*) FROM pg_catalog.pg_replication_slots)::int AS slots,
                EXISTS (SELECT FROM pg_catalog.pg_replication_slots WHERE slot_name = $1) AS has_slot,
                (SELECT count(*) FROM pg_catalog.pg_stat_replication)::int AS senders,
                current_user::text AS role,
                EXISTS (SELECT FROM pg_catalog.pg_roles r WHERE r.rolname = current_user
                        AND (r.rolsuper OR r.rolreplication
                             OR EXISTS (SELECT FROM pg_catalog.pg_roles m WHERE m.rolname = 'rds_replication'
                                        AND pg_catalog.pg_has_role(r.oid, m.oid, 'MEMBER')))) AS may_replicate",
    )
    .bind(slot)
    .fetch_one(&catalog.0)
    .await?;
    let text = |column| row.try_get::<String, _>(column);
    let number = |column| row.try_get::<i32, _>(column);
    if number("version")? < 150_000 {
        findings.push(VERSION.found(
            format!("the server is PostgreSQL {}", text("release")?),
            "capture a server of release 15 or later",
        ));
    }
    if text("wal_level")? != "logical" {
        findings.push(WAL_LEVEL.found(
            format!("wal_level is {}", text("wal_level")?),
            "run `ALTER SYSTEM SET wal_level = logical` and restart the server",
        ));
    }
    let role = text("role")?;
    if !row.try_get::<bool, _>("may_replicate")? {
        findings.push(ROLE.found(
            format!("the role {role} may not replicate"),
            format!(
                "run `ALTER ROLE {} REPLICATION`, or on a managed server `GRANT rds_replication TO {0}`",
                tables::quote(&role)
            ),
        ));
    }
    if !row.try_get::<bool, _>("has_slot")? && number("slots")? >= number("most_slots")? {
        findings.push(SLOTS.found(
            format!("all {} replication slots are taken", number("most_slots")?),
            "drop one that nobody needs, or run `ALTER SYSTEM SET max_replication_slots = 20` and restart the server",
        ));
    }
    if number("senders")? >= number("most_senders")? {
        findings.push(SENDERS.found(
            format!("all {} senders are in use", number("most_senders")?),
            "run `ALTER SYSTEM SET max_wal_senders = 20` and restart the server",
        ));
    }
    if text("encoding")? == "SQL_ASCII" {
        findings.push(ENCODING.found(
            "the encoding of the database is SQL_ASCII",
            "make the database anew with the encoding UTF8",
        ));
    }
    if text("keep")? == "-1" {
        findings.push(KEEP.found(
            "max_slot_wal_keep_size is -1, without a limit",
            "watch the free space of the disk and the retained bytes of the capture, or run `ALTER SYSTEM SET \
             max_slot_wal_keep_size = '50GB'`; beyond that limit the slot is lost instead",
        ));
    }
    if !matches!(text("idle")?.as_str(), "0" | "") {
        findings.push(IDLE.found(
            format!("idle_replication_slot_timeout is {}", text("idle")?),
            "run `ALTER SYSTEM SET idle_replication_slot_timeout = 0`",
        ));
    }
    row.try_get("is_standby")
}

/// Our slot, if it is there.
async fn slots(catalog: &Catalog, slot: &str, findings: &mut Vec<Finding>) -> sqlx::Result<()> {
    let row = sqlx::query(
        "SELECT COALESCE(plugin::text, '') AS plugin, COALESCE(database::text, '') AS database, two_phase, temporary,
                COALESCE(wal_status, '') AS wal_status, current_database()::text AS here
         FROM pg_catalog.pg_replication_slots WHERE slot_name = $1",
    )
    .bind(slot)
    .fetch_optional(&catalog.0)
    .await?;
    let Some(row) = row else {
        return Ok(());
    };
    let text = |column| row.try_get::<String, _>(column);
    let mut foreign = |what: String| {
        findings.push(SLOT_FOREIGN.found(
            format!("the slot {slot} {what}"),
            format!(
                "name another slot, or drop it with `SELECT pg_drop_replication_slot('{slot}')`"
            ),
        ));
    };
    if text("plugin")? != "pgoutput" {
        foreign(format!(
            "has the plugin `{}` and not `pgoutput`",
            text("plugin")?
        ));
    } else if text("database")? != text("here")? {
        foreign(format!("is of the database {}", text("database")?));
    } else if row.try_get("two_phase")? {
        foreign("decodes transactions when they are prepared".to_owned());
    } else if row.try_get("temporary")? {
        foreign("is a temporary one of another session".to_owned());
    }
    match text("wal_status")?.as_str() {
        "lost" => findings.push(SLOT_LOST.found(
            format!("the slot {slot} has lost its part of the log"),
            format!(
                "drop it with `SELECT pg_drop_replication_slot('{slot}')`, forget the position of the capture, and load \
                 the tables anew"
            ),
        )),
        "unreserved" => findings.push(SLOT_UNRESERVED.found(
            format!("the slot {slot} is about to lose its part of the log"),
            "start the capture now, and run `ALTER SYSTEM SET max_slot_wal_keep_size = -1` and `SELECT pg_reload_conf()`",
        )),
        _ => {}
    }
    Ok(())
}

/// Patterns that no table meets.
fn of_patterns(selection: &Selection, all: &[Found], findings: &mut Vec<Finding>) {
    for pattern in selection.patterns() {
        if pattern.starts_with('!') {
            continue;
        }
        let alone = Selection::tables([pattern.as_str()]);
        if all.iter().any(|table| alone.wants(&table.name)) {
            continue;
        }
        let is_exact = !pattern.contains(['*', '?']);
        let diagnosis = if is_exact {
            TABLE_UNKNOWN
        } else {
            PATTERN_EMPTY
        };
        findings.push(diagnosis.found(
            format!("no table is named by `{pattern}`"),
            "mend the name, which is `schema.table`; views and foreign tables cannot be captured",
        ));
    }
}

/// Rules of tables or columns that are not there.
fn of_rules(selection: &Selection, wanted: &[&Found], findings: &mut Vec<Finding>) {
    let tables: Vec<_> = wanted.iter().map(|table| table.for_rules()).collect();
    match selection.check_tables(&tables) {
        // Patterns without a table have findings of their own.
        Err(SelectError::UnknownTable { pattern }) if selection.patterns().contains(&pattern) => {}
        Err(error) => findings.push(RULE.found(
            error.to_string(),
            "mend the rule in the configuration of the capture",
        )),
        Ok(()) => {}
    }
}

/// Tables that cannot be captured.
fn of_tables(selection: &Selection, wanted: &[&Found], findings: &mut Vec<Finding>) {
    for table in wanted {
        let name = &table.name;
        let is_named = selection
            .patterns()
            .iter()
            .any(|pattern| *pattern == name.to_string());
        let quoted = table.quoted();
        if table.is_unlogged {
            let diagnosis = if is_named {
                UNLOGGED
            } else {
                UNLOGGED_LEFT_OUT
            };
            findings.push(diagnosis.found(
                format!("the table {name} is unlogged"),
                format!("run `ALTER TABLE {quoted} SET LOGGED`, or exclude it with `!{name}`"),
            ));
        } else if !table.has_identity {
            let diagnosis = if is_named { NO_KEY } else { NO_KEY_LEFT_OUT };
            let part = if table.is_partitioned {
                " or one of its partitions"
            } else {
                ""
            };
            findings.push(diagnosis.found(
                format!("the table {name}{part} has no primary key and no other replica identity"),
                format!(
                    "run `ALTER TABLE {quoted} ADD PRIMARY KEY (…)`, or `ALTER TABLE {quoted} REPLICA IDENTITY FULL`, or \
                     exclude it with `!{name}`"
                ),
            ));
        }
        if !table.generated.is_empty() {
            findings.push(GENERATED.found(
                format!(
                    "the table {name} has the generated columns {}",
                    table.generated.join(", ")
                ),
                "compute them where the changes are consumed, if they are needed there",
            ));
        }
    }
}

/// A publication that leaves something out.
fn of_publication(
    publication: &Publication,
    state: &State,
    wanted: &[&Found],
    findings: &mut Vec<Finding>,
) {
    let name = tables::quote(&publication.name);
    findings.extend(publication.foreign(state));
    if !state.left_out.is_empty() {
        findings.push(OPERATIONS.found(
            format!(
                "the publication {name} leaves {} out",
                state.left_out.join(", ")
            ),
            format!(
                "run `ALTER PUBLICATION {name} SET (publish = 'insert, update, delete, truncate')`"
            ),
        ));
    }
    if !state.is_via_root
        && let Some(table) = wanted.iter().find(|table| table.is_partitioned)
    {
        findings.push(VIA_ROOT.found(
            format!(
                "the publication {name} sends the partitions of {} by themselves",
                table.name
            ),
            format!("run `ALTER PUBLICATION {name} SET (publish_via_partition_root = true)`"),
        ));
    }
    for table in wanted {
        let Some(member) = state.tables.get(&table.name) else {
            continue;
        };
        let quoted = table.quoted();
        let mend = format!(
            "run `ALTER PUBLICATION {name} DROP TABLE {quoted}` and `ALTER PUBLICATION {name} ADD TABLE {quoted}` in one \
             transaction"
        );
        if let Some(filter) = &member.filter {
            findings.push(ROW_FILTER.found(
                format!(
                    "the publication {name} has of {} only the rows with {filter}",
                    table.name
                ),
                mend,
            ));
        } else if member.has_columns_left_out {
            findings.push(COLUMN_LIST.found(
                format!(
                    "the publication {name} has only some columns of {}",
                    table.name
                ),
                mend,
            ));
        }
    }
}

/// Whether the publication can be brought to the wanted tables.
async fn of_rights(
    catalog: &Catalog,
    publication: &Publication,
    state: Option<&State>,
    wanted: &[&Found],
    findings: &mut Vec<Finding>,
) -> sqlx::Result<()> {
    let Plan {
        statements, added, ..
    } = publication.plan(state, wanted);
    if statements.is_empty() {
        return Ok(());
    }
    let may_make: bool = sqlx::query_scalar(
        "SELECT pg_catalog.has_database_privilege(pg_catalog.current_database(), 'CREATE')",
    )
    .fetch_one(&catalog.0)
    .await?;
    let foreign = wanted
        .iter()
        .find(|table| !table.is_ours && added.contains(&table.name));
    let why = match (state, foreign) {
        (None, _) if !may_make => "it has no right to create in the database".to_owned(),
        (Some(state), _) if !state.may_change => "the publication is another role's".to_owned(),
        (_, Some(table)) => format!("the table {} is another role's", table.name),
        _ => return Ok(()),
    };
    findings.push(publication.needs_rights(&statements, &why));
    Ok(())
}

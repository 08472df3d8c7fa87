//! Triggers, rules and policies on the tables of the bus, which has none of its own.
//!
//! Input: the tables. Output: a finding for each. It is not known what their code does; `INSERT`s that come back
//! without a row are noticed by the bus itself, see `log/tables/side_effects.rs`.

use super::{
    finding::{COULD_NOT_CHECK, Diagnosis, Finding, Level},
    tables::OurTables,
    ward::Ward,
};
use crate::{
    OutboxDatabase,
    database::{DbResult, Dialect},
};

pub(super) const TRIGGER_ON_TABLE: Diagnosis = Diagnosis::new(
    Level::Warning,
    "trigger_on_table",
    "A trigger before a row, or a rule, can change messages or keep them out without an error",
);

pub(super) const TRIGGER_AFTER: Diagnosis = Diagnosis::new(
    Level::Note,
    "trigger_after",
    "Such a trigger changes no message, but its work is part of each transaction that publishes: if it fails, \
     publishing fails",
);

pub(super) const ROW_SECURITY: Diagnosis = Diagnosis::new(
    Level::Error,
    "row_security",
    "Rows that a policy hides are neither sent nor delivered, without an error",
);

/// Table, name, and whether it comes after the change.
type FoundTrigger = (String, String, i64);

pub(super) async fn look<DB: OutboxDatabase>(
    ward: &Ward<DB>,
    tables: &OurTables,
) -> DbResult<Vec<Finding>> {
    let triggers: Vec<FoundTrigger> = ward.rows(triggers(DB::DIALECT), &[]).await?;
    let is_ours = |(table, ..): &&FoundTrigger| tables.has(table);
    let mut findings: Vec<Finding> = triggers
        .iter()
        .filter(is_ours)
        .map(|trigger| of_trigger(DB::DIALECT, trigger))
        .collect();
    match DB::DIALECT {
        Dialect::Postgres => {
            let rules: Vec<(String, String)> = ward.rows(RULES, &[]).await?;
            let rules = rules.iter().filter(|(table, _)| tables.has(table));
            findings.extend(rules.map(|(table, rule)| of_rule(table, rule)));
            let secured: Vec<String> = ward.rows(SECURED, &[]).await?;
            let secured = secured.iter().filter(|table| tables.has(table));
            findings.extend(secured.map(|table| of_policy(table)));
        }
        // Without the right the list is empty, and no error.
        Dialect::MySql if triggers.is_empty() && !may_see(ward).await? => {
            let what =
                "whether there are triggers on the tables cannot be told without the right TRIGGER";
            let mend = "Look with an account that has it: `SHOW TRIGGERS`";
            findings.push(COULD_NOT_CHECK.found(what, mend));
        }
        Dialect::MySql | Dialect::Sqlite => {}
    }
    Ok(findings)
}

const fn triggers(dialect: Dialect) -> &'static str {
    match dialect {
        // The bits of `tgtype`: 2 before, 64 instead.
        Dialect::Postgres => {
            "SELECT c.relname::text, t.tgname::text, CASE WHEN t.tgtype & 66 = 0 THEN 1 ELSE 0 END::bigint \
             FROM pg_catalog.pg_trigger t JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid \
             WHERE NOT t.tgisinternal AND t.tgenabled <> 'D' \
               AND c.relnamespace = to_regnamespace(quote_ident(current_schema())) ORDER BY 1, 2"
        }
        Dialect::MySql => {
            "SELECT CONVERT(EVENT_OBJECT_TABLE USING utf8mb4), CONVERT(TRIGGER_NAME USING utf8mb4), \
                CAST(ACTION_TIMING = 'AFTER' AS SIGNED) \
             FROM information_schema.TRIGGERS WHERE EVENT_OBJECT_SCHEMA = DATABASE() ORDER BY 1, 2"
        }
        // RAISE(IGNORE) leaves a row out, in both kinds.
        Dialect::Sqlite => {
            "SELECT tbl_name, name, 0 FROM main.sqlite_master WHERE type = 'trigger' ORDER BY 1, 2"
        }
    }
}

const RULES: &str = "\
    SELECT tablename::text, rulename::text FROM pg_catalog.pg_rules \
    WHERE schemaname = current_schema() ORDER BY 1, 2";

const SECURED: &str = "\
    SELECT relname::text FROM pg_catalog.pg_class \
    WHERE relnamespace = to_regnamespace(quote_ident(current_schema())) AND relrowsecurity ORDER BY 1";

async fn may_see<DB: OutboxDatabase>(ward: &Ward<DB>) -> DbResult<bool> {
    let grants: Vec<String> = ward.rows("SHOW GRANTS", &[]).await?;
    let says = |grant: &String| {
        ["ALL PRIVILEGES", "TRIGGER"]
            .iter()
            .any(|right| grant.contains(right))
    };
    Ok(grants.iter().any(says))
}

fn of_trigger(dialect: Dialect, (table, trigger, is_after): &FoundTrigger) -> Finding {
    let diagnosis = if *is_after > 0 {
        TRIGGER_AFTER
    } else {
        TRIGGER_ON_TABLE
    };
    let quoted = dialect.quoted(trigger);
    let is_plain = trigger
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    let drop = match dialect {
        Dialect::Postgres => format!("Run `DROP TRIGGER {quoted} ON {table}`"),
        Dialect::Sqlite => format!("Run `DROP TRIGGER {quoted}`"),
        // Quotes of MySQL would end what is to be typed.
        Dialect::MySql if is_plain => format!("Run `DROP TRIGGER {trigger}`"),
        Dialect::MySql => "Drop it".to_owned(),
    };
    diagnosis.found(
        format!("the table {table} has the trigger {trigger}"),
        format!("{drop}, unless you know that it leaves every row as it is"),
    )
}

fn of_rule(table: &str, rule: &str) -> Finding {
    let quoted = Dialect::Postgres.quoted(rule);
    TRIGGER_ON_TABLE.found(
        format!("the table {table} has the rule {rule}"),
        format!("Run `DROP RULE {quoted} ON {table}`"),
    )
}

fn of_policy(table: &str) -> Finding {
    ROW_SECURITY.found(
        format!("the table {table} has row-level security"),
        format!("Run `ALTER TABLE {table} DISABLE ROW LEVEL SECURITY`"),
    )
}

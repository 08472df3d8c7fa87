//! The tables of operations, shared by all services of a database.
//!
//! Input: a pool. Output: the tables, made under the lock of the schema where they are missing.
//!
//! | column of `final_operations` | holds |
//! | --- | --- |
//! | `id` | the key: a later operation has a higher one |
//! | `service`, `who`, `action`, `subject` | what is done, for whom; `letters` or `records` |
//! | `filter`, `terms` | the selection for a person, and for the program that carries it out |
//! | `cut_off`, `cut_off_seq` | what died or failed later, or was collected under a higher number, is not touched |
//! | `total`, `more` | how many were counted; 1 if there are more |
//! | `done`, `refused`, `refusal` | how many are done; how many the database refused, and why the last one |
//! | `state` | `planned`, `running`, `stopped` or `done` |
//! | `planned_at`, `started_at`, `ended_at` | when |
//!
//! Times are in microseconds since 1970, by the database's clock. `final_operation_leases` has a lease for each
//! operation that is being carried out.

use sqlx::Pool;

use crate::{
    Error, OutboxDatabase,
    database::{Dialect, Driver, Leases, Tables, migrate},
};

/// The version of the tables.
const VERSION: u32 = 1;

/// The name under which the version is written down.
pub(in crate::admin) const OPERATIONS: &str = "final_operations";

/// The statements that make the tables. Each may find its work done.
fn statements<DB: Driver>() -> [String; 2] {
    let schema = match DB::DIALECT {
        Dialect::Sqlite => "main.",
        Dialect::Postgres | Dialect::MySql => "",
    };
    let words = DB::DIALECT.words();
    let operations = format!(
        "CREATE TABLE IF NOT EXISTS {schema}{OPERATIONS} (\n  \
           id {int} NOT NULL PRIMARY KEY,\n  \
           service {name} NOT NULL,\n  \
           who {name} NOT NULL,\n  \
           action {name} NOT NULL,\n  \
           subject {name} NOT NULL,\n  \
           filter {text} NOT NULL,\n  \
           terms {text} NOT NULL,\n  \
           cut_off {int} NOT NULL,\n  \
           cut_off_seq {int} NOT NULL,\n  \
           total {int} NOT NULL,\n  \
           more {int} NOT NULL,\n  \
           done {int} NOT NULL,\n  \
           refused {int} NOT NULL,\n  \
           refusal {text},\n  \
           state {name} NOT NULL,\n  \
           planned_at {int} NOT NULL,\n  \
           started_at {int},\n  \
           ended_at {int}\n){options}",
        int = words.int_type,
        name = words.name_type,
        text = words.text_type,
        options = words.table_options,
    );
    [
        operations,
        Leases::create::<DB>(&format!("{schema}final_operation_leases")),
    ]
}

/// Makes the tables, or leaves them as they are.
pub(crate) async fn make_operations<DB: OutboxDatabase>(pool: &Pool<DB>) -> Result<(), Error> {
    let statements = statements::<DB>();
    let tables = Tables {
        name: OPERATIONS,
        version: VERSION,
        statements: &statements,
    };
    let made = migrate(pool, &tables).await;
    made.map_err(Error::database("making the table of operations"))
}

/// The same as SQL text, to be run by hand.
pub(crate) fn operations_script<DB: OutboxDatabase>() -> String {
    let mut text = format!(
        "-- The operations of the admin API, version {VERSION}, for all services of the database. \
         Running it again changes nothing.\n"
    );
    for statement in statements::<DB>() {
        text.push_str(&statement);
        text.push_str(";\n");
    }
    text
}

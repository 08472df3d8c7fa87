//! The words of the log in MySQL and MariaDB. Input: none, they are constants. Output: [`LogWords`].

use super::{LogWords, Types};

pub(super) const WORDS: LogWords = LogWords {
    gapless: false,
    session: &SESSION,
    types: TYPES,
    durable: None,
    notify: None,
    no_wait: Some("FOR UPDATE NOWAIT"),
    only: Some("ORDER BY seq LIMIT ?"),
    strict: None,
    impatient: None,
    last_number,
    raise_number: None,
};

/// Besides the settings of every own connection: no statement waits for long. Only MariaDB can end a transaction
/// that stands still, as a paused process would leave one.
const SESSION: [&str; 2] = [
    "SET SESSION innodb_lock_wait_timeout = 5 /*!80000 , SESSION information_schema_stats_expiry = 0 */",
    "/*M!100300 SET SESSION idle_transaction_timeout = 10 */",
];

const TYPES: Types = Types {
    serial: "BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY",
    small: "SMALLINT",
    moving: OPTIONS,
    still: OPTIONS,
    busy: OPTIONS,
    inline_index: true,
    schema: "",
};

const OPTIONS: &str =
    " ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin";

/// The counter as it is now. By default MySQL 8 would answer with one that it read up to a day ago.
fn last_number(table: &str) -> String {
    let name = table.rsplit('.').next().unwrap_or(table);
    format!(
        "(SELECT CAST(COALESCE(AUTO_INCREMENT, 1) AS SIGNED) - 1 FROM information_schema.TABLES \
         WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = '{name}')"
    )
}

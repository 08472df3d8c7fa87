//! Settings that nobody should have, for a server of MariaDB or of MySQL: whichever is installed.

use final_tests::{MariaDb, servers::Setup};
use sqlx::{AssertSqlSafe, MySqlPool};
use tokio::sync::OnceCell;

/// What both know. In one server, since each costs seconds.
const BOTH: &[&str] = &[
    "--autocommit=0",
    "--completion-type=CHAIN",
    "--init-connect=SET NAMES latin1",
    "--transaction-isolation=SERIALIZABLE",
    "--log-bin=binlog",
    "--server-id=1",
    "--binlog-format=MIXED",
    "--binlog-row-image=MINIMAL",
    "--innodb-rollback-on-timeout=ON",
    "--innodb-strict-mode=OFF",
    "--innodb-autoinc-lock-mode=0",
    "--auto-increment-increment=3",
    "--auto-increment-offset=2",
    "--default-storage-engine=MyISAM",
    "--max-allowed-packet=64K",
    "--net-buffer-length=1K",
    "--wait-timeout=2",
    "--interactive-timeout=2",
    "--character-set-server=latin2",
    "--collation-server=latin2_czech_cs",
    "--default-time-zone=-11:00",
    "--lc-messages=de_DE",
    "--explicit-defaults-for-timestamp=OFF",
    "--big-tables=ON",
    "--group-concat-max-len=4",
    "--max-sort-length=64",
    "--div-precision-increment=0",
    "--eq-range-index-dive-limit=1",
    "--low-priority-updates=ON",
];

/// What MariaDB alone knows, or knows more of.
const OF_MARIADB: &[&str] = &[
    "--sql-mode=ANSI_QUOTES,PIPES_AS_CONCAT,NO_BACKSLASH_ESCAPES,IGNORE_SPACE,HIGH_NOT_PRECEDENCE,NO_ZERO_DATE,\
     NO_ZERO_IN_DATE,ONLY_FULL_GROUP_BY,NO_UNSIGNED_SUBTRACTION,NO_AUTO_VALUE_ON_ZERO,PAD_CHAR_TO_FULL_LENGTH,\
     TIME_ROUND_FRACTIONAL,SIMULTANEOUS_ASSIGNMENT,REAL_AS_FLOAT,NO_ENGINE_SUBSTITUTION",
    "--innodb-snapshot-isolation=ON",
    "--innodb-force-primary-key=ON",
    "--lower-case-table-names=1",
    "--max-recursive-iterations=1",
    "--in-predicate-conversion-threshold=2",
    "--use-stat-tables=NEVER",
    "--join-cache-level=8",
    "--query-cache-type=ON",
    "--query-cache-size=1M",
    "--old-mode=NO_DUP_KEY_WARNINGS_WITH_IGNORE",
];

/// What MySQL alone knows, or knows by another name. It takes `lower_case_table_names` only when its data folder is
/// made. It has nothing like `innodb_snapshot_isolation`, `in_predicate_conversion_threshold`, `use_stat_tables`,
/// `join_cache_level`, `old_mode` and the query cache.
const OF_MYSQL: &[&str] = &[
    "--sql-mode=ANSI_QUOTES,PIPES_AS_CONCAT,NO_BACKSLASH_ESCAPES,IGNORE_SPACE,HIGH_NOT_PRECEDENCE,NO_ZERO_DATE,\
     NO_ZERO_IN_DATE,ONLY_FULL_GROUP_BY,NO_UNSIGNED_SUBTRACTION,NO_AUTO_VALUE_ON_ZERO,PAD_CHAR_TO_FULL_LENGTH,\
     TIME_TRUNCATE_FRACTIONAL,REAL_AS_FLOAT,NO_ENGINE_SUBSTITUTION",
    "--sql-require-primary-key=ON",
    "--cte-max-recursion-depth=1",
];

/// More settings, made once the server runs.
const GLOBALS: &str = "SET GLOBAL unique_checks = 0, GLOBAL foreign_key_checks = 0, GLOBAL sql_big_selects = 0, \
    GLOBAL sql_auto_is_null = 1, GLOBAL sql_buffer_result = 1, GLOBAL sql_warnings = 1, GLOBAL sql_notes = 0, \
    GLOBAL sql_safe_updates = 1, GLOBAL max_join_size = 1, GLOBAL sql_select_limit = 1, GLOBAL sql_quote_show_create = 0";

/// What MariaDB alone knows of these.
const GLOBALS_OF_MARIADB: &str = "SET GLOBAL check_constraint_checks = 0";

/// The server, started once.
pub(super) async fn hostile() -> &'static MariaDb {
    static SERVER: OnceCell<MariaDb> = OnceCell::const_new();
    let start = async || {
        let is_mysql = MariaDb::is_mysql().expect("a server");
        let (own, globals): (_, &[&str]) = match is_mysql {
            true => (OF_MYSQL, &[GLOBALS]),
            false => (OF_MARIADB, &[GLOBALS, GLOBALS_OF_MARIADB]),
        };
        let args = BOTH.iter().chain(own);
        let setup = Setup {
            args: args.map(|&setting| setting.into()).collect(),
            ..Setup::default()
        };
        let server = MariaDb::start_with(setup).await.expect("MariaDB");
        let root = MySqlPool::connect(&server.url()).await.expect("connected");
        for globals in globals {
            let made = sqlx::raw_sql(AssertSqlSafe(*globals)).execute(&root).await;
            made.expect("set");
        }
        server
    };
    SERVER.get_or_init(start).await
}

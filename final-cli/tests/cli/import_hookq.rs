//! `final log import-hookq`: from hookq's tables, as hookq makes and fills them, into the log.

use std::{
    collections::HashMap,
    path::PathBuf,
    process::{Command, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use final_core::{
    Bus, Message, OutboxDatabase, Payload, Router, SqlBroker, State,
    database::{Dialect, FromRow, Templates, read},
};
use final_tests::{WorkDir, eventually, mysql_database, pg_database, process::Launch, sqlite_file};
use sqlx::{MySql, Pool, Postgres, Sqlite};
use tokio::time::sleep;

const SOON: Duration = Duration::from_secs(60);

/// The statement in which an import waits for a row.
const IMPORTING: &str = "%OCTET_LENGTH%DATABASE%topic_orders%";

/// The tables as hookq's users make them, on MySQL; on the others what is nearest.
fn tables(dialect: Dialect) -> [&'static str; 2] {
    match dialect {
        Dialect::MySql => [
            "CREATE TABLE topic_orders (id bigint NOT NULL, p int NOT NULL, data mediumblob NOT NULL, \
                created_at datetime NOT NULL, PRIMARY KEY (id)) \
                ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin",
            "CREATE TABLE cursor_orders (cid varchar(256) NOT NULL, sid bigint NOT NULL, \
                updated_at datetime NOT NULL, PRIMARY KEY (cid)) \
                ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin",
        ],
        Dialect::Postgres => [
            "CREATE TABLE topic_orders (id bigint PRIMARY KEY, p integer NOT NULL, data bytea NOT NULL, \
                created_at timestamp NOT NULL)",
            "CREATE TABLE cursor_orders (cid varchar(256) PRIMARY KEY, sid bigint NOT NULL, \
                updated_at timestamp NOT NULL)",
        ],
        Dialect::Sqlite => [
            "CREATE TABLE topic_orders (id INTEGER PRIMARY KEY, p INTEGER NOT NULL, data BLOB NOT NULL, \
                created_at DATETIME NOT NULL)",
            "CREATE TABLE cursor_orders (cid TEXT PRIMARY KEY, sid INTEGER NOT NULL, updated_at DATETIME NOT NULL)",
        ],
    }
}

/// What a Go service gives hookq, and what the handler here gets.
#[derive(Clone, Debug, PartialEq, serde::Deserialize)]
struct OrderState {
    #[serde(rename = "ID")]
    id: i64,
    #[serde(rename = "State")]
    state: i32,
}

/// An order as vmihailenco/msgpack writes the struct: numbers with their whole width.
fn go_bytes(order: &OrderState) -> Vec<u8> {
    let mut bytes = b"\x82\xa2ID\xd3".to_vec();
    bytes.extend(order.id.to_be_bytes());
    bytes.extend(b"\xa5State\xd2");
    bytes.extend(order.state.to_be_bytes());
    bytes
}

/// The order of a message: five orders, each with many states.
fn order(number: i64) -> OrderState {
    OrderState {
        id: number % 5,
        state: number as i32,
    }
}

/// A database with hookq's tables.
struct Queue<DB: OutboxDatabase> {
    pool: Pool<DB>,
    url: String,
}

impl<DB: OutboxDatabase> Queue<DB> {
    async fn new(url: String) -> Self {
        let pool = Pool::<DB>::connect(&url).await.expect("a database");
        let queue = Self { pool, url };
        for table in tables(DB::DIALECT) {
            queue.run(table).await;
        }
        queue
    }

    async fn run(&self, sql: &str) -> u64 {
        let sql = Templates::new(DB::DIALECT, []).sql(sql);
        let mut conn = self.pool.acquire().await.expect("a connection");
        DB::run_sql(&mut conn, &sql, &[])
            .await
            .expect("a statement")
    }

    async fn one<T: FromRow>(&self, sql: &str) -> T {
        let sql = Templates::new(DB::DIALECT, []).sql(sql);
        let mut conn = self.pool.acquire().await.expect("a connection");
        let rows = read::<DB, T>(&mut conn, &sql, &[]).await.expect("rows");
        rows.into_iter().next().expect("a row")
    }

    /// Adds messages as hookq's producer does: numbered one after the other.
    async fn produce(&self, numbers: std::ops::RangeInclusive<i64>) {
        let sql = "INSERT INTO topic_orders (id, p, data, created_at) VALUES (?, 1, ?, '2026-01-02 03:04:05')";
        let sql = Templates::new(DB::DIALECT, []).sql(sql);
        let mut tx = DB::begin(&self.pool).await.expect("a transaction");
        for number in numbers {
            let data = go_bytes(&order(number));
            let values = [number.into(), data.as_slice().into()];
            DB::run_sql(&mut tx, &sql, &values).await.expect("a row");
        }
        tx.commit().await.expect("a commit");
    }

    async fn cursor_is(&self, client: &str, at: i64) {
        let insert =
            format!("INSERT INTO cursor_orders VALUES ('{client}', {at}, '2026-01-02 03:04:05')");
        self.run(&insert).await;
    }

    async fn cursor(&self, client: &str) -> i64 {
        self.one(&format!(
            "SELECT sid FROM cursor_orders WHERE cid = '{client}'"
        ))
        .await
    }

    fn database(&self) -> &str {
        self.url.rsplit('/').next().unwrap_or_default()
    }

    /// How many statements wait for a lock whose text is like this, with the name of this database in front of a
    /// table: the server is shared with other tests, which have tables of the same names.
    async fn waiting(&self, like: &str) -> i64 {
        let like = like.replace("DATABASE", self.database());
        self.one(&format!(
            "SELECT COUNT(*) FROM information_schema.innodb_trx \
             WHERE trx_state = 'LOCK WAIT' AND trx_query LIKE '{like}'"
        ))
        .await
    }

    /// How many messages were copied, and how many different ids they have.
    async fn copied(&self) -> (i64, i64) {
        self.one("SELECT COUNT(*), COUNT(DISTINCT message_id) FROM final_log WHERE recipient = 'billing'")
            .await
    }

    fn arguments(&self, more: &[&str]) -> Vec<String> {
        let mut all = vec!["log"];
        if more.contains(&"--json") {
            all.push("--json");
        }
        all.extend(["import-hookq", "--database-url", &self.url]);
        for (name, value) in [
            ("--topic-table", "topic_orders"),
            ("--cursor-table", "cursor_orders"),
            ("--client", "000"),
            ("--topic", "order.placed"),
            ("--group", "billing"),
        ] {
            if !more.contains(&name) {
                all.extend([name, value]);
            }
        }
        all.extend(more.iter().filter(|word| **word != "--json"));
        all.into_iter().map(str::to_owned).collect()
    }

    /// Runs the command: exit code, standard output, standard error.
    async fn import(&self, more: &[&str]) -> (i32, String, String) {
        let arguments = self.arguments(more);
        let run = move || {
            let mut command = Command::new(env!("CARGO_BIN_EXE_final"));
            command
                .args(arguments)
                .stdin(Stdio::null())
                .output()
                .expect("final")
        };
        let output = tokio::task::spawn_blocking(run).await.expect("final");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let code = output.status.code().expect("an exit code");
        (code, text(&output.stdout), text(&output.stderr))
    }

    /// Starts the command, and does not wait for it.
    fn begin(&self, folder: &WorkDir, more: &[&str]) -> final_tests::process::Process {
        let launch = Launch::new(PathBuf::from(env!("CARGO_BIN_EXE_final")));
        let launch = launch.args(self.arguments(more));
        launch.spawn("import", &folder.join("log")).expect("final")
    }
}

/// What handlers have got.
type Got = Arc<Mutex<Vec<(i64, OrderState)>>>;

async fn take(State(got): State<Got>, Payload(order): Payload<OrderState>, message: Message) {
    let number = message
        .headers()
        .get("hookq-id")
        .and_then(|number| number.parse().ok());
    got.lock()
        .expect("no panic")
        .push((number.unwrap_or(0), order));
}

async fn started<DB: OutboxDatabase>(service: &str, pool: &Pool<DB>) -> (Bus<DB>, Got) {
    let got = Got::default();
    let broker = SqlBroker::new(pool.clone()).key_order(true);
    let bus = Bus::new(service, pool.clone(), broker);
    let router = Router::new()
        .route("order.placed", take)
        .with_state(Arc::clone(&got));
    bus.start(router).await.expect("started");
    (bus, got)
}

async fn got<DB: OutboxDatabase>(queue: Queue<DB>) {
    queue.produce(1..=1_200).await;
    queue.cursor_is("000", 200).await;
    queue.cursor_is("001", 1_200).await;
    let (audit, heard) = started("audit", &queue.pool).await;

    let (code, plan, error) = queue.import(&["--dry-run", "--json"]).await;
    assert_eq!(code, 0, "{error}");
    let plan: serde_json::Value = serde_json::from_str(&plan).expect("JSON");
    assert_eq!(
        (&plan["v"], &plan["kind"]),
        (&1.into(), &"hookq_plan".into())
    );
    assert_eq!(
        (&plan["messages"], &plan["last"]),
        (&1_000.into(), &1_200.into())
    );
    let (code, _, error) = queue.import(&[]).await;
    assert_eq!(code, 5, "{error}");
    assert!(error.contains("add --yes"), "{error}");
    assert_eq!(
        (queue.cursor("000").await, queue.copied().await),
        (200, (0, 0))
    );

    let (code, copied, error) = queue
        .import(&["--yes", "--json", "--key-field", "ID"])
        .await;
    assert_eq!(code, 0, "{error}");
    let copied = copied.lines().last().expect("a line");
    let copied: serde_json::Value = serde_json::from_str(copied).expect("JSON");
    assert_eq!(
        (&copied["copied"], &copied["cursor"]),
        (&1_000.into(), &1_200.into())
    );
    assert_eq!(
        (queue.cursor("000").await, queue.copied().await),
        (1_200, (1_000, 1_000))
    );
    let (code, _, error) = queue.import(&["--dry-run"]).await;
    assert_eq!(code, 4, "{error}");

    // A client that has consumed everything is a group of the log from here on, too.
    let caught_up = ["--yes", "--client", "001", "--group", "mail"];
    let (code, _, error) = queue.import(&caught_up).await;
    assert_eq!(code, 0, "{error}");

    // A service that starts later gets what is kept for it, and what is published from now on.
    let (billing, got) = started("billing", &queue.pool).await;
    let new = rmp_serde::to_vec_named(&HashMap::from([("ID", 1), ("State", 9)])).expect("msgpack");
    billing
        .publish_bytes("order.placed", new)
        .key("1")
        .await
        .expect("published");
    let (mail, mailed) = started("mail", &queue.pool).await;
    eventually(
        "mail has what was published before it started",
        SOON,
        async || {
            let mailed = mailed.lock().expect("no panic").len();
            if mailed == 1 { Ok(()) } else { Err(mailed) }
        },
    )
    .await;
    mail.shutdown().await.expect("a shutdown");
    eventually("both have all", SOON, async || {
        let (got, heard) = (
            got.lock().expect("no panic").len(),
            heard.lock().expect("no panic").len(),
        );
        if (got, heard) == (1_001, 1) {
            Ok(())
        } else {
            Err((got, heard))
        }
    })
    .await;
    let got = got.lock().expect("no panic").clone();
    assert_eq!(
        heard.lock().expect("no panic").len(),
        1,
        "the copies are for one service"
    );
    let mut numbers: Vec<i64> = got
        .iter()
        .map(|(number, _)| *number)
        .filter(|number| *number > 0)
        .collect();
    for (number, seen) in &got {
        assert!(
            *number == 0 || *seen == order(*number),
            "{number}: {seen:?}"
        );
    }
    for id in 0..5 {
        let states = got
            .iter()
            .filter(|(number, order)| *number > 0 && order.id == id);
        let states: Vec<i32> = states.map(|(_, order)| order.state).collect();
        assert!(states.is_sorted(), "order {id}: {states:?}");
    }
    numbers.sort_unstable();
    assert_eq!(numbers, (201..=1_200).collect::<Vec<_>>());
    audit.shutdown().await.expect("shut down");
    billing.shutdown().await.expect("shut down");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_client_has_not_consumed_reaches_its_service_alone_on_mariadb() {
    got::<MySql>(Queue::new(mysql_database().await.expect("MariaDB")).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_client_has_not_consumed_reaches_its_service_alone_on_postgresql() {
    got::<Postgres>(Queue::new(pg_database().await.expect("PostgreSQL")).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_client_has_not_consumed_reaches_its_service_alone_on_sqlite() {
    let file = sqlite_file().expect("a file");
    got::<Sqlite>(Queue::new(file.url()).await).await;
}

async fn killed<DB: OutboxDatabase>(queue: Queue<DB>) {
    const ALL: i64 = 12_000;
    queue.produce(1..=ALL).await;
    queue.cursor_is("000", 0).await;
    let folder = WorkDir::new("import").expect("a folder");
    let (mut kills, mut in_the_midst) = (0, 0);
    for round in 0.. {
        let import = queue.begin(&folder, &["--yes"]);
        // Longer and longer, so that kills come in every phase and the import ends on any machine.
        sleep(Duration::from_millis(20 + 15 * round)).await;
        if import.exited().is_some() {
            break;
        }
        import.kill9();
        kills += 1;
        // The server ends the transaction of the dead when it notices.
        let cursor = queue.cursor("000").await;
        in_the_midst += i32::from((1..ALL).contains(&cursor));
        if cursor > 0 {
            eventually("as many copies as the cursor says", SOON, async || {
                let (copied, cursor) = (queue.copied().await, queue.cursor("000").await);
                if copied == (cursor, cursor) {
                    Ok(())
                } else {
                    Err((copied, cursor))
                }
            })
            .await;
        }
    }
    assert!(in_the_midst > 0, "of {kills} kills none came in the midst");
    let (code, _, error) = queue.import(&["--yes"]).await;
    assert!(code == 0 || code == 4, "{error}");
    assert_eq!(
        (queue.cursor("000").await, queue.copied().await),
        (ALL, (ALL, ALL))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_import_that_is_killed_again_and_again_copies_each_message_once_on_mariadb() {
    killed::<MySql>(Queue::new(mysql_database().await.expect("MariaDB")).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_import_that_is_killed_again_and_again_copies_each_message_once_on_postgresql() {
    killed::<Postgres>(Queue::new(pg_database().await.expect("PostgreSQL")).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_import_that_is_killed_again_and_again_copies_each_message_once_on_sqlite() {
    let file = sqlite_file().expect("a file");
    killed::<Sqlite>(Queue::new(file.url()).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_of_a_producer_that_commits_late_is_waited_for() {
    let queue: Queue<MySql> = Queue::new(mysql_database().await.expect("MariaDB")).await;
    queue.cursor_is("000", 0).await;
    queue.produce(1..=2).await;
    let mut late = queue.pool.begin().await.expect("a transaction");
    sqlx::query("INSERT INTO topic_orders VALUES (3, 1, x'c0', NOW())")
        .execute(&mut *late)
        .await
        .expect("a row");
    queue.produce(4..=4).await;
    let folder = WorkDir::new("import").expect("a folder");
    let import = queue.begin(&folder, &["--yes"]);
    eventually("the import waits for the row", SOON, async || {
        if queue.waiting(IMPORTING).await > 0 {
            Ok(())
        } else {
            Err(import.log())
        }
    })
    .await;
    assert_eq!(queue.copied().await, (0, 0));
    late.commit().await.expect("a commit");
    let ended = eventually("the import has ended", SOON, async || import.exited()).await;
    assert_eq!(ended, "exit status: 0", "{}", import.log());
    assert_eq!(
        (queue.cursor("000").await, queue.copied().await),
        (4, (4, 4))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_of_hookq_that_still_runs_ends_the_import() {
    let queue: Queue<MySql> = Queue::new(mysql_database().await.expect("MariaDB")).await;
    queue.produce(1..=3_000).await;
    queue.cursor_is("000", 0).await;
    // Holds the import in its second batch, while it has the cursor locked.
    let mut hold = queue.pool.begin().await.expect("a transaction");
    sqlx::query("SELECT id FROM topic_orders WHERE id = 700 FOR UPDATE")
        .execute(&mut *hold)
        .await
        .expect("a lock");
    let folder = WorkDir::new("import").expect("a folder");
    let import = queue.begin(&folder, &["--yes"]);
    eventually("the import is in its second batch", SOON, async || {
        let in_second = queue.waiting(IMPORTING).await > 0;
        if in_second && queue.cursor("000").await == 500 {
            Ok(())
        } else {
            Err(import.log())
        }
    })
    .await;
    // What hookq's consumer does after CatchN messages.
    let pool = queue.pool.clone();
    let update = format!(
        "UPDATE {}.cursor_orders SET sid = 37, updated_at = NOW() WHERE cid = '000'",
        queue.database()
    );
    let consumer = tokio::spawn(async move {
        sqlx::query(sqlx::AssertSqlSafe(update))
            .execute(&pool)
            .await
            .expect("the cursor of hookq");
    });
    eventually("hookq waits for the cursor", SOON, async || {
        queue
            .waiting("UPDATE DATABASE.cursor_orders SET sid = 37%")
            .await
            > 0
    })
    .await;
    hold.rollback().await.expect("a rollback");
    consumer.await.expect("hookq");
    let ended = eventually("the import has ended", SOON, async || import.exited()).await;
    assert_eq!(ended, "exit status: 1", "{}", import.log());
    let wanted =
        "the cursor of client \"000\" was at 1000 and is at 37: a consumer of hookq still runs";
    assert!(import.log().contains(wanted), "{}", import.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mistake_changes_nothing_and_says_what_to_do() {
    let file = sqlite_file().expect("a file");
    let queue: Queue<Sqlite> = Queue::new(file.url()).await;
    queue.produce(1..=3).await;
    queue.cursor_is("001", 0).await;
    for (more, code, wanted) in [
        (
            &["--yes"][..],
            2,
            "client \"000\" has no cursor in cursor_orders (there are cursors of 001)",
        ),
        (
            &["--yes", "--client", "001", "--from-start"],
            2,
            "has a cursor, at 0; leave --from-start out",
        ),
        (
            &["--yes", "--client", "001", "--topic-table", "none"],
            1,
            "none cannot be read as a topic of hookq",
        ),
        (
            &["--yes", "--client", "001", "--topic-table", "a.b.c"],
            2,
            "write the name of a table",
        ),
        (
            &["--yes", "--client", "001", "--cursor-table", "topic_orders"],
            1,
            "as a table of hookq's cursors",
        ),
        (
            &["--yes", "--client", "001", "--topic", "order.*"],
            2,
            "wildcards",
        ),
        (
            &["--yes", "--client", "001", "--group", "Billing"],
            2,
            "lower-case",
        ),
        (
            &["--yes", "--client", "001", "--key", "a", "--key-field", "b"],
            2,
            "cannot be used with",
        ),
        (
            &["--yes", "--client", "001", "--key-field", "id"],
            1,
            "row 1 of topic_orders has no key: there is no field",
        ),
    ] {
        let (seen, _, error) = queue.import(more).await;
        assert_eq!(seen, code, "{more:?}: {error}");
        assert!(error.contains(wanted), "{more:?}: {error}");
        assert_eq!(queue.cursor("001").await, 0);
    }

    queue
        .run("INSERT INTO topic_orders VALUES (4, 2, x'7b7d', '2026-01-02 03:04:05')")
        .await;
    let (code, _, error) = queue.import(&["--yes", "--from-start"]).await;
    assert_eq!(code, 1, "{error}");
    assert!(
        error.contains("row 4 of topic_orders has the protocol 2"),
        "{error}"
    );
    let more = [
        "--yes",
        "--from-start",
        "--content-type",
        "application/json",
    ];
    let (code, out, error) = queue.import(&more).await;
    assert_eq!(code, 0, "{error}");
    assert_eq!(
        out.lines().last(),
        Some("4 messages copied for billing; the cursor of client 000 is at 4")
    );
    let json: i64 = queue
        .one("SELECT COUNT(*) FROM final_log WHERE content_type = 'application/json' AND message_key IS NULL")
        .await;
    assert_eq!((queue.copied().await, json), ((4, 4), 1));
}

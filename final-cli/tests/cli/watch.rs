//! What a person at a terminal sees of something that takes long: `status --watch`, and the bar of an operation.

use std::{
    fs::File,
    process::{Command, Stdio},
    time::Instant,
};

use final_tests::{Proxy, WorkDir, eventually};

use crate::{
    database::{Database, Place},
    program::{Ran, program},
    screen::screen,
    tail::SOON,
    terminal::Terminal,
};

crate::everywhere!(
    a_long_operation_has_a_bar_that_is_gone_at_its_end,
    a_short_operation_has_no_bar,
    a_watched_status_ends_where_the_database_refuses,
);

/// What the bar of so many says.
fn bar(of: u32) -> String {
    format!("of {of}, ")
}

/// The program at a terminal that is its controlling one, so that keys reach it as signals.
fn at_a_terminal(url: &str, words: &str) -> Command {
    let mut command = Command::new("setsid");
    command
        .args(["--ctty", "--wait", env!("CARGO_BIN_EXE_final")])
        .args(words.split(' '))
        .env("DATABASE_URL", url)
        .env("TERM", "xterm")
        .env_remove("NO_COLOR");
    command
}

async fn comes_to_show(terminal: &Terminal, what: &str, is_so: impl Fn(&[String]) -> bool) {
    eventually(what, SOON, async || match screen(&terminal.shown()) {
        lines if is_so(&lines) => Ok(()),
        lines => Err(lines),
    })
    .await;
}

/// Whether a line has this.
fn has(lines: &[String], text: &str) -> bool {
    lines.iter().any(|line| line.contains(text))
}

/// The number of pending records of `shop`, which stands behind its name.
fn pending(lines: &[String]) -> Option<&str> {
    let row = lines.iter().find(|line| line.starts_with("shop "))?;
    row.split_whitespace().nth(1)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watched_status_is_drawn_again_until_a_key_interrupts_it() {
    let at = Place::<sqlx::Postgres>::fresh().await;
    let bus = at.outbox_bus("shop");
    bus.migrate().await.expect("tables");
    let mut terminal = Terminal::new(200);
    let modes = terminal.modes();
    let watching = terminal.start(&mut at_a_terminal(&at.url, "status --watch --every 100ms"));
    let shows = |number: &'static str| move |lines: &[String]| pending(lines) == Some(number);
    comes_to_show(&terminal, "nothing pending", shows("0")).await;
    for number in 0..2 {
        bus.publish("order.placed", &number)
            .await
            .expect("published");
    }
    comes_to_show(&terminal, "two pending, in the place of none", shows("2")).await;

    terminal.type_keys("\u{3}");
    assert_eq!(terminal.end_of(watching).await, 0);

    assert_eq!(terminal.modes(), modes);
    let shown = terminal.shown();
    let lines = screen(&shown);
    assert_eq!(pending(&lines), Some("2"), "the last view stays");
    assert!(
        shown.ends_with('\n'),
        "the prompt has a line of its own: {shown:?}"
    );
    let colours = |colour: &str| shown.rfind(colour);
    assert!(
        colours("\u{1b}[0m") >= colours("\u{1b}[1m"),
        "a colour stays: {shown:?}"
    );
    assert!(!shown.contains("\u{1b}[?"), "a mode stays: {shown:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watched_status_tells_that_the_database_is_away_and_goes_on() {
    let at = Place::<sqlx::Postgres>::fresh().await;
    let bus = at.outbox_bus("shop");
    bus.migrate().await.expect("tables");
    let proxy = Proxy::to(&at.url).await.expect("a proxy");
    let url = proxy.url(&at.url);
    let mut terminal = Terminal::new(200);
    let watching = terminal.start(&mut at_a_terminal(&url, "status --watch --every 100ms"));
    // A program reads the same: nothing that is out of date, and one line that tells why.
    let mut piped = program();
    let dir = WorkDir::new("watch").expect("a folder");
    let file = dir.write("views.jsonl", "").expect("a file");
    let told = dir.write("told", "").expect("a file");
    let piped = piped
        .env("DATABASE_URL", &url)
        .args(["status", "--watch", "--every", "100ms", "--json"])
        .stdin(Stdio::null())
        .stdout(File::create(&file).expect("a file"))
        .stderr(File::create(&told).expect("a file"));
    let piped = piped.spawn().expect("it starts");
    let views = || std::fs::read_to_string(&file).expect("views");
    let is_away = |lines: &[String]| {
        has(lines, "out of date: the database does not answer") && has(lines, "shop")
    };
    comes_to_show(&terminal, "a view", |lines| has(lines, "everything moves")).await;
    eventually("a line", SOON, async || !views().is_empty()).await;

    proxy.down();
    comes_to_show(&terminal, "that the database is away", is_away).await;
    let told = || std::fs::read_to_string(&told).expect("errors");
    eventually("the program tells why", SOON, async || !told().is_empty()).await;
    bus.publish("order.placed", &1).await.expect("published");
    proxy.up().expect("the port is still ours");
    comes_to_show(&terminal, "a view of today", |lines| {
        !is_away(lines) && pending(lines) == Some("1")
    })
    .await;

    terminal.type_keys("\u{3}");
    assert_eq!(terminal.end_of(watching).await, 0);
    let pid = i32::try_from(piped.id().expect("it runs")).expect("a pid");
    let pid = rustix::process::Pid::from_raw(pid).expect("a pid");
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("interrupted");
    let ran = Ran::from(piped.wait_with_output().await.expect("it ends"));
    let ran = Ran {
        out: views(),
        err: told(),
        ..ran.ends_with(0)
    };
    assert!(ran.json().iter().all(|line| line["kind"] == "service"));
    assert_eq!(ran.err.matches("does not answer").count(), 1, "{ran:#?}");
    assert!(!ran.err.contains("password"), "{ran:#?}");
}

async fn a_watched_status_ends_where_the_database_refuses<DB: Database>(at: Place<DB>) {
    at.outbox_bus("shop").migrate().await.expect("tables");
    let dir = WorkDir::new("refused").expect("a folder");
    let file = dir.write("views.jsonl", "").expect("a file");
    let watching = program()
        .env("DATABASE_URL", &at.url)
        .args(["status", "--watch", "--every", "100ms", "--json"])
        .stdin(Stdio::null())
        .stdout(File::create(&file).expect("a file"))
        .stderr(Stdio::piped())
        .spawn();
    let watching = watching.expect("it starts");
    let views = || std::fs::read_to_string(&file).expect("views");
    eventually("a view", SOON, async || !views().is_empty()).await;

    // As a newer release may.
    at.sql("ALTER TABLE final_shop_outbox RENAME COLUMN due_at TO due_from")
        .await;

    let ended = tokio::time::timeout(SOON, watching.wait_with_output()).await;
    let ran = Ran::from(ended.expect("it ends").expect("it ends")).ends_with(1);
    assert!(ran.err.contains("due_at"), "{ran:#?}");
    assert!(!ran.err.contains("does not answer"), "{ran:#?}");
}

async fn failed_records<DB: Database>(at: &Place<DB>, number: u32) {
    let bus = at.outbox_bus("shop");
    bus.migrate().await.expect("tables");
    for number in 0..number {
        bus.publish("order.placed", &number)
            .await
            .expect("published");
    }
    at.sql("UPDATE final_shop_outbox SET status = 3, last_error = 'too large'")
        .await;
}

/// The pace makes it long: four a second are at least three seconds for sixteen.
async fn a_long_operation_has_a_bar_that_is_gone_at_its_end<DB: Database>(at: Place<DB>) {
    failed_records(&at, 16).await;
    let words = "outbox discard --all --yes --per-second 4";
    let terminal = Terminal::new(100);

    let running = terminal.start(&mut at_a_terminal(&at.url, words));
    comes_to_show(&terminal, "a bar", |lines| has(lines, &bar(16))).await;
    assert_eq!(terminal.end_of(running).await, 0);

    let lines = screen(&terminal.shown());
    assert!(!has(&lines, &bar(16)), "{lines:#?}");
    assert!(has(&lines, ": 16 done"), "{lines:#?}");

    // A pipe gets none, however long it takes.
    failed_records(&at, 16).await;
    let ran = at.run(words.split(' ')).await.ends_with(0);
    assert!(!ran.all().contains(&bar(16)), "{ran:#?}");
    assert_eq!(ran.err, "");
}

async fn a_short_operation_has_no_bar<DB: Database>(at: Place<DB>) {
    // On a busy machine one may take long.
    eventually("an operation of less than two seconds", SOON, async || {
        failed_records(&at, 3).await;
        let terminal = Terminal::new(100);
        let began = Instant::now();
        let words = "outbox discard --all --yes --per-second 0";
        assert_eq!(
            terminal
                .end_of(terminal.start(&mut at_a_terminal(&at.url, words)))
                .await,
            0
        );
        let is_short = began.elapsed().as_secs() < 2;
        let shown = terminal.shown();
        assert!(!is_short || !shown.contains(&bar(3)), "{shown:?}");
        is_short
    })
    .await;
}

//! What a person at a terminal sees and answers.

use std::{
    fs::File,
    io::{Read, Write},
    os::fd::OwnedFd,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread,
};

use final_tests::{WorkDir, eventually};
use rustix::{
    fs::{Mode, OFlags},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize},
};

use crate::{
    database::{Database, Place},
    everywhere,
    tail::SOON,
};

everywhere!(in_production_a_change_wants_the_name_of_the_context);

/// What is written behind the words of a program that has ended.
const END: &str = "<all is read>";

/// The program on a terminal of its own.
pub struct Terminal {
    master: File,
    slave: OwnedFd,
    shown: Arc<Mutex<Vec<u8>>>,
}

impl Terminal {
    /// With so many columns.
    pub fn new(columns: u16) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
        grantpt(&master).expect("granted");
        unlockpt(&master).expect("unlocked");
        let name = ptsname(&master, Vec::new()).expect("a name");
        let slave =
            rustix::fs::open(&name, OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).expect("opened");
        let size = Winsize {
            ws_row: 40,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&slave, size).expect("a size");
        let master = File::from(master);
        let shown = Arc::<Mutex<Vec<u8>>>::default();
        let (mut reader, note) = (master.try_clone().expect("a reader"), Arc::clone(&shown));
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = reader.read(&mut bytes) {
                note.lock().expect("lock").extend(&bytes[..count]);
            }
        });
        Self {
            master,
            slave,
            shown,
        }
    }

    /// What it shows, with plain ends of lines.
    pub fn shown(&self) -> String {
        let shown = self.shown.lock().expect("lock");
        String::from_utf8_lossy(&shown).replace("\r\n", "\n")
    }

    /// Starts the program on it.
    pub fn start(&self, command: &mut Command) -> Child {
        let end = || Stdio::from(self.slave.try_clone().expect("an end"));
        let command = command.stdin(end()).stdout(end()).stderr(end());
        command.spawn().expect("it starts")
    }

    /// Types these keys.
    pub fn type_keys(&mut self, keys: &str) {
        self.master.write_all(keys.as_bytes()).expect("typed");
    }

    /// How it treats what is typed.
    pub fn modes(&self) -> LocalModes {
        tcgetattr(&self.slave).expect("its modes").local_modes
    }

    /// Runs the program on it, types the answer once it asks, and waits for its end. Returns its exit code.
    pub async fn run(&mut self, command: &mut Command, asks: &str, answer: Option<&str>) -> i32 {
        let child = self.start(command);
        if let Some(answer) = answer {
            eventually(&format!("the question {asks:?}"), SOON, async || {
                self.shown().contains(asks)
            })
            .await;
            self.type_keys(&format!("{answer}\n"));
        }
        self.end_of(child).await
    }

    /// Waits for the end of a program, and until all that it has shown was read. Returns its exit code.
    pub async fn end_of(&self, mut child: Child) -> i32 {
        let ended = tokio::task::spawn_blocking(move || child.wait())
            .await
            .expect("it ends");
        // It comes behind everything that the program has written.
        let mut end = File::from(self.slave.try_clone().expect("an end"));
        end.write_all(END.as_bytes()).expect("written");
        eventually("the end of what is shown", SOON, async || {
            let mut shown = self.shown.lock().expect("lock");
            let is_read = shown.ends_with(END.as_bytes());
            if is_read {
                let left = shown.len() - END.len();
                shown.truncate(left);
            }
            is_read
        })
        .await;
        ended.expect("a status").code().expect("a code")
    }
}

async fn in_production_a_change_wants_the_name_of_the_context<DB: Database>(at: Place<DB>) {
    at.outbox_bus("shop").migrate().await.expect("tables");
    let dir = WorkDir::new("contexts").expect("a folder");
    let contexts = format!(
        "[prod]\ndatabase_url = {:?}\nservice = \"shop\"\nproduction = true\n",
        at.url
    );
    let contexts = dir.write("contexts.toml", &contexts).expect("a file");
    let program = || {
        let mut program = Command::new(env!("CARGO_BIN_EXE_final"));
        program
            .env("FINAL_CONTEXTS", &contexts)
            .args(["--context", "prod", "publish", "t"]);
        program
    };
    let asks = "Type the name of the context, prod, to go on: ";
    for (answer, code, records) in [("y", 5, 0), ("", 5, 0), ("prod", 0, 1)] {
        let ended = Terminal::new(200)
            .run(&mut program(), asks, Some(answer))
            .await;
        assert_eq!(ended, code, "{answer}");
        assert_eq!(
            at.number("SELECT count(*) FROM final_shop_outbox").await,
            records,
            "{answer}"
        );
    }
    // Nobody can be asked without a terminal, so that is a no, whatever comes by the pipe.
    let mut piped = tokio::process::Command::from(program());
    let ran = crate::program::run_with_input(&mut piped, [""; 0], "prod\n")
        .await
        .ends_with(5);
    assert!(ran.err.contains("--yes"), "{ran:#?}");
    let mut piped = tokio::process::Command::from(program());
    crate::program::run(&mut piped, ["--yes"])
        .await
        .ends_with(0);
    assert_eq!(at.number("SELECT count(*) FROM final_shop_outbox").await, 2);
}

/// A person answers, and sees a table that fits and nothing that a message says to the terminal.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_is_shown_asked_and_done_at_a_terminal() {
    let at = Place::<sqlx::Sqlite>::fresh().await;
    let bus = at.outbox_bus("shop");
    bus.migrate().await.expect("tables");
    for _ in 0..3 {
        let message = bus.publish("注文.大きい.とても長いトピックの名前", &1);
        message.key("\u{1b}]0;owned\u{7}").await.expect("published");
    }
    at.sql("UPDATE final_shop_outbox SET status = 3, last_error = 'too large for the broker, and more to say'").await;
    let program = |words: &str| {
        let mut program = Command::new(env!("CARGO_BIN_EXE_final"));
        program
            .env("DATABASE_URL", &at.url)
            .env("TERM", "xterm")
            .env_remove("NO_COLOR");
        program.args(words.split(' '));
        program
    };
    let left = async || at.number("SELECT count(*) FROM final_shop_outbox").await;
    let mut terminal = Terminal::new(90);
    let ended = terminal
        .run(
            &mut program("outbox discard --all"),
            "Discard 3 of shop",
            Some("n"),
        )
        .await;
    assert_eq!((ended, left().await), (5, 3));
    let shown = terminal.shown();
    assert!(shown.contains("\u{1b}[31mfailed\u{1b}[0m"), "{shown:?}");
    assert!(
        !shown.contains("\u{1b}]0;") && !shown.contains('\u{7}'),
        "{shown:?}"
    );
    let plain = shown
        .replace("\u{1b}[31m", "")
        .replace("\u{1b}[1m", "")
        .replace("\u{1b}[0m", "");
    let rows: Vec<&str> = plain
        .lines()
        .filter(|line| line.contains("  failed  "))
        .collect();
    assert_eq!(rows.len(), 3, "{plain:?}");
    for row in rows {
        let columns: usize = row
            .chars()
            .map(|c| if c > '\u{3000}' { 2 } else { 1 })
            .sum();
        assert!(columns <= 90, "{columns} columns: {row}");
    }
    let operations = at
        .run(["operations", "list", "--json"])
        .await
        .ends_with(0)
        .json();
    assert_eq!(operations[0]["state"], "stopped");

    let mut terminal = Terminal::new(90);
    let mut no_colour = program("outbox discard --all");
    no_colour.env("NO_COLOR", "1");
    let ended = terminal
        .run(&mut no_colour, "Discard 3 of shop", Some("y"))
        .await;
    assert_eq!((ended, left().await), (0, 0));
    assert!(
        !terminal.shown().contains('\u{1b}'),
        "{:?}",
        terminal.shown()
    );
}

/// A reader that has seen enough is no error, and is not waited for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closed_pipe_ends_the_program_quietly() {
    let at = Place::<sqlx::Sqlite>::fresh().await;
    let bus = at.outbox_bus("shop");
    bus.migrate().await.expect("tables");
    let mut tx = bus.with_tx(bus.begin().await.expect("a transaction"));
    for number in 0..2_000 {
        tx.publish("order.placed", &number).await.expect("staged");
    }
    tx.commit().await.expect("committed");
    let ask = "set -o pipefail; \"$FINAL\" outbox list --json --limit 2000 | head -n 1 | wc -l";
    let bash = tokio::process::Command::new("bash")
        .args(["-c", ask])
        .env("FINAL", env!("CARGO_BIN_EXE_final"))
        .env("DATABASE_URL", &at.url)
        .output()
        .await
        .expect("bash");
    let ran = crate::program::Ran::from(bash).ends_with(0);
    assert_eq!((ran.out.trim(), ran.err.as_str()), ("1", ""));
    // A disk that is full is one.
    let ask = "\"$FINAL\" outbox list --json > /dev/full";
    let bash = tokio::process::Command::new("bash")
        .args(["-c", ask])
        .env("FINAL", env!("CARGO_BIN_EXE_final"))
        .env("DATABASE_URL", &at.url)
        .output()
        .await
        .expect("bash");
    let ran = crate::program::Ran::from(bash).ends_with(1);
    assert!(ran.err.contains("the output cannot be written"), "{ran:#?}");
}

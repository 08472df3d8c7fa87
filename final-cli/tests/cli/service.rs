//! The runner of services: a process of its own, with a bus, as systemd and an orchestrator see it.
//!
//! The process is this test binary, started again with [`the_program_that_is_run`].

use std::{
    net::SocketAddr,
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr as UnixAddress, UnixDatagram},
    },
    path::PathBuf,
    process::exit,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use final_cli::{
    config::{self, DatabaseAddress, Secret},
    service::{self, Condition, Service, ServiceOptions},
};
use final_core::{BoxError, Bus, MemoryBroker, PgBus, Router, State};
use final_tests::{
    Port, Proxy, WorkDir, eventually, pg_database,
    process::{Launch, Process, Signal},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{sleep, timeout},
};

const SOON: Duration = Duration::from_secs(30);

/// The configuration of the program.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Shop {
    database: Option<DatabaseAddress>,
    /// A secret that must never be seen.
    token: Option<Secret>,
    #[serde(default)]
    does: Does,
    /// The start waits for this file.
    gate: Option<PathBuf>,
    /// Where a handler writes what it has done.
    journal: Option<PathBuf>,
    #[serde(default)]
    service: ServiceOptions,
}

/// What the program does wrong.
#[derive(Clone, Copy, Default, PartialEq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
enum Does {
    #[default]
    Well,
    FailAtStart,
    PanicAtStart,
    Die,
    FailAtStop,
    HangAtStop,
    HangInCondition,
    NeverStart,
    /// Is neither alive nor ready.
    Rot,
}

struct Program {
    does: Does,
    bus: Option<PgBus>,
}

impl Service for Program {
    async fn died(&self) -> BoxError {
        match self.does {
            Does::Die => "the source is gone".into(),
            _ => std::future::pending().await,
        }
    }

    async fn stop(&self) -> Result<(), BoxError> {
        match self.does {
            Does::FailAtStop => return Err("the last page is not written".into()),
            Does::HangAtStop => std::future::pending().await,
            _ => {}
        }
        if let Some(bus) = &self.bus {
            bus.shutdown().await?;
        }
        Ok(())
    }

    async fn condition(&self) -> Condition {
        match self.does {
            Does::HangInCondition => std::future::pending().await,
            Does::Rot => {
                return Condition {
                    live: false,
                    ready: false,
                    reasons: vec!["a task has ended".to_owned()],
                };
            }
            _ => {}
        }
        match &self.bus {
            Some(bus) => bus.health().await.into(),
            None => Condition::good(),
        }
    }

    async fn metrics(&self) -> String {
        let mut text = String::new();
        if let Some(bus) = &self.bus {
            bus.metrics().await.write_prometheus(&mut text);
        }
        text
    }
}

/// Writes a line when a message has been handled to its end.
async fn slow(State(journal): State<PathBuf>, message: final_core::Message) {
    std::fs::write(journal.with_extension("begun"), "").expect("the journal");
    sleep(Duration::from_millis(300)).await;
    std::fs::write(&journal, message.payload()).expect("the journal");
}

/// The program that the tests of this file run, if they have given it a configuration.
#[test]
fn the_program_that_is_run() {
    let Ok(path) = std::env::var("SHOP_CONFIG") else {
        return;
    };
    let shop = match config::read::<Shop>(path) {
        Ok(loaded) => loaded.config,
        Err(error) => {
            eprintln!("shop: {error}");
            exit(2);
        }
    };
    let options = shop.service.clone();
    let code = service::exit_code("shop", options, async move || {
        tracing::trace!(target: "final::test", token = ?shop.token, "the configuration");
        if let Some(gate) = &shop.gate {
            eventually("the gate is open", SOON, async || gate.exists()).await;
        }
        match shop.does {
            Does::FailAtStart => return Err("the topic is not allowed".into()),
            Does::PanicAtStart => panic!("no such luck"),
            Does::NeverStart => std::future::pending().await,
            _ => {}
        }
        let mut program = Program {
            does: shop.does,
            bus: None,
        };
        if let (Some(database), Some(journal)) = (&shop.database, &shop.journal) {
            let pool = sqlx::PgPool::connect(database.expose()).await?;
            let bus: PgBus = Bus::new("shop", pool, MemoryBroker::new());
            let router = Router::new().route("order.placed", slow);
            bus.start(router.with_state(journal.clone())).await?;
            bus.publish_bytes("order.placed", "handled").await?;
            program.bus = Some(bus);
        }
        Ok(program)
    });
    exit(code.into());
}

/// A program that runs, with a folder of its files.
struct Run {
    process: Process,
    address: SocketAddr,
    _folder: WorkDir,
    /// So that nobody else takes it.
    _port: Port,
}

impl Run {
    /// Starts the program with the keys at the top of its configuration, and those of `[service]`.
    fn new(top: &str, service: &str) -> Self {
        Self::with(top, service, |launch, _| launch)
    }

    fn with(top: &str, service: &str, more: impl FnOnce(Launch, &WorkDir) -> Launch) -> Self {
        let folder = WorkDir::new("service").expect("a folder");
        let port = Port::free().expect("a port");
        let address = SocketAddr::from(([127, 0, 0, 1], port.number()));
        let config = folder.join("shop.toml");
        let text = format!("{top}\n[service]\nlisten = '{address}'\n{service}\n");
        std::fs::write(&config, text).expect("the configuration");
        let launch = Launch::new(std::env::current_exe().expect("this program"))
            .args(["--exact", "service::the_program_that_is_run", "--nocapture"])
            .env("SHOP_CONFIG", &config)
            .env("SHOP_TOKEN", "hunter2");
        let launch = more(launch, &folder);
        let process = launch
            .spawn("shop", &folder.join("log"))
            .expect("the program");
        Self {
            process,
            address,
            _folder: folder,
            _port: port,
        }
    }

    /// Status and body of an answer.
    async fn get(&self, path: &str) -> Result<(u16, String), String> {
        get(self.address, path).await
    }

    /// Waits until a path is answered with a status, and returns the body.
    async fn until(&self, path: &str, status: u16) -> String {
        eventually(
            &format!("{path} is answered with {status}"),
            SOON,
            async || match self.get(path).await {
                Ok((seen, body)) if seen == status => Ok(body),
                seen => Err((seen, self.process.log())),
            },
        )
        .await
    }

    fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Waits for the end: the exit status, and what was written.
    async fn ended(&self) -> (String, String) {
        let status = eventually("the program has ended", SOON, async || {
            self.process.exited().ok_or_else(|| self.process.log())
        });
        (status.await, self.process.log())
    }
}

async fn get(address: SocketAddr, path: &str) -> Result<(u16, String), String> {
    let answer = async {
        let mut stream = TcpStream::connect(address).await?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        // The server closes the connection after one answer.
        stream.read_to_string(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    let answer = timeout(SOON, answer).await.map_err(|_| "no answer")?;
    let answer = answer.map_err(|error| error.to_string())?;
    let status = answer.get(9..12).and_then(|status| status.parse().ok());
    let body = answer
        .split_once("\r\n\r\n")
        .map(|(_, body)| body.to_owned());
    status.zip(body).ok_or(answer)
}

/// What systemd hears. It reads all the time: its socket has room for few messages.
#[derive(Clone)]
struct Systemd(Arc<Mutex<Vec<String>>>);

impl Systemd {
    fn at(address: &UnixAddress) -> Self {
        let socket = UnixDatagram::bind_addr(address).expect("a socket");
        let heard = Self(Arc::default());
        let hears = heard.clone();
        std::thread::spawn(move || {
            let mut bytes = [0; 100];
            while let Ok(length) = socket.recv(&mut bytes) {
                let message = String::from_utf8_lossy(&bytes[..length]).into_owned();
                hears.0.lock().expect("no panic").push(message);
            }
        });
        heard
    }

    fn heard(&self) -> Vec<String> {
        self.0.lock().expect("no panic").clone()
    }

    async fn hears(&self, wanted: &str) {
        eventually(&format!("systemd hears {wanted}"), SOON, async || {
            let heard = self.heard();
            heard
                .iter()
                .any(|heard| heard == wanted)
                .then_some(())
                .ok_or(heard)
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_is_alive_before_it_is_ready_and_finishes_its_work_at_sigterm() {
    let database = pg_database().await.expect("PostgreSQL");
    let mut systemd = None;
    let top = |folder: &WorkDir| {
        let path = |name| folder.join(name).display().to_string();
        format!(
            "database = '{database}'\ngate = '{}'\njournal = '{}'\ntoken = 'env:SHOP_TOKEN'",
            path("gate"),
            path("journal")
        )
    };
    let paths = WorkDir::new("paths").expect("a folder");
    let options = "log_format = 'json'\nlog = 'trace'\nstop_within = '20s'";
    let run = Run::with(&top(&paths), options, |launch, folder| {
        let path = folder.join("notify");
        systemd = Some(Systemd::at(
            &UnixAddress::from_pathname(&path).expect("a path"),
        ));
        launch
            .env("NOTIFY_SOCKET", path)
            .env("WATCHDOG_USEC", "200000")
    });
    let systemd = systemd.expect("systemd");

    assert_eq!(
        run.until("/livez", 200).await,
        "ok\n\
        the service is starting\n"
    );
    assert_eq!(
        run.until("/readyz", 503).await,
        "not ok\nthe service is starting\n"
    );
    systemd.hears("WATCHDOG=1").await;
    assert!(
        !systemd.heard().contains(&"READY=1".to_owned()),
        "{:?}",
        systemd.heard()
    );
    std::fs::write(paths.join("gate"), "").expect("the gate");
    assert_eq!(run.until("/readyz", 200).await, "ok\n");
    systemd.hears("READY=1").await;
    let metrics = run.until("/metrics", 200).await;
    let connected = "\nfinal_broker_connected{service=\"shop\"} 1\n";
    assert!(metrics.contains(connected), "{metrics}");
    assert_eq!(
        run.until("/else", 404).await,
        "there are /livez, /readyz and /metrics\n"
    );

    let begun = || paths.join("journal").with_extension("begun").exists();
    eventually("the handler has begun", SOON, async || begun()).await;
    run.signal(Signal::TERM);
    let (status, log) = run.ended().await;
    assert_eq!(status, "exit status: 0", "{log}");
    let journal = std::fs::read_to_string(paths.join("journal"));
    assert_eq!(journal.expect("the handler has ended"), "handled");
    systemd.hears("STOPPING=1").await;

    assert!(!log.contains("hunter2"), "a secret is in the log:\n{log}");
    let lines = log.lines().filter(|line| line.starts_with('{')).count();
    assert!(lines >= 4, "{log}");
    for line in log.lines().filter(|line| !is_of_the_harness(line)) {
        let line: serde_json::Value = serde_json::from_str(line).expect(line);
        assert!(
            line["timestamp"].is_string() && line["level"].is_string(),
            "{line}"
        );
        assert!(
            line["message"].is_string() && line["target"].is_string(),
            "{line}"
        );
        // Drivers say what they send below a warning, and the filter of this run asks for everything.
        let target = line["target"].as_str().unwrap_or_default();
        let is_loud = line["level"] == "WARN" || line["level"] == "ERROR";
        assert!(is_loud || !target.starts_with("sqlx"), "{line}");
    }
}

/// Whether a line is that of Rust's test harness, which the program runs in.
fn is_of_the_harness(line: &str) -> bool {
    line.is_empty() || line.starts_with("running ") || line.starts_with("test ")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_whose_database_is_away_is_alive_and_not_ready() {
    let database = pg_database().await.expect("PostgreSQL");
    let proxy = Proxy::to(&database).await.expect("a proxy");
    let paths = WorkDir::new("paths").expect("a folder");
    let (url, journal) = (proxy.url(&database), paths.join("journal"));
    let run = Run::new(
        &format!("database = '{url}'\njournal = '{}'", journal.display()),
        "",
    );
    run.until("/readyz", 200).await;
    proxy.down();
    let answer = run.until("/readyz", 503).await;
    assert!(
        answer.starts_with("not ok\nthe database does not answer: "),
        "{answer}"
    );
    let answer = run.until("/livez", 200).await;
    assert!(
        answer.starts_with("ok\nthe database does not answer: "),
        "{answer}"
    );
    proxy.up().expect("the proxy");
    assert_eq!(run.until("/readyz", 200).await, "ok\n");
    run.signal(Signal::INT);
    assert_eq!(run.ended().await.0, "exit status: 0");
}

#[tokio::test]
async fn a_service_that_does_not_start_says_why() {
    for (does, wanted) in [
        (
            "fail_at_start",
            "shop: the service could not be started: the topic is not allowed",
        ),
        (
            "panic_at_start",
            "shop: the service could not be started: panicked: no such luck",
        ),
        ("die", "shop: the service died: the source is gone"),
    ] {
        let run = Run::new(&format!("does = '{does}'"), "");
        let (status, log) = run.ended().await;
        assert_eq!(status, "exit status: 1", "{log}");
        assert!(log.contains(wanted), "{log}");
    }
}

#[tokio::test]
async fn an_address_that_cannot_be_used_is_told_with_its_cure() {
    let port = Port::free().expect("a port");
    let taken = std::net::TcpListener::bind(("127.0.0.1", port.number())).expect("a port");
    let address = taken.local_addr().expect("an address");
    for (listen, status, wanted) in [
        (
            address.to_string(),
            1,
            "end the process that has the port, or choose another one",
        ),
        (
            "192.0.2.1:9090".to_owned(),
            2,
            "write an address of this machine, as 127.0.0.1",
        ),
        ("here".to_owned(), 2, "shop.toml:3:10: `service.listen`: "),
    ] {
        let folder = WorkDir::new("service").expect("a folder");
        let config = folder.join("shop.toml");
        std::fs::write(&config, format!("\n[service]\nlisten = '{listen}'\n")).expect("a file");
        let launch = Launch::new(std::env::current_exe().expect("this program"))
            .args(["--exact", "service::the_program_that_is_run", "--nocapture"])
            .env("SHOP_CONFIG", &config);
        let process = launch
            .spawn("shop", &folder.join("log"))
            .expect("the program");
        let ended = process.wait(SOON).expect("an end");
        assert_eq!(ended, format!("exit status: {status}"), "{}", process.log());
        assert!(process.log().contains(wanted), "{}", process.log());
    }
}

#[tokio::test]
async fn a_filter_of_the_log_that_is_wrong_is_a_mistake_of_the_configuration() {
    let run = Run::new("", "log = 'final=loud=er'");
    let (status, log) = run.ended().await;
    assert_eq!(status, "exit status: 2", "{log}");
    assert!(
        log.contains("shop: the log filter is not valid; write it as"),
        "{log}"
    );
}

#[tokio::test]
async fn a_stop_has_its_limit_and_a_second_signal_ends_it_at_once() {
    let run = Run::new("does = 'hang_at_stop'", "stop_within = '300ms'");
    run.until("/readyz", 200).await;
    run.signal(Signal::TERM);
    let (status, log) = run.ended().await;
    assert_eq!(status, "exit status: 1", "{log}");
    assert!(
        log.contains("did not stop within 300ms and was cut off"),
        "{log}"
    );

    let run = Run::new("does = 'hang_at_stop'", "stop_within = '1h'");
    run.until("/readyz", 200).await;
    run.signal(Signal::TERM);
    assert_eq!(
        run.until("/readyz", 503).await,
        "not ok\nthe service is stopping\n"
    );
    assert_eq!(
        run.until("/livez", 200).await,
        "ok\nthe service is stopping\n"
    );
    let begun = Instant::now();
    run.signal(Signal::INT);
    let (status, log) = run.ended().await;
    assert_eq!(status, "exit status: 1", "{log}");
    assert!(log.contains("was cut off by a second SIGINT"), "{log}");
    assert!(begun.elapsed() < SOON, "an hour's limit was not waited for");

    let run = Run::new("does = 'fail_at_stop'", "");
    run.until("/readyz", 200).await;
    run.signal(Signal::TERM);
    let (status, log) = run.ended().await;
    assert_eq!(status, "exit status: 1", "{log}");
    assert!(
        log.contains("did not stop as it should: the last page is not written"),
        "{log}"
    );
}

#[tokio::test]
async fn a_service_that_is_told_to_stop_while_it_starts_stops() {
    let run = Run::new("does = 'never_start'", "");
    assert_eq!(
        run.until("/readyz", 503).await,
        "not ok\nthe service is starting\n"
    );
    run.signal(Signal::TERM);
    let (status, log) = run.ended().await;
    assert_eq!(status, "exit status: 0", "{log}");
    assert!(log.contains("its start is given up"), "{log}");
}

#[tokio::test]
async fn systemd_is_told_by_a_socket_without_a_file_and_gets_no_sign_of_life_from_what_is_dead() {
    let name = final_tests::unique("final-service");
    let address = UnixAddress::from_abstract_name(&name).expect("a name");
    let systemd = Systemd::at(&address);
    let run = Run::with("does = 'rot'", "", |launch, _| {
        launch
            .env("NOTIFY_SOCKET", format!("@{name}"))
            .env("WATCHDOG_USEC", "20000")
    });
    systemd.hears("READY=1").await;
    assert_eq!(run.until("/livez", 503).await, "not ok\na task has ended\n");
    eventually("the dead service is told of", SOON, async || {
        run.process.log().contains("systemd gets no sign of life")
    })
    .await;
    run.signal(Signal::TERM);
    run.ended().await;
    systemd.hears("STOPPING=1").await;
    let heard = systemd.heard();
    let signs = heard.iter().filter(|heard| *heard == "WATCHDOG=1").count();
    assert!(signs <= 1, "only what was on its way: {heard:?}");
}

#[tokio::test]
async fn a_socket_of_systemd_that_is_gone_changes_nothing() {
    for socket in ["/none/here", "vsock:2:1234", "@"] {
        let run = Run::with("", "", |launch, _| launch.env("NOTIFY_SOCKET", socket));
        run.until("/readyz", 200).await;
        run.signal(Signal::TERM);
        assert_eq!(run.ended().await.0, "exit status: 0");
    }
}

#[tokio::test]
async fn a_service_that_does_not_tell_its_condition_is_not_ready() {
    let run = Run::new("does = 'hang_in_condition'", "");
    let told = "not ok\nit has not told its condition within 5 s\n";
    eventually("the probe gives up", SOON, async || {
        run.get("/readyz")
            .await
            .is_ok_and(|(status, body)| status == 503 && body == told)
    })
    .await;
    run.signal(Signal::TERM);
    assert_eq!(run.ended().await.0, "exit status: 0");
}

#[tokio::test]
async fn guests_that_say_nothing_take_all_places_only_until_one_of_them_leaves() {
    let run = Run::new("", "");
    run.until("/readyz", 200).await;
    let mut silent = Vec::new();
    for _ in 0..64 {
        silent.push(TcpStream::connect(run.address).await.expect("a connection"));
    }
    let waiting = tokio::spawn(get(run.address, "/livez"));
    sleep(Duration::from_millis(300)).await;
    assert!(!waiting.is_finished(), "there was a 65th place");
    silent.pop();
    let (status, _) = waiting.await.expect("a task").expect("an answer");
    assert_eq!(status, 200);
}

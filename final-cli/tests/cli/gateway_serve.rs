//! `final gateway` as a person runs it: the demo's lines are typed as they stand, and a file's gateway serves until SIGTERM.

use std::time::Duration;

use final_tests::{
    Port, WorkDir, eventually,
    process::{Launch, Process, Signal},
};
use tokio::process::Command;

use crate::program::{program, run};

const SOON: Duration = Duration::from_secs(60);

fn start(dir: &WorkDir, args: &[&str]) -> Process {
    let launch = Launch::new(env!("CARGO_BIN_EXE_final"))
        .args(["gateway"])
        .args(args);
    launch
        .spawn("gateway", &dir.join("log.txt"))
        .expect("started")
}

/// Types a line into a shell.
async fn typed(line: &str) -> String {
    let output = Command::new("sh")
        .args(["-c", line])
        .output()
        .await
        .expect("a shell");
    assert!(output.status.success(), "{line}: {output:?}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

async fn ends(process: Process) {
    tokio::task::spawn_blocking(move || process.end(Signal::TERM, SOON))
        .await
        .expect("joined")
        .expect("a clean end");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_lines_that_the_demo_prints_work_as_they_stand() {
    let dir = WorkDir::new("demo").expect("a folder");
    let file = dir.join("demo.db").display().to_string();
    let demo = start(&dir, &["--demo", "--demo-file", &file]);
    let text = eventually("the demo's lines", SOON, async || {
        let text = demo.log();
        if text.contains("Ctrl-C ends it.") {
            Ok(text)
        } else {
            Err(text)
        }
    })
    .await;

    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let [set, post, mget, get] = lines
        .filter(|line| line.starts_with("redis-cli ") || line.starts_with("curl "))
        .collect::<Vec<_>>()[..]
    else {
        panic!("{text}");
    };
    assert_eq!(typed(set).await, "OK\n");
    assert!(typed(post).await.contains("\"id\":"));
    let taken = typed(mget).await;
    assert!(
        taken.contains("{\"from\":\"redis-cli\"}") && taken.contains("{\"from\":\"curl\"}"),
        "{taken}"
    );
    // Without a commit they come again.
    let pulled = typed(get).await;
    assert!(
        pulled.contains("\"payload\":{\"from\":\"redis-cli\"}"),
        "{pulled}"
    );
    ends(demo).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_of_a_file_is_ready_serves_and_ends_when_it_is_told_to() {
    let dir = WorkDir::new("gateway").expect("a folder");
    let database = format!("sqlite:{}?mode=rwc", dir.join("edge.db").display());
    let (http, probes) = (Port::free().expect("a port"), Port::free().expect("a port"));
    let at = |port: &Port| format!("127.0.0.1:{}", port.number());
    let text = format!(
        "name = 'edge'\ndatabase = '{database}'\n[http]\nlisten = '{}'\n[limits]\nmax_message = 100\n\
         [service]\nlisten = '{}'\n",
        at(&http),
        at(&probes)
    );
    let file = dir.write("gateway.toml", &text).expect("written");
    let gateway = start(&dir, &["--config", &file.display().to_string()]);
    let ready = format!(
        "curl -s -o /dev/null -w '%{{http_code}}' http://{}/readyz",
        at(&probes)
    );
    eventually("a gateway that is ready", SOON, async || {
        let output = Command::new("sh").args(["-c", &ready]).output().await;
        match output.expect("a shell").stdout.as_slice() {
            b"200" => Ok(()),
            other => Err((String::from_utf8_lossy(other).into_owned(), gateway.log())),
        }
    })
    .await;

    let apps = async |args: &[&str]| {
        let args = ["gateway", "apps"].iter().chain(args).copied();
        let args = args.chain(["--database-url", &database, "--json"]);
        run(&mut program(), args).await.ends_with(0)
    };
    let created = apps(&["create", "shop"]).await.json();
    let secret = created[0]["secret"].as_str().expect("a secret").to_owned();
    apps(&[
        "allow",
        "shop",
        "--group",
        "shop",
        "--topic",
        "*",
        "--publish",
    ])
    .await;
    let post = async |bytes: usize| {
        let line = format!(
            "curl -s -o /dev/null -w '%{{http_code}}' -u shop:{secret} --data-binary '{}' http://{}/v1/topics/t/messages",
            "x".repeat(bytes),
            at(&http)
        );
        typed(&line).await
    };
    eventually("the new right", SOON, async || match &*post(10).await {
        "200" => Ok(()),
        other => Err(other.to_owned()),
    })
    .await;
    assert_eq!(post(101).await, "413");
    let metrics = typed(&format!("curl -s http://{}/metrics", at(&probes))).await;
    assert!(
        metrics.contains("final_gateway_messages_total{answer=\"committed\"} 1"),
        "{metrics}"
    );
    ends(gateway).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_cannot_run_says_why_and_in_which_line() {
    let dir = WorkDir::new("gateway").expect("a folder");
    let wrong = [
        (
            "database = 'sqlite:a.db'\n[resp]\nlisen = ':1'\n",
            "gateway.toml:3:1",
            "did you mean `listen`",
        ),
        (
            "database = 'oracle://db'\n",
            "gateway.toml:1:12",
            "`database`",
        ),
        (
            "database = 'sqlite:a.db'\n[http]\nlisten = '127.0.0.1:1'\ntls = { certificate = 'none.pem', key = 'k' }\n",
            "gateway.toml",
            "none.pem",
        ),
    ];
    for (text, place, what) in wrong {
        let file = dir.write("gateway.toml", text).expect("written");
        let file = file.display().to_string();
        let ran = run(&mut program(), ["gateway", "--config", &file])
            .await
            .ends_with(2);
        assert!(ran.err.contains(place) && ran.err.contains(what), "{ran:?}");
    }
    let none = run(&mut program(), ["gateway"]).await.ends_with(2);
    assert!(
        none.err.contains("--config") && none.err.contains("--demo"),
        "{none:?}"
    );
    let twice = ["gateway", "--demo", "--database-url", "sqlite:a.db"];
    let twice = run(&mut program(), twice).await.ends_with(2);
    assert!(twice.err.contains("named twice"), "{twice:?}");
    let missing = run(&mut program(), ["gateway", "--config", "/no/such/file"]).await;
    missing.ends_with(2);
}

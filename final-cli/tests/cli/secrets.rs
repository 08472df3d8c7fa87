//! No password comes out of the program, whatever goes wrong.

use final_tests::WorkDir;

use crate::program::{program, run};

const SECRET: &str = "s3cret-word";

/// Wrong URLs and wrong command lines, each with the code that it ends with.
#[tokio::test]
async fn no_output_has_a_password() {
    let shared = final_tests::pg_database().await.expect("PostgreSQL");
    let database = shared.rsplit('/').next().expect("a name").to_owned();
    let host = shared
        .split('@')
        .next_back()
        .expect("a host")
        .split('/')
        .next()
        .expect("a host")
        .to_owned();
    let urls = [
        // A wrong password; the server lets everybody in who has none to give.
        (format!("postgres://nobody:{SECRET}@{host}/{database}"), 1),
        // Nobody listens.
        (format!("postgres://ops:{SECRET}@127.0.0.1:1/shop"), 1),
        (format!("mysql://ops:{SECRET}@127.0.0.1:1/shop"), 1),
        (
            format!("postgres://ops@127.0.0.1:1/shop?password={SECRET}"),
            1,
        ),
        // No such host.
        (
            format!("postgres://ops:{SECRET}@no.such.host.invalid/shop"),
            1,
        ),
        // A URL that cannot be read.
        (format!("postgres://ops:{SECRET}@127.0.0.1:port/shop"), 2),
        (
            format!("mysql://ops:{SECRET}@127.0.0.1:1/shop?ssl-mode={SECRET}"),
            2,
        ),
        (format!("oracle://ops:{SECRET}@127.0.0.1/shop"), 2),
        (format!("postgres://ops:{SECRET}@[::1/shop"), 2),
        (
            format!("postgres://ops:{SECRET}/with/slashes@127.0.0.1:1/shop"),
            2,
        ),
        (format!("ops:{SECRET}@127.0.0.1/shop"), 2),
    ];
    for (url, code) in &urls {
        let by_environment = run(
            program().env("DATABASE_URL", url).env("FINAL_LOG", "trace"),
            ["status"],
        )
        .await;
        let by_argument = run(&mut program(), ["status", "--database-url", url]).await;
        for ran in [by_environment, by_argument] {
            assert!(!ran.all().contains(SECRET), "{url}: {ran:#?}");
            assert_eq!(ran.code, *code, "{url}: {ran:#?}");
            assert!(ran.err.starts_with("final: "), "{ran:#?}");
        }
    }
    let url = &urls[1].0;
    let lines: [&[&str]; 6] = [
        &[url],
        &["status", url, "--database-ur", url],
        &["--database-url", url, "--bogus"],
        &["status", "--watch", "--check", "--database-url", url],
        &[
            "tail",
            "t",
            "--rabbitmq",
            &format!("amqp://ops:{SECRET}@127.0.0.1:1/%2f"),
            "--yes",
        ],
        &[
            "tail",
            "t",
            "--rabbitmq",
            &format!("amqp://ops:{SECRET}@127.0.0.1:1/?nonsense={SECRET}"),
            "--yes",
        ],
    ];
    for line in lines {
        let ran = run(program().env("DATABASE_URL", url), line).await;
        assert!(!ran.all().contains(SECRET), "{line:?}: {ran:#?}");
        assert!(matches!(ran.code, 1 | 2), "{line:?}: {ran:#?}");
    }
    let help = run(program().env("DATABASE_URL", url), ["status", "--help"]).await;
    assert!(!help.all().contains(SECRET), "{help:#?}");
}

#[tokio::test]
async fn a_file_of_contexts_with_a_mistake_is_not_repeated() {
    let dir = WorkDir::new("contexts").expect("a folder");
    let wrong = [
        format!(
            "[shop]\ndatabase_url = \"postgres://ops:{SECRET}@h/d\"\npassword = \"{SECRET}\"\n"
        ),
        format!("[shop]\ndatabase_url = postgres://ops:{SECRET}@h/d\n"),
        format!("[shop]\ndatabase_url = [\"postgres://ops:{SECRET}@h/d\"]\n"),
    ];
    for text in wrong {
        let file = dir.write("contexts.toml", &text).expect("a file");
        let ran = run(
            program()
                .env("FINAL_CONTEXTS", file)
                .env("FINAL_CONTEXT", "shop"),
            ["status"],
        )
        .await;
        let ran = ran.ends_with(2);
        assert!(
            !ran.all().contains(SECRET) && ran.err.contains(", line "),
            "{ran:#?}"
        );
    }
}

//! Encrypted connections with checked certificates.

use final_tests::{Authority, MariaDb, Postgres, RabbitMq, WorkDir};
use sqlx::{AssertSqlSafe, Connection, Executor, MySqlConnection};

use crate::program::{program, run};

/// An authority, and its certificate as a file.
struct Trusted {
    authority: Authority,
    _dir: WorkDir,
    file: String,
}

impl Trusted {
    fn new() -> Self {
        let authority = Authority::new().expect("an authority");
        let dir = WorkDir::new("tls").expect("a folder");
        let file = dir
            .write("authority.pem", &authority.certificate())
            .expect("a file");
        Self {
            authority,
            _dir: dir,
            file: file.display().to_string(),
        }
    }
}

/// Makes tables by the right URL, and is refused by the wrong ones.
async fn works_only_with(right: &str, wrong: &[String]) {
    let migrate = ["migrate", "--service", "shop"];
    run(program().env("DATABASE_URL", right), migrate)
        .await
        .ends_with(0);
    run(
        program().env("DATABASE_URL", right),
        ["publish", "t", "-s", "shop"],
    )
    .await
    .ends_with(0);
    for url in wrong {
        let ran = run(program().env("DATABASE_URL", url), migrate)
            .await
            .ends_with(1);
        assert!(
            ran.err.to_lowercase().contains("certificate"),
            "{url}: {ran:#?}"
        );
        assert!(!ran.err.contains("s3cret"), "{ran:#?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgresql_is_reached_with_a_checked_certificate() {
    let (trusted, other) = (Trusted::new(), Trusted::new());
    let server = Postgres::start_with_tls(&trusted.authority)
        .await
        .expect("PostgreSQL");
    let url = |host: &str, authority: &Trusted| {
        let url = server.url().replace("127.0.0.1", host);
        format!("{url}?sslmode=verify-full&sslrootcert={}", authority.file)
    };
    let wrong = [url("127.0.0.1", &trusted), url("localhost", &other)];
    works_only_with(&url("localhost", &trusted), &wrong).await;
}

/// A user who has a password and is let in by TLS alone. MySQL 8 asks for it by `caching_sha2_password`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mariadb_or_mysql_is_reached_with_a_checked_certificate_and_a_password() {
    let (trusted, other) = (Trusted::new(), Trusted::new());
    let server = MariaDb::start_with_tls(&trusted.authority)
        .await
        .expect("MariaDB");
    let mut root = MySqlConnection::connect(&server.url()).await.expect("root");
    let create = [
        "CREATE DATABASE shop",
        "CREATE USER ops@'%' IDENTIFIED BY 's3cret' REQUIRE SSL",
        "GRANT ALL ON shop.* TO ops@'%'",
    ];
    for sql in create {
        root.execute(AssertSqlSafe(sql.to_owned()))
            .await
            .expect(sql);
    }
    let own = server
        .url()
        .replace("root@", "ops:s3cret@")
        .replace("/mysql", "/shop");
    let url = |host: &str, authority: &Trusted| {
        let url = own.replace("127.0.0.1", host);
        format!("{url}?ssl-mode=VERIFY_IDENTITY&ssl-ca={}", authority.file)
    };
    let wrong = [url("127.0.0.1", &trusted), url("localhost", &other)];
    works_only_with(&url("localhost", &trusted), &wrong).await;
    let plain = format!("{own}?ssl-mode=DISABLED");
    run(
        program().env("DATABASE_URL", plain),
        ["migrate", "--service", "shop"],
    )
    .await
    .ends_with(1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rabbitmq_is_reached_with_a_checked_certificate() {
    let (trusted, other) = (Trusted::new(), Trusted::new());
    let server = RabbitMq::start_with_tls(&trusted.authority)
        .await
        .expect("RabbitMQ");
    let url = server.tls_url().expect("a URL");
    let host = |host: &str| url.replace("localhost", host).replace("127.0.0.1", host);
    let tail = async |url: &str, authority: &Trusted| {
        let args = [
            "tail",
            "amq.topic",
            "--yes",
            "--for",
            "1s",
            "--rabbitmq",
            url,
            "--rabbitmq-ca",
            &authority.file,
        ];
        run(&mut program(), args).await
    };
    let ran = tail(&host("localhost"), &trusted).await.ends_with(0);
    assert_eq!(ran.err, "looking on\n");
    for (url, authority) in [(host("localhost"), &other), (host("127.0.0.1"), &trusted)] {
        let ran = tail(&url, authority).await.ends_with(1);
        assert!(ran.err.to_lowercase().contains("certificate"), "{ran:#?}");
    }
}

//! Encrypted connections. They work when the certificate is right, and are refused when it is not.

use final_amqp::Amqp;
use final_core::{
    Bus, Error, MemoryBroker, Options, OutboxDatabase, Router, broker::BrokerErrorKind,
};
use final_tests::{Authority, MariaDb, Postgres, RabbitMq, WorkDir, servers::Setup};
use sqlx::{Connection, Executor, MySqlPool, PgPool, Pool, mysql::MySqlPoolOptions};

use crate::{
    refused::{kind, start},
    shop::{SOON, Tally, service},
};

/// The URL of a server, for a client that checks the certificate.
fn checked(url: &str, host: &str, options: &str, authority: &str) -> String {
    let url = url.replace("127.0.0.1", host);
    format!("{url}?{options}={authority}")
}

/// The authority's certificate as a file.
fn file(authority: &Authority) -> (WorkDir, String) {
    let dir = WorkDir::new("tls").expect("a folder");
    let path = dir.write("authority.pem", &authority.certificate());
    (dir, path.expect("a file").display().to_string())
}

/// Sends a message through a bus on this database, looks at the connections, and ends it.
async fn works_end_to_end<DB: OutboxDatabase>(pool: Pool<DB>, look: impl AsyncFnOnce()) {
    crate::shop::log();
    let tally = Tally::default();
    let bus = Bus::new("shop", pool, MemoryBroker::new());
    bus.start(tally.router("placed")).await.expect("start");
    bus.publish("placed", &1_i64).await.expect("publish");
    tally.has_all(1..2).await;
    look().await;
    bus.shutdown().await.expect("shutdown");
}

/// The error of `start`. Its first connection is the relay's own.
async fn refusal<DB: OutboxDatabase>(pool: Pool<DB>) -> String {
    let bus = Bus::new("shop", pool, MemoryBroker::new());
    let started = tokio::time::timeout(SOON, bus.start(Router::new())).await;
    let error = started.expect("start does not hang").expect_err("refused");
    let Error::Database { source, .. } = &error else {
        panic!("expected an error of the database, got {error:?}");
    };
    format!("{error}: {source}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgresql_is_used_over_tls_and_refused_with_a_wrong_certificate() {
    let (right, wrong) = (
        Authority::new().expect("one"),
        Authority::new().expect("two"),
    );
    let server = Postgres::start_with_tls(&right).await.expect("PostgreSQL");
    let ((_right, right), (_wrong, wrong)) = (file(&right), file(&wrong));
    let url = |host, authority| {
        let options = "sslmode=verify-full&sslrootcert";
        checked(&server.url(), host, options, authority)
    };

    let pool = PgPool::connect(&url("localhost", &right))
        .await
        .expect("connected");
    works_end_to_end(pool.clone(), async || {
        let (all, encrypted): (i64, i64) = sqlx::query_as(
            "SELECT count(*), count(*) FILTER (WHERE ssl) FROM pg_stat_ssl \
             JOIN pg_stat_activity USING (pid) WHERE backend_type = 'client backend'",
        )
        .fetch_one(&pool)
        .await
        .expect("its own view of connections");
        assert!(all >= 2, "the caller's and the relay's: {all}");
        assert_eq!(all, encrypted);
    })
    .await;

    for (host, authority, says) in [
        ("localhost", &wrong, "UnknownIssuer"),
        ("127.0.0.1", &right, "not valid for name"),
    ] {
        let pool = PgPool::connect_lazy(&url(host, authority)).expect("a pool");
        let text = refusal(pool).await;
        assert!(
            text.contains("certificate") && text.contains(says),
            "{text}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mariadb_is_used_over_tls_and_refused_with_a_wrong_certificate() {
    let (right, wrong) = (
        Authority::new().expect("one"),
        Authority::new().expect("two"),
    );
    let server = MariaDb::start_with_tls(&right).await.expect("MariaDB");
    let ((_right, right), (_wrong, wrong)) = (file(&right), file(&wrong));
    let mut root = sqlx::MySqlConnection::connect(&server.url())
        .await
        .expect("root");
    for sql in [
        "CREATE DATABASE shop",
        // MariaDB does not tell which connection is encrypted, but lets this user in by no other.
        "CREATE USER shop@'%' REQUIRE SSL",
        "GRANT ALL ON shop.* TO shop@'%'",
    ] {
        root.execute(sql).await.expect("root may");
    }
    let own = server
        .url()
        .replace("root@", "shop@")
        .replace("/mysql", "/shop");
    let url = |host, authority| checked(&own, host, "ssl-mode=VERIFY_IDENTITY&ssl-ca", authority);

    let plain = format!("{own}?ssl-mode=DISABLED");
    MySqlPool::connect(&plain)
        .await
        .expect_err("not without TLS");
    let pool = MySqlPoolOptions::new().max_connections(2);
    let pool = pool
        .connect(&url("localhost", &right))
        .await
        .expect("connected");
    works_end_to_end(pool, async || {}).await;

    for (host, authority, says) in [
        ("localhost", &wrong, "UnknownIssuer"),
        ("127.0.0.1", &right, "not valid for name"),
    ] {
        let pool = MySqlPool::connect_lazy(&url(host, authority)).expect("a pool");
        let text = refusal(pool).await;
        assert!(
            text.contains("certificate") && text.contains(says),
            "{text}"
        );
    }
}

/// MySQL checks a password by `caching_sha2_password`: of a user whom it does not remember it wants the password itself,
/// which only TLS may carry, and of others a proof. MariaDB checks it in its own way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_is_sent_to_mysql_over_a_checked_certificate_and_by_no_other_way() {
    let is_mysql = MariaDb::is_mysql().expect("a server");
    let (right, wrong) = (
        Authority::new().expect("one"),
        Authority::new().expect("two"),
    );
    let server = MariaDb::start_with_tls(&right).await.expect("MariaDB");
    let ((_right, right), (_wrong, wrong)) = (file(&right), file(&wrong));
    let mut root = sqlx::MySqlConnection::connect(&server.url())
        .await
        .expect("root");
    let plugin = match is_mysql {
        true => "WITH caching_sha2_password ",
        false => "",
    };
    for sql in [
        "CREATE DATABASE shop".to_owned(),
        format!("CREATE USER shop@'%' IDENTIFIED {plugin}BY 's3cret'"),
        "GRANT ALL ON shop.* TO shop@'%'".to_owned(),
    ] {
        root.execute(sqlx::AssertSqlSafe(sql))
            .await
            .expect("root may");
    }
    let of = |password: &str| {
        let user = format!("shop:{password}@");
        server
            .url()
            .replace("root@", &user)
            .replace("/mysql", "/shop")
    };
    let checked = |password, host, authority| {
        let options = "ssl-mode=VERIFY_IDENTITY&ssl-ca";
        checked(&of(password), host, options, authority)
    };

    let mut refused = vec![
        (checked("s3cret", "localhost", &wrong), "UnknownIssuer"),
        (checked("s3cret", "127.0.0.1", &right), "not valid for name"),
        (checked("s3cret-not", "localhost", &right), "Access denied"),
    ];
    if is_mysql {
        let plain = format!("{}?ssl-mode=DISABLED", of("s3cret"));
        refused.push((plain, "caching_sha2_password"));
    }
    for (url, says) in refused {
        let pool = MySqlPool::connect_lazy(&url).expect("a pool");
        let text = refusal(pool).await;
        assert!(text.contains(says), "{text}");
        assert!(!text.contains("s3cret"), "{text}");
    }
    // The second time the server remembers the user.
    for _ in 0..2 {
        let pool = MySqlPool::connect(&checked("s3cret", "localhost", &right)).await;
        works_end_to_end(pool.expect("connected"), async || {}).await;
    }
    if is_mysql {
        let plugin: String =
            sqlx::query_scalar("SELECT plugin FROM mysql.user WHERE user = 'shop'")
                .fetch_one(&mut root)
                .await
                .expect("a plugin");
        assert_eq!(plugin, "caching_sha2_password");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rabbitmq_is_used_over_tls_and_refused_with_a_wrong_certificate() {
    let authority = Authority::new().expect("an authority");
    let rabbit = RabbitMq::start_with_tls(&authority)
        .await
        .expect("RabbitMQ with TLS");
    let url = rabbit.tls_url().expect("a TLS listener");
    let tally = Tally::default();

    let trusting = Amqp::new(&url)
        .expect("a URL")
        .ca_certificate(authority.certificate());
    let bus = start(&service(), trusting, tally.router("placed"))
        .await
        .expect("start");
    bus.publish("placed", &1_i64).await.expect("publish");
    tally.has_all(1..2).await;
    bus.shutdown().await.expect("shutdown");

    let other = Authority::new().expect("another authority");
    let elsewhere = url.replace("localhost", "127.0.0.1");
    for (url, authority) in [(&url, &other), (&elsewhere, &authority)] {
        let wary = Amqp::new(url)
            .expect("a URL")
            .ca_certificate(authority.certificate());
        let (kind, text) = kind(start(&service(), wary, Router::new()).await);
        assert_eq!(kind, BrokerErrorKind::Certificate, "{text}");
        assert!(text.contains("ca_certificate"), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rabbitmq_that_wants_a_client_certificate_gets_it_or_refuses() {
    let authority = Authority::new().expect("an authority");
    let mut files = authority.for_server().expect("a certificate");
    files.clients_must = true;
    let rabbit = RabbitMq::start_with(Setup {
        tls: Some(files),
        ..Setup::default()
    })
    .await
    .expect("RabbitMQ with TLS");
    let url = rabbit.tls_url().expect("a TLS listener");
    let tally = Tally::default();
    let amqp = || {
        Amqp::new(&url)
            .expect("a URL")
            .ca_certificate(authority.certificate())
    };

    let (certificate, key) = authority.for_client("shop").expect("a certificate");
    let known = amqp().client_certificate(certificate, key);
    let bus = start(&service(), known, tally.router("placed"))
        .await
        .expect("start");
    bus.publish("placed", &1_i64).await.expect("publish");
    tally.has_all(1..2).await;
    bus.shutdown().await.expect("shutdown");

    let stranger = Authority::new().expect("another authority");
    let (certificate, key) = stranger.for_client("shop").expect("a certificate");
    for refused in [amqp(), amqp().client_certificate(certificate, key)] {
        // Without the purge a broker that only hangs up is one that may come back.
        let url = final_tests::pg_database().await.expect("PostgreSQL");
        let pool = PgPool::connect(&url).await.expect("PostgreSQL");
        let bus = Bus::new(service(), pool, refused)
            .with_options(Options::default().purge_on_startup(true));
        let error = bus
            .start(Router::new())
            .await
            .expect_err("refused")
            .to_string();
        assert!(error.contains("client certificate"), "{error}");
    }
}

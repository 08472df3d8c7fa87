//! TLS and passwords.

use final_capture::source::{Source, SourceError, postgres::PgSource};
use final_tests::{
    WorkDir,
    servers::{Authority, Postgres, Setup},
};

use super::shop::{Shop, Stream, settings};

#[tokio::test]
async fn tls_is_checked_as_the_mode_says() {
    let (authority, stranger) = (Authority::new().unwrap(), Authority::new().unwrap());
    let files = WorkDir::new("authorities").unwrap();
    files.write("ours.pem", &authority.certificate()).unwrap();
    files.write("other.pem", &stranger.certificate()).unwrap();
    let file = |name: &str| files.join(name).display().to_string();
    let setup = Setup {
        args: settings(&[]),
        tls: Some(authority.for_server().unwrap()),
        ..Setup::default()
    };
    let server = Postgres::start_with(setup).await.unwrap();
    let shop = Shop::at(&server.url()).await;
    shop.run("CREATE TABLE shop.holes (id int PRIMARY KEY)")
        .await;
    let by_name = shop.url.replace("127.0.0.1", "localhost");
    let (ours, other) = (file("ours.pem"), file("other.pem"));
    // The certificate names localhost, and not the address.
    let taken = [
        (
            format!("{by_name}?sslmode=verify-full&sslrootcert={ours}"),
            true,
        ),
        (
            format!("{}?sslmode=verify-ca&sslrootcert={ours}", shop.url),
            true,
        ),
        (
            format!("{}?sslmode=require&sslrootcert={ours}", shop.url),
            true,
        ),
        (format!("{}?sslmode=require", shop.url), true),
        (shop.url.clone(), true),
        (format!("{}?sslmode=disable", shop.url), false),
    ];
    for (url, is_encrypted) in taken {
        let opened = shop.source_at(&url).open(&shop.wanted, None).await;
        let mut stream = Stream::of(opened.unwrap_or_else(|error| panic!("{url}: {error}")));
        shop.run("INSERT INTO shop.holes SELECT coalesce(max(id), 0) + 1 FROM shop.holes")
            .await;
        assert_eq!(stream.transaction().await.rows().len(), 1);
        let encrypted: bool = sqlx::query_scalar(
            "SELECT ssl FROM pg_stat_ssl JOIN pg_replication_slots ON active_pid = pid WHERE slot_name = $1",
        )
        .bind(&shop.slot)
        .fetch_one(&shop.pool)
        .await
        .unwrap();
        assert_eq!(encrypted, is_encrypted, "{url}");
        stream.saved();
        stream.close().await;
    }
    let refused = [
        format!("{}?sslmode=verify-full&sslrootcert={ours}", shop.url),
        format!("{by_name}?sslmode=verify-full&sslrootcert={other}"),
        format!("{by_name}?sslmode=verify-ca&sslrootcert={other}"),
        format!("{by_name}?sslmode=require&sslrootcert={other}"),
        format!("{by_name}?sslmode=verify-full"),
        format!("{by_name}?sslmode=verify-full&sslrootcert=/nowhere.pem"),
    ];
    for url in refused {
        let opened = shop.source_at(&url).open(&shop.wanted, None).await;
        assert!(opened.is_err(), "{url}");
    }
}

#[tokio::test]
async fn tls_that_the_server_does_not_speak_is_not_left_out() {
    let shop = Shop::new().await;
    for mode in ["require", "verify-ca", "verify-full"] {
        let url = format!("{}?sslmode={mode}", shop.url);
        assert!(shop.source_at(&url).open(&shop.wanted, None).await.is_err());
    }
}

#[tokio::test]
async fn each_way_to_log_in_works_and_a_wrong_password_is_told_without_it() {
    let setup = Setup {
        args: settings(&[]),
        ..Setup::default()
    };
    let server = Postgres::start_with(setup).await.unwrap();
    let shop = Shop::at(&server.url()).await;
    shop.run("CREATE TABLE shop.holes (id int PRIMARY KEY)")
        .await;
    for (role, hashed) in [
        ("scram", "scram-sha-256"),
        ("md5", "md5"),
        ("plain", "scram-sha-256"),
    ] {
        shop.run(&format!(
            "SET password_encryption = '{hashed}'; CREATE ROLE by_{role} SUPERUSER LOGIN PASSWORD 's3crét pw'"
        ))
        .await;
    }
    let rules = "host all by_scram all scram-sha-256\nhost all by_md5 all md5\nhost all by_plain all password\n\
                 host all all all trust\n";
    std::fs::write(server.dir().join("data/pg_hba.conf"), rules).unwrap();
    shop.run("SELECT pg_reload_conf()").await;
    for role in ["scram", "md5", "plain"] {
        let url = |password: &str| {
            shop.url
                .replace("postgres@", &format!("by_{role}:{password}@"))
        };
        let right = url("s3cr%C3%A9t%20pw");
        let opened = shop.source_at(&right).open(&shop.wanted, None).await;
        let mut stream = Stream::of(opened.unwrap_or_else(|error| panic!("{role}: {error}")));
        stream.saved();
        stream.close().await;
        let wrong = shop
            .source_at(&url("geheim"))
            .open(&shop.wanted, None)
            .await;
        let error = wrong.unwrap_err();
        assert!(matches!(error, SourceError::Config(_)), "{error:?}");
        assert!(error.to_string().contains("pg_hba.conf"), "{error}");
        assert!(!format!("{error} {error:?}").contains("geheim"), "{error}");
    }
}

#[tokio::test]
async fn a_source_does_not_show_its_password() {
    let source = PgSource::new("postgres://capture:geheim@localhost/shop").unwrap();
    let shown = format!("{source:?} {}", source.place());
    assert!(!shown.contains("geheim"), "{shown}");
    assert!(
        shown.contains("postgres://capture@localhost:5432/shop"),
        "{shown}"
    );
}

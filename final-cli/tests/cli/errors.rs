//! What the program says of an error of a server.

use crate::program::{program, run};

#[tokio::test]
async fn what_postgresql_refuses_is_told_without_a_line_of_the_servers_source() {
    let url = final_tests::pg_database().await.expect("a database");
    let wrong = format!("{url}_that_nobody_made");
    let ran = run(&mut program(), ["status", "--database-url", &wrong]).await;
    let ran = ran.ends_with(1);
    assert!(
        ran.err.contains("does not exist") && !ran.err.contains("at line"),
        "{ran:#?}"
    );
}

#[tokio::test]
async fn a_file_of_sqlite_that_cannot_be_opened_is_told_with_the_cure() {
    let dir = final_tests::WorkDir::new("errors").expect("a folder");
    let file = dir.join("none/bus.db");
    let url = format!("sqlite:{}?mode=rwc", file.display());
    let ran = run(&mut program(), ["status", "--database-url", &url]).await;
    let ran = ran.ends_with(1);
    assert!(
        ran.err.contains("look that its folder is there"),
        "{ran:#?}"
    );
}

#[tokio::test]
async fn a_database_that_is_not_there_is_told_with_the_cure() {
    let dir = final_tests::WorkDir::new("errors").expect("a folder");
    let config = "name = 'shop'\n[source]\npostgres = 'postgres://capture@127.0.0.1:1/shop'\n[select]\n\
        tables = ['shop.*']\n[target]\nlog = 'postgres://final@127.0.0.1:1/bus'\n";
    let file = dir.write("capture.toml", config).expect("written");
    let file = file.display().to_string();
    for command in [&["capture"][..], &["capture", "doctor"]] {
        let args = command.iter().copied().chain(["--config", &file]);
        let ran = run(&mut program(), args).await.ends_with(1);
        assert!(ran.err.contains("gave no connection in time"), "{ran:#?}");
    }
}

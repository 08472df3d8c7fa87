//! `final capture import-dbsync`: what it prints is a configuration that `final capture` takes.

use final_tests::WorkDir;

use crate::program::{Ran, program, run, run_with_input};

/// dbsync's README, as it stands.
const README: &str = include_str!("../../../../final-capture/src/import/dbsync/readme.json");

async fn imported(config: &str, args: &[&str]) -> Ran {
    let words = ["capture", "import-dbsync", "-"].iter().chain(args);
    run_with_input(&mut program(), words, config).await
}

/// Nothing listens on the port, so the doctor fails where it connects. A key or a value that it does not take would be
/// a mistake of the command line, with another exit code.
#[tokio::test]
async fn what_is_made_of_the_readmes_config_is_one_of_ours() {
    let config = README.replace("3306", "1");
    for target in [None, Some("sqlite:log.db"), Some("amqp://127.0.0.1:1")] {
        let mut args = vec!["--position", r#"{"Name":"mysql-bin.000010","Pos":1234}"#];
        args.extend(
            target
                .map(|target| ["--target", target])
                .into_iter()
                .flatten(),
        );
        let made = imported(&config, &args).await.ends_with(0);
        assert!(
            made.out.contains("from = \"file:mysql-bin.000010:1234\""),
            "{}",
            made.out
        );
        assert!(made.err.contains("binlog_row_metadata"), "{}", made.err);

        let dir = WorkDir::new("dbsync").expect("a folder");
        let file = dir.join("capture.toml");
        std::fs::write(&file, &made.out).expect("written");
        let mut doctor = program();
        doctor.env("DBSYNC_MYSQL_PASSWORD", "canal");
        let args =
            ["capture", "doctor", "--config", &file.display().to_string()].map(str::to_owned);
        let ran = run(&mut doctor, args).await.ends_with(1);
        assert!(ran.err.contains("cannot be reached"), "{}", ran.err);
    }
}

#[tokio::test]
async fn what_is_no_config_of_dbsync_is_a_mistake_of_the_command_line() {
    for (config, args) in [
        ("", &[][..]),
        ("{}", &[]),
        (README, &["--from", "mysql-bin.000010"]),
        (README, &["--position", "(nil)"]),
        (README, &["--target", "nats://127.0.0.1"]),
    ] {
        let ran = imported(config, args).await.ends_with(2);
        assert!(ran.out.is_empty(), "{}", ran.out);
    }
    let missing = run(
        &mut program(),
        ["capture", "import-dbsync", "/nowhere/config.json"],
    )
    .await;
    assert!(missing.ends_with(2).err.contains("/nowhere/config.json"));
}

#[tokio::test]
async fn a_password_is_printed_nowhere() {
    let config = README.replace("\"Password\":\"canal\"", "\"Password\":\"hunter2\"");
    assert_ne!(config, README);
    for args in [&[][..], &["--json"]] {
        let ran = imported(&config, args).await.ends_with(0);
        assert!(!ran.all().contains("hunter2"), "{}", ran.all());
    }
}

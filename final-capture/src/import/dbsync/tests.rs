use proptest::prelude::*;

use super::*;

/// From the README of dbsync, with its tabs and blanks.
const README: &str = include_str!("readme.json");

fn import(config: &str) -> DbsyncImport {
    DbsyncImport::new(config, &DbsyncStart::unknown(), None).unwrap()
}

#[track_caller]
fn warned(import: &DbsyncImport, words: &str) {
    assert!(
        import
            .warnings
            .iter()
            .any(|warning| warning.contains(words)),
        "{:#?}",
        import.warnings
    );
}

#[test]
fn the_config_of_the_readme_is_read_as_it_stands() {
    let start = DbsyncStart::at("file:mysql-bin.000010:1234").unwrap();
    let import = DbsyncImport::new(README, &start, None).unwrap();

    assert_eq!(
        import.toml,
        r#"# Made of dbsync's config.json. See docs/from-dbsync.md.
name = "dbsync"

[source]
mysql = { url = "mysql://canal@127.0.0.1:3306/", password = "env:DBSYNC_MYSQL_PASSWORD" }
from = "file:mysql-bin.000010:1234"

[select]
# dbsync captures every table of every schema.
tables = ["*.*"]

[message]
# One table is one queue, in order, as dbsync promises it.
order = "table"
format = "dbsync"
# Tables of one name in two schemas share a topic, as in dbsync. `cdc.{schema}.{table}` keeps them apart.
topic = "{table}"

[target]
# Or the log of a database, which gets each change exactly once: log = "postgres://…"
rabbitmq = "amqp://127.0.0.1:5672"

[position]
# A new file: dbsync's own stays as it is, so that you can go back.
file = "pos.db.position"
"#
    );
    for words in [
        "NATS Streaming",
        "binlog_row_metadata",
        "every table",
        "`Stan` is not used",
        "DBSYNC_MYSQL_PASSWORD",
    ] {
        warned(&import, words);
    }
    assert_eq!(import.warnings.len(), 5, "{:#?}", import.warnings);
}

#[test]
fn a_position_that_is_not_known_is_looked_for_where_dbsync_keeps_it() {
    warned(&import(README), "bbolt get pos.db pos key");
    let redis = README.replace("bolt", "redis");
    warned(&import(&redis), "redis-cli -h 127.0.0.1 -p 6379 GET key");
    assert!(import(README).toml.contains("# from ="));
}

#[test]
fn the_value_that_dbsync_stores_is_a_start() {
    let stored = DbsyncStart::stored("{\"Name\":\"mysql-bin.000010\",\"Pos\":4}\n").unwrap();
    assert_eq!(stored, DbsyncStart::at("file:mysql-bin.000010:4").unwrap());
    for text in [
        "",
        "{}",
        "(nil)",
        r#"{"Name":"","Pos":0}"#,
        r#"{"Name":"a","Pos":-1}"#,
    ] {
        assert!(DbsyncStart::stored(text).is_err(), "{text}");
    }
    for text in ["mysql-bin.000010:4", "gtid:0-1-2", "file:a"] {
        assert!(DbsyncStart::at(text).is_err(), "{text}");
    }
}

#[test]
fn the_project_names_the_capture_and_begins_the_topics() {
    let config = README.replacen('{', r#"{"ProName":"Pivot","#, 1);
    let toml = import(&config).toml;
    assert!(
        toml.contains("name = \"pivot\"\n") && toml.contains("topic = \"Pivot{table}\"\n"),
        "{toml}"
    );
}

#[test]
fn a_target_is_a_log_or_rabbitmq() {
    let to = |target: &str| DbsyncImport::new(README, &DbsyncStart::unknown(), Some(target));
    let log = to("postgres://final@db/shop").unwrap().toml;
    assert!(
        log.contains("[target]\nlog = \"postgres://final@db/shop\"\n")
            && !log.contains("[position]"),
        "{log}"
    );
    let rabbitmq = to("amqps://mq/shop").unwrap().toml;
    assert!(
        rabbitmq.contains("rabbitmq = \"amqps://mq/shop\"") && rabbitmq.contains("[position]"),
        "{rabbitmq}"
    );
    assert!(to("nats://x").is_err());
    assert!(to("mysql:db").is_err());
    for secret in [
        "amqp://user:hunter2@mq",
        "postgres://final:hunter2/x?y@db/shop",
        "postgres://final@db/shop?password=hunter2",
        "mysql://db/shop?a=b&PASSWD=hunter2",
    ] {
        let error = to(secret).unwrap_err().to_string();
        assert!(
            error.contains("has a password") && !error.contains("hunter2"),
            "{error}"
        );
    }
}

#[test]
fn no_password_is_printed() {
    let config = README.replace("\"Password\":\"canal\"", "\"Password\":\"hunter2\"");
    assert_ne!(config, README);
    let import = import(&config);
    assert!(!format!("{import:?}").contains("hunter2"));
    let none = README.replace("\"Password\":\"canal\"", "\"Password\":\"\"");
    assert!(
        super::tests::import(&none)
            .toml
            .contains("mysql = \"mysql://canal@127.0.0.1:3306/\"\n")
    );
}

/// Go finds a key in any case, and a port may be a number to people.
#[test]
fn keys_are_found_in_any_case_and_unknown_ones_are_told() {
    let config = r#"{"mysql": {"HOST": "::1", "port": 3307, "UserName": "a@b", "Charset": "utf8"}, "Extra": 1}"#;
    let import = import(config);
    assert!(
        import
            .toml
            .contains("mysql = \"mysql://a%40b@[::1]:3307/\"\n"),
        "{}",
        import.toml
    );
    warned(&import, "`mysql.charset`");
    warned(&import, "`extra`");
}

#[test]
fn what_is_no_config_is_refused_with_the_reason() {
    let refused = |text: &str| {
        DbsyncImport::new(text, &DbsyncStart::unknown(), None)
            .unwrap_err()
            .to_string()
    };
    assert!(refused("").contains("no JSON"));
    assert!(refused("[]").contains("no object"));
    assert!(refused("{}").contains("`Mysql`"));
    assert!(refused(r#"{"Mysql":{"Host":"db","Port":"x"}}"#).contains("no port"));
    for host in ["db:3306", "a b", "db/shop", "[::1]:3306"] {
        let text = format!(r#"{{"Mysql":{{"Host":"{host}"}}}}"#);
        assert!(refused(&text).contains("no name of a host"), "{host}");
    }
}

proptest! {
    #[test]
    fn names_of_any_kind_stay_inside_their_quotes(name in ".{0,40}") {
        let config = serde_json::json!({"ProName": name, "Mysql": {"Host": "db", "Username": name}}).to_string();
        let toml = import(&config).toml;
        for line in toml.lines().filter(|line| line.starts_with("topic") || line.starts_with("mysql") || line.starts_with("name")) {
            let (_, value) = line.split_once(" = ").unwrap();
            let bare = value.replace("\\\\", "").replace("\\\"", "");
            prop_assert_eq!(bare.matches('"').count(), 2, "{}", line);
        }
    }
}

use super::*;
use crate::config;

const FILE: &str = r#"
    [jobs.users]
    settle = "5s"
    source = { database = "sqlite:shop.db", table = "user" }
    [[jobs.users.targets]]
    database = "sqlite:copy.db"
    table = "user_copy"
    key = { id = "number" }
    same = ["name"]
    except = []
    columns = { amount = { to = "amount_eur", decimal = 2 }, mail = "address" }
"#;

fn job(text: &str) -> Result<JobConfig, String> {
    let loaded = config::parse::<ReconcileConfig>("reconcile.toml", text);
    let config = loaded.map_err(|error| error.to_string())?.config;
    Ok(config.jobs.into_values().next().expect("a job"))
}

#[tokio::test]
async fn a_file_names_every_part_of_a_job() {
    let shown = format!("{:?}", job(FILE).unwrap().job("users").unwrap());
    for part in [
        "user_copy",
        "5s",
        "amount_eur",
        "Decimal(2)",
        "address",
        "number",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
}

#[tokio::test]
async fn a_file_names_where_a_mirror_tells_how_far_it_is() {
    let heartbeat = "heartbeat = { table = 'beats', column = 'seen', row = { mirror = 'search' }, limit = '7s' }";
    let shown = |text: &str| format!("{:?}", job(text).unwrap().job("users").unwrap());
    let with = shown(&FILE.replace("except = []", heartbeat));
    for part in ["beats", "seen", "mirror", "search", "7s"] {
        assert!(with.contains(part), "{part}: {with}");
    }
    let number = shown(&FILE.replace(
        "except = []",
        "heartbeat = { table = 'beats', row = { id = -7 } }",
    ));
    assert!(number.contains("\"-7\""), "{number}");
    let short = shown(&FILE.replace("except = []", "heartbeat = { table = 'beats' }"));
    assert!(short.contains("\"at\"") && short.contains("60s"), "{short}");
}

#[test]
fn a_heartbeat_that_cannot_be_meant_is_named_with_its_line() {
    for (heartbeat, wanted) in [
        ("{ column = 'at' }", "table"),
        ("{ table = 'beats', colum = 'at' }", "did you mean `column`"),
        (
            "{ table = 'beats', row = { a = '1', b = '2' } }",
            "names one column",
        ),
        (
            "{ table = 'beats', row = { id = 1.5 } }",
            "a whole number or a text",
        ),
        (
            "{ table = 'beats', row = { id = true } }",
            "a whole number or a text",
        ),
        ("{ table = 'beats', limit = 'soon' }", "limit"),
        ("'beats'", "heartbeat"),
    ] {
        let text = FILE.replace("except = []", &format!("heartbeat = {heartbeat}"));
        let error = job(&text).err().unwrap_or_else(|| panic!("{heartbeat}"));
        assert!(
            error.starts_with("reconcile.toml:10") && error.contains(wanted),
            "{heartbeat}: {error}"
        );
    }
}

#[test]
fn a_rule_that_is_not_known_is_named_with_its_line() {
    let error = job(&FILE.replace("decimal = 2", "decimals = 2")).unwrap_err();
    assert!(
        error.contains("reconcile.toml:11") && error.contains("decimal"),
        "{error}"
    );
}

#[tokio::test]
async fn a_file_names_how_differences_are_found_and_repaired() {
    let text = r#"
        [jobs.users]
        source = { database = "sqlite:shop.db", table = "user" }
        fresh_ids = { every = "2s", column = "Id", look_back = "10m", first = 7 }
        updated = { column = "update_time", every = "3s", overlap = "6s" }
        sweep = { daily_at = "03:30", rows_per_second = 20000 }
        watch = "cdc.shop.user"
        max_repairs = 17
        max_waiting = 4711
        alert = { url = "https://hooks.example/ops", timeout = "4s" }
        targets = [{ database = "sqlite:copy.db", table = "user" }]
        [jobs.users.repair]
        callback = { url = "http://127.0.0.1:1/call", secret = { text = "sixteen bytes and more" }, body = "cupid-row" }
        extras = true
        quick = "11s"
        lease = "37s"
    "#;
    let job = job(text).unwrap();
    assert!(job.is_found_by_something());
    assert_eq!(job.needs_bus(), Some("watch"));
    let shown = format!("{:?}", job.running_job("users", None).unwrap());
    for part in [
        "Id",
        "update_time",
        "cdc.shop.user",
        "17",
        "4711",
        "CupidRow",
        "11s",
        "37s",
        "hooks.example",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    assert!(!shown.contains("sixteen"), "{shown}");
}

#[test]
fn what_cannot_be_meant_is_named_with_its_line_and_the_cure() {
    let with = |line: &str| FILE.replace("settle = \"5s\"", line);
    for (line, wanted) in [
        ("repair = {}", "name one of `callback`"),
        (
            "repair = { sql = true, publish = { topic = 'a' } }",
            "name one of `callback`",
        ),
        ("repair = { sqll = true }", "did you mean `sql`"),
        (
            "repair = { callback = { url = '127.0.0.1:1/x' } }",
            "begin it with http:",
        ),
        (
            "repair = { callback = { url = 'http://h/', secret = { text = 'short' } } }",
            "longer",
        ),
        (
            "repair = { callback = { url = 'http://h/', body = 'rows' } }",
            "possible",
        ),
        ("sweep = { daily_at = '24:00' }", "\"03:00\""),
        ("sweep = {}", "`daily_at`"),
        (
            "sweep = { every = '1h', rows_per_second = 0 }",
            "a whole number that is not 0",
        ),
        ("updated = { column = 'at' }", "`every` is missing"),
        ("fresh_ids = '2s'", "fresh_ids"),
        ("alert = { url = 'mailto:ops' }", "begin it with http:"),
        (
            "alert = { url = 'http://h/', timeout = '21s' }",
            "write timeout = \"20s\" or less",
        ),
        ("max_waiting = 0", "a whole number that is not 0"),
        (
            "repair = { sql = true, lease = '3s' }",
            "write \"4s\" or more",
        ),
        (
            "repair = { sql = true, lease = '2h' }",
            "write \"1h\" or less",
        ),
        (
            "repair = { callback = { url = 'http://h/', timeout = '9s' }, lease = '20s' }",
            "write lease = \"36s\" or",
        ),
    ] {
        let error = job(&with(line)).err().unwrap_or_else(|| panic!("{line}"));
        assert!(
            error.starts_with("reconcile.toml:3:") && error.contains(wanted),
            "{line}: {error}"
        );
        assert!(!error.contains("short"), "{error}");
    }
}

#[test]
fn the_lease_of_scans_is_that_of_the_file_and_nonsense_is_refused() {
    let read = |lease: &str| {
        let text = format!("lease = '{lease}'\n{FILE}");
        let loaded = config::parse::<ReconcileConfig>("reconcile.toml", &text);
        loaded
            .map(|loaded| loaded.config.lease())
            .map_err(|error| error.to_string())
    };
    assert_eq!(read("7s"), Ok(Some(Duration::from_secs(7))));
    for (lease, wanted) in [
        ("0s", "\"1s\" or more"),
        ("999ms", "\"1s\" or more"),
        ("61m", "\"1h\" or less"),
    ] {
        let error = read(lease).unwrap_err();
        assert!(
            error.starts_with("reconcile.toml:1:") && error.contains(wanted),
            "{lease}: {error}"
        );
    }
}

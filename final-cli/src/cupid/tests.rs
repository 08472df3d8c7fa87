use proptest::prelude::*;

use super::*;

/// cupid's README, as it stands.
const README: &str = include_str!("readme.json");

const FILE: CupidFile<'_> = CupidFile {
    name: "myConfig",
    path: "/tmp/myConfig.json",
};

fn made(text: &str, passwords: Passwords) -> CupidImport {
    let import = CupidImport::new(text, FILE, Some(1), passwords);
    import.unwrap_or_else(|error| panic!("{error}"))
}

fn refused(text: &str) -> String {
    let import = CupidImport::new(text, FILE, None, Passwords::InVariables);
    import.err().map(|error| error.to_string()).expect(text)
}

#[test]
fn the_configuration_of_the_readme_is_read_as_it_stands() {
    let import = made(README, Passwords::InVariables);
    assert_eq!(
        import.toml,
        r#"# Made of cupid's myConfig.json. docs/from-cupid.md tells what is different.
[state]
database = "sqlite:/tmp/myConfig-55ac237e9228e5bc.final.db?mode=rwc"

[jobs.db2-user]
source = { database = { url = "mysql://user@127.0.0.1:3306/db", password = "env:CUPID_SRC_PASSWORD" }, table = "user" }
fresh_ids = { every = "2000ms", column = "Id", first = 1 }
updated = { column = "update_time", every = "2000ms", overlap = "5s" }
max_repairs = 100000

[jobs.db2-user.repair]
callback = { url = "http://127.0.0.1:20000/test/callback", body = "cupid-row", timeout = "3s", private = true }
quick = "10s"

[[jobs.db2-user.targets]]
database = { url = "mysql://user@127.0.0.1:3306/db2", password = "env:CUPID_DES_PASSWORD" }
table = "user"
key = { "number" = "number" }
columns = { "number" = "number", "avatar" = "avatar", "name" = "name" }
"#
    );
    let notes = import.notes.join("\n");
    for part in [
        "body = \"cupid\"",
        "/tmp/myConfig-55ac237e9228e5bc.final.db",
        "logDir",
        "pushbear",
        "CUPID_SRC_PASSWORD, CUPID_DES_PASSWORD",
    ] {
        assert!(notes.contains(part), "{part}: {notes}");
    }
}

#[test]
fn a_password_is_in_the_toml_only_where_it_is_read_at_once() {
    let text = README.replace("password@", "hun\\\"ter@2@");
    let printed = made(&text, Passwords::InVariables);
    let shown = format!("{}{:?}", printed.toml, printed.notes);
    assert!(!shown.contains("hun"), "{shown}");
    let inside = made(&text, Passwords::Inside);
    assert_eq!(
        inside.toml.matches("{ text = \"hun\\\"ter@2\" }").count(),
        2
    );
    assert!(!format!("{:?}", inside.notes).contains("hun"));

    let text = README.replace("127.0.0.1:20000", "http://ops:hunter%2F2@h:20000");
    let printed = made(&text, Passwords::InVariables).toml;
    assert!(!printed.contains("hunter"), "{printed}");
    assert!(
        printed.contains("\"env:CUPID_CALLBACK_PASSWORD\""),
        "{printed}"
    );
    let inside = made(&text, Passwords::Inside).toml;
    assert!(inside.contains("{ text = \"hunter/2\" }"), "{inside}");
}

#[test]
fn files_of_one_name_in_two_folders_have_a_state_each() {
    let state = |path| {
        let file = CupidFile { path, ..FILE };
        let import = CupidImport::new(README, file, None, Passwords::Inside).unwrap();
        import.toml.lines().nth(2).map(str::to_owned)
    };
    assert_eq!(state("/a/myConfig.json"), state("/a/myConfig.json"));
    assert_ne!(state("/a/myConfig.json"), state("/b/myConfig.json"));
}

#[test]
fn a_url_has_its_scheme_before_the_first_slash() {
    for (url, wanted) in [
        ("h:1/cb?next=http://x/y", "http://h:1/cb?next=http://x/y"),
        ("HTTP://h/cb", "http://h/cb"),
        ("HttpS://h/cb", "https://h/cb"),
        (" h:1/cb ", "http://h:1/cb"),
        ("//h/cb", "http://h/cb"),
    ] {
        let text = README.replace("127.0.0.1:20000/test/callback", url);
        let toml = made(&text, Passwords::Inside).toml;
        let wanted = format!("callback = {{ url = \"{wanted}\",");
        assert!(toml.contains(&wanted), "{wanted}: {toml}");
    }
}

#[test]
fn a_url_that_cannot_be_called_is_refused_and_shows_no_password() {
    for url in [
        "ops:hun/ter2@h:1/cb",
        "http://ops:hun/ter2@h:1/cb",
        "ops:hun?ter2@h/cb",
        "ops:hun#ter2@h/cb",
        "ops:hun ter2@h/cb",
        "ftp://hunter2/",
        "h:hunter2/cb",
    ] {
        let error = refused(&README.replace("127.0.0.1:20000/test/callback", url));
        assert!(
            error.contains("`des[0].callbackNotification.url` cannot be called"),
            "{url}: {error}"
        );
        assert!(!error.contains("hun") && !error.contains("ter2"), "{error}");
    }
}

#[test]
fn parameters_of_a_url_that_is_printed_are_told() {
    let text = README.replace("/test/callback", "/test/callback?access_token=x");
    let notes = |passwords| made(&text, passwords).notes.join("\n");
    assert!(notes(Passwords::InVariables).contains("parameters of an endpoint's URL"));
    assert!(!notes(Passwords::Inside).contains("parameters of an endpoint's URL"));
}

#[test]
fn each_copy_is_a_job_of_its_own_with_its_endpoint() {
    let copy = README.find("        {\n            \"dsn\"").unwrap();
    let (before, rest) = README.split_at(copy);
    let end = rest.find("\n        }").unwrap() + "\n        }".len();
    let (copy, after) = rest.split_at(end);
    let second = copy.replace("20000", "20001");
    let text = format!("{before}{copy},\n{second}{after}");
    let toml = made(&text, Passwords::InVariables).toml;
    for part in [
        "[jobs.db2-user]",
        "[jobs.db2-user-2]",
        "127.0.0.1:20001/test",
        "CUPID_DES2_PASSWORD",
    ] {
        assert!(toml.contains(part), "{part}: {toml}");
    }
}

#[test]
fn what_is_left_out_has_the_defaults_of_cupid() {
    let text = r#"{"SRC": {"Dsn": "u@/a", "table": "t", "byColumn": "k", "update": false},
        "des": [{"dsn": "u@/b", "table": "t", "byColumn": "k", "callbackNotification": {"url": "https://h/"}}]}"#;
    let import = CupidImport::new(
        text,
        CupidFile {
            name: "a b",
            ..FILE
        },
        Some(500),
        Passwords::InVariables,
    )
    .unwrap();
    for part in [
        "sqlite:/tmp/a%20b-55ac237e9228e5bc.final.db",
        "fresh_ids = { every = \"2000ms\", column = \"Id\", first = 500 }",
        "quick = \"10s\"",
        "https://h/",
        "columns = { \"k\" = \"k\" }",
    ] {
        assert!(import.toml.contains(part), "{part}: {}", import.toml);
    }
    assert!(!import.toml.contains("updated"), "{}", import.toml);
}

#[test]
fn what_cannot_be_meant_is_named() {
    let with = |from: &str, to: &str| {
        let text = README.replace(from, to);
        assert_ne!(text, README, "{from}");
        text
    };
    for (text, wanted) in [
        (String::new(), "no JSON"),
        ("[]".to_owned(), "no object"),
        ("{}".to_owned(), "`src` is missing"),
        (with("\"des\": [", "\"des\": {"), "no JSON"),
        (
            with("\"updateColumn\"", "\"updateColum\""),
            "`src.updateColum`: this key is not known; did you mean `updateColumn`?",
        ),
        (
            with(
                "\"byColumn\": \"number\",//与",
                "\"byColum\": \"number\",//",
            ),
            "`des[0].byColum`: this key is not known; did you mean `byColumn`?",
        ),
        (
            with("\"url\" :", "\"uri\" :"),
            "`des[0].callbackNotification.uri`: this key is not known; did you mean `url`?",
        ),
        (
            with("\"workerNumber\": 3", "\"workerNumber\": \"hunter2\""),
            "`workerNumber` is no whole number",
        ),
        (
            with("\"insert\": true", "\"insert\": \"hunter2\""),
            "`src.insert` is neither true nor false",
        ),
        (with("\"Y-m-d H:i:s\"", "\"U\""), "`src.updateTimeFormate`"),
        (
            with("\"name\": \"name\"", "\"name\": 5"),
            "`des[0].columns`",
        ),
        (
            with("/db?charset", "db?charset"),
            "`src.dsn` cannot be used",
        ),
        (
            with("\"insert\": true", "\"insert\": false")
                .replace("\"update\": true", "\"update\": false"),
            "`update` are both false",
        ),
        (with("\"update_time\"", "\"\""), "set `update` to false"),
    ] {
        let error = refused(&text);
        assert!(error.contains(wanted), "{wanted}: {error}");
        assert!(
            !error.contains("hunter2") && !error.contains("127.0.0.1"),
            "{error}"
        );
    }
}

#[test]
fn a_time_may_have_the_form_of_php_or_of_go() {
    for form in [
        "Y-m-d H:i:s",
        "y/m/d",
        "2006-01-02 15:04:05",
        "02.01.06",
        "",
    ] {
        let text = README.replace("Y-m-d H:i:s", form);
        assert!(made(&text, Passwords::Inside).toml.contains("update_time"));
    }
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "\\PC{0,60}") {
        drop(CupidImport::new(&text, FILE, None, Passwords::Inside));
    }

    /// A file that was damaged is read or refused, and no error shows a password.
    #[test]
    fn a_damaged_file_shows_no_password(
        at in 0..README.len(),
        length in 0_usize..40,
        put in "[\\PC\"{}\\[\\],:/*\\\\]{0,8}",
    ) {
        let mut bytes = README.replace("password", "hunter2").into_bytes();
        let end = (at + length).min(bytes.len());
        bytes.splice(at.min(end)..end, put.into_bytes());
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Err(error) = CupidImport::new(&text, FILE, None, Passwords::Inside) {
            prop_assert!(!error.to_string().contains("hunter2"), "{}", error);
        }
    }

    /// Names of every kind give a file that can be read.
    #[test]
    fn the_toml_can_be_read_whatever_names_have_in_them(name in "\\PC{1,12}", word in "\\PC{1,12}") {
        let quoted = serde_json::to_string(&word).unwrap();
        let text = README
            .replace("\"user\"", &quoted)
            .replace("\"number\"", &quoted)
            .replace("\"/tmp\"", &quoted)
            .replace("\"update_time\"", &quoted);
        if let Ok(import) = CupidImport::new(&text, CupidFile { name: &name, ..FILE }, Some(7), Passwords::Inside) {
            let read: Result<toml::Table, _> = toml::from_str(&import.toml);
            prop_assert!(read.is_ok(), "{}\n{:?}", import.toml, read);
        }
    }
}

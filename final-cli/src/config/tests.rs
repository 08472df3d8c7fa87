//! What is read, and what is said where something is wrong.

use std::{os::unix::fs::PermissionsExt, path::Path};

use proptest::prelude::*;

use super::*;

#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, reason = "read for their errors")]
struct Shop {
    database: DatabaseAddress,
    #[serde(default)]
    rabbitmq: Option<BrokerAddress>,
    #[serde(default)]
    token: Option<Secret>,
    #[serde(default)]
    timeout: Period,
    #[serde(default)]
    size: ByteSize,
    #[serde(default)]
    port: u16,
    #[serde(default)]
    format: Format,
    #[serde(default)]
    outlets: Vec<Outlet>,
    #[serde(default)]
    http: Option<Http>,
}

#[derive(Debug, Default, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
enum Format {
    #[default]
    Text,
    Json,
}

#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, reason = "read for their errors")]
struct Outlet {
    url: String,
}

#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, reason = "read for their errors")]
struct Http {
    listen: std::net::SocketAddr,
}

const DATABASE: &str = "database = 'postgres://shop@db/shop'\n";

/// Reads with an environment of its own: changing the process's is not safe beside other threads.
fn with(text: impl AsRef<[u8]>) -> Result<Loaded<Shop>, ConfigError> {
    let environment = |name: &str| match name {
        "SHOP_PASSWORD" => Ok(Some("p@ss/w:rd?#%".to_owned())),
        "SHOP_URL" => Ok(Some("postgres://shop:hunter2@db/shop".to_owned())),
        "EMPTY" => Ok(Some(String::new())),
        "LATIN" => Err(()),
        _ => Ok(None),
    };
    parse_in(
        Path::new("shop.toml"),
        text.as_ref(),
        PathBuf::new(),
        environment,
    )
}

/// The error of a text that follows a line with the database.
fn error(text: &str) -> String {
    with(format!("{DATABASE}{text}")).unwrap_err().to_string()
}

fn good(text: &str) -> Loaded<Shop> {
    with(format!("{DATABASE}{text}")).unwrap()
}

#[test]
fn an_error_names_file_line_column_key_and_cure() {
    let cases = [
        (
            "timeuot = '3s'",
            "shop.toml:2:1: `timeuot`: this key is not known; did you mean `timeout`?",
        ),
        (
            "zzz = 1",
            "shop.toml:2:1: `zzz`: this key is not known; possible are `database`, `rabbitmq`, `token`, `timeout`, \
             `size`, `port`, `format`, `outlets`, `http`",
        ),
        (
            "port = 'x'",
            "shop.toml:2:8: `port`: the value is of the wrong type; write a whole number from 0 to 65535",
        ),
        (
            "port = 70000",
            "shop.toml:2:8: `port`: the value does not fit; write a whole number from 0 to 65535",
        ),
        (
            "port = -1",
            "shop.toml:2:8: `port`: the value does not fit; write a whole number from 0 to 65535",
        ),
        (
            "port = 99999999999999999999999999999999999999999999",
            "shop.toml:2:8: `port`: the number is too large; write a smaller one",
        ),
        (
            "format = 'jsn'",
            "shop.toml:2:10: `format`: this value is not one of those that are possible; did you mean \"json\"?",
        ),
        (
            "format = 'xml-and-more'",
            "shop.toml:2:10: `format`: this value is not one of those that are possible; possible are \"text\", \"json\"",
        ),
        (
            "[http]\nlisten = 'here'",
            "shop.toml:3:10: `http.listen`: this is no address with a port; write it as \"127.0.0.1:9090\"",
        ),
        (
            "[http]\n",
            "shop.toml:2:1: `http`: the key `listen` is missing; add a line `listen = …` to this table",
        ),
        (
            "[[outlets]]\nurl = 'a'\n[[outlets]]\naddress = 'b'",
            "shop.toml:5:1: `outlets[1].address`: this key is not known; only `url` is possible here",
        ),
        (
            "outlets = 3",
            "shop.toml:2:11: `outlets`: the value is of the wrong type; write a list in square brackets",
        ),
        (
            "timeout = 30",
            "shop.toml:2:11: `timeout`: this time has no unit; write it in quotes, as \"30s\"",
        ),
        (
            "timeout = '3 parsecs'",
            "shop.toml:2:11: `timeout`: this is no time; write a number and a unit, as \"250ms\", \"30s\" or \"1h 30m\"",
        ),
        (
            "size = '3 KB'",
            "shop.toml:2:8: `size`: this is no size; write a number and a unit, as \"64 KiB\" or \"10 MB\"",
        ),
        (
            "port = 1\nport = 2",
            "shop.toml:3:1: `port`: this key is there twice; remove one",
        ),
        (
            "[http]\nlisten = '[::1]:1'\n\"a b\" = 1\n\"a b\" = 2",
            "shop.toml:5:1: `\"a b\"`: this key is there twice; remove one",
        ),
        ("é = 1", "shop.toml:2:1: `\"é\"`: "),
    ];
    for (text, wanted) in cases {
        let said = error(text);
        assert!(
            said.starts_with(wanted),
            "{text}:\n  said   {said}\n  wanted {wanted}"
        );
    }
}

#[test]
fn a_missing_key_at_the_top_is_told_as_well() {
    let said = with("port = 1").unwrap_err().to_string();
    let wanted =
        "shop.toml:1:1: the key `database` is missing; add a line `database = …` to this table";
    assert_eq!(said, wanted);
}

#[test]
fn text_that_is_no_toml_is_an_error_with_its_line() {
    let deep = format!("x = {}", "[".repeat(200_000));
    let tables = format!("[{}]", vec!["a"; 50_000].join("."));
    for (text, line) in [
        (&b"port = 1\nsize"[..], 2),
        (b"port = 1\nsize = = 2\n", 2),
        (b"port = 1\n# \xff\xfe\n", 2),
        (b"port = 1\n\nsize = '\0'\n", 3),
        (b"port = 1\nsize = 'open\n", 2),
        (b"[http\n", 1),
        (deep.as_bytes(), 1),
        (tables.as_bytes(), 1),
    ] {
        let error = with(text).unwrap_err();
        assert_eq!(error.at.map(|(line, _)| line), Some(line), "{error}");
        assert!(!error.cure.is_empty(), "{error}");
        assert!(error.to_string().len() < 400, "{error}");
    }
}

#[test]
fn a_file_is_read_up_to_its_limit_only() {
    let folder = final_tests::WorkDir::new("config").unwrap();
    let path = folder.path().join("shop.toml");
    std::fs::write(&path, format!("{DATABASE}#{}", "x".repeat(2 << 20))).unwrap();
    let error = read::<Shop>(&path).unwrap_err().to_string();
    assert!(error.contains("larger than 1 MiB"), "{error}");
    let error = read::<Shop>("/dev/zero").unwrap_err().to_string();
    assert!(error.contains("larger than 1 MiB"), "{error}");
    let error = read::<Shop>(folder.path()).unwrap_err().to_string();
    assert!(error.contains("cannot be read"), "{error}");
    let error = read::<Shop>(folder.path().join("none.toml"))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("none.toml: the file cannot be read: No such file"),
        "{error}"
    );
}

#[test]
fn a_mark_at_the_front_and_lines_of_windows_are_read() {
    let loaded = with("\u{feff}port = 7\r\ndatabase = 'sqlite:shop.db'\r\n").unwrap();
    assert_eq!(loaded.config.port, 7);
    let at = with("port = 7\r\ndatabase = 'sqlite:shop.db'\r\nx = 1\r\n")
        .unwrap_err()
        .at;
    assert_eq!(at, Some((3, 1)));
}

#[test]
fn a_secret_comes_from_the_environment_or_a_file() {
    // Two of one text have a place each.
    let loaded = good(
        "token = 'hunter2'\nrabbitmq = { url = 'amqp://shop@mq', password = { text = 'hunter2' } }",
    );
    let mut keys: Vec<&str> = loaded.warnings.iter().map(|it| &*it.key).collect();
    keys.sort_unstable();
    assert_eq!(keys, ["rabbitmq.password.text", "token"]);

    let folder = final_tests::WorkDir::new("config").unwrap();
    let path = folder.path().join("token");
    std::fs::write(&path, "hunter2\n").unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
    let file = path.display();
    for text in [
        "token = 'env:SHOP_PASSWORD'".to_owned(),
        "token = { env = 'SHOP_PASSWORD' }".to_owned(),
        format!("token = 'file:{file}'"),
        format!("token = {{ file = '{file}' }}"),
    ] {
        let loaded = good(&text);
        let token = loaded.config.token.unwrap();
        assert!(
            ["p@ss/w:rd?#%", "hunter2"].contains(&token.expose()),
            "{text}"
        );
        assert_eq!(format!("{token:?}"), "Secret(***)");
        assert_eq!(loaded.warnings, [], "{text}");
    }
}

#[test]
fn a_path_of_a_secret_is_relative_to_the_file_that_names_it() {
    let folder = final_tests::WorkDir::new("config").unwrap();
    let path = folder.path().join("shop.toml");
    std::fs::write(folder.path().join("token"), "hunter2\r\n").unwrap();
    std::fs::write(&path, format!("{DATABASE}token = 'file:token'\n")).unwrap();
    let loaded = read::<Shop>(&path).unwrap();
    assert_eq!(loaded.config.token.unwrap().expose(), "hunter2");
}

#[test]
fn only_one_newline_is_cut_from_a_secret() {
    let folder = final_tests::WorkDir::new("config").unwrap();
    let path = folder.path().join("token");
    for (written, read) in [("a\n\n", "a\n"), ("a", "a"), (" a \r\n", " a ")] {
        std::fs::write(&path, written).unwrap();
        let token = good(&format!("token = 'file:{}'", path.display()))
            .config
            .token;
        assert_eq!(token.unwrap().expose(), read);
    }
}

#[test]
fn a_secret_that_is_not_there_is_an_error() {
    let folder = final_tests::WorkDir::new("config").unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        format!("token = 'file:{}'", path.display())
    };
    for (text, wanted) in [
        (
            "token = 'env:NONE'".to_owned(),
            "\"NONE\" is not set; set it",
        ),
        ("token = 'env:'".to_owned(), "\"\" is not set"),
        ("token = 'env:A=B'".to_owned(), "\"A=B\" is not set"),
        ("token = 'env:EMPTY'".to_owned(), "\"EMPTY\" is empty"),
        ("token = 'env:LATIN'".to_owned(), "\"LATIN\" is not UTF-8"),
        ("token = ''".to_owned(), "the secret is empty"),
        (
            "token = 'file:/none/here'".to_owned(),
            "/none/here cannot be read (No such file",
        ),
        (
            format!("token = 'file:{}'", folder.path().display()),
            "is no ordinary file",
        ),
        ("token = 'file:/dev/zero'".to_owned(), "is no ordinary file"),
        (file("empty", b"\n"), "is empty; write the secret into it"),
        (file("zero", b"a\0b"), "has a byte of zero"),
        (file("latin", b"\xff"), "is not UTF-8"),
        (file("large", &[b'a'; 70_000]), "is larger than 64 KiB"),
        (
            "token = { envv = 'A' }".to_owned(),
            "this is no secret; write \"env:NAME\"",
        ),
        ("token = {}".to_owned(), "this is no secret"),
        (
            "token = { env = 'A', file = 'b' }".to_owned(),
            "this is no secret",
        ),
        ("token = 12345".to_owned(), "this is no secret"),
        ("token = { env = 12345 }".to_owned(), "this is no text"),
    ] {
        let said = error(&text);
        assert!(
            said.starts_with("shop.toml:2:") && said.contains(": `token"),
            "{said}"
        );
        assert!(said.contains(wanted), "{text}: {said}");
    }
}

#[test]
fn a_secret_in_plain_text_and_one_that_everybody_can_read_are_warnings() {
    let loaded = good("[http]\nlisten = '127.0.0.1:80'\n[[outlets]]\nurl = 'x'");
    assert_eq!(loaded.warnings, []);
    let loaded = good("port = 1\ntoken = 'hunter2'");
    let [warning] = &loaded.warnings[..] else {
        panic!("{:?}", loaded.warnings);
    };
    let wanted = "shop.toml:3:9: `token`: a secret stands in the file as plain text; write \"env:NAME\" or \
        \"file:/path\" instead";
    assert_eq!(warning.to_string(), wanted);

    let loaded = with("database = 'postgres://shop:hunter2@db/shop'").unwrap();
    assert_eq!(loaded.warnings.len(), 1, "{:?}", loaded.warnings);
    assert_eq!(loaded.warnings[0].key, "database");
    let loaded = with("database = 'postgres://db/shop?user=a&password=hunter2'").unwrap();
    assert_eq!(loaded.warnings.len(), 1, "{:?}", loaded.warnings);
    // Text that looks like a place of a secret can be one.
    let loaded = good("token = { text = 'env:SHOP_PASSWORD' }");
    assert_eq!(loaded.config.token.unwrap().expose(), "env:SHOP_PASSWORD");
    assert_eq!(loaded.warnings.len(), 1);

    let folder = final_tests::WorkDir::new("config").unwrap();
    let path = folder.path().join("token");
    std::fs::write(&path, "hunter2").unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
    let loaded = good(&format!("token = 'file:{}'", path.display()));
    let said = loaded.warnings[0].to_string();
    assert!(
        said.contains("every user of this machine can read the secret"),
        "{said}"
    );
    assert!(
        said.ends_with(&format!("chmod o-rwx {}", path.display())),
        "{said}"
    );
}

#[test]
fn a_url_gets_its_password_from_elsewhere() {
    let password = "p%40ss%2Fw%3Ard%3F%23%25";
    for (text, url) in [
        (
            "database = { url = 'postgres://shop@db:5432/shop?sslmode=require', password = 'env:SHOP_PASSWORD' }",
            format!("postgres://shop:{password}@db:5432/shop?sslmode=require"),
        ),
        (
            "database = { url = 'mysql://shop@[::1]/shop', password = { env = 'SHOP_PASSWORD' } }",
            format!("mysql://shop:{password}@[::1]/shop"),
        ),
        (
            "database = 'env:SHOP_URL'",
            "postgres://shop:hunter2@db/shop".to_owned(),
        ),
        (
            "database = { env = 'SHOP_URL' }",
            "postgres://shop:hunter2@db/shop".to_owned(),
        ),
        (
            "database = 'sqlite:/var/lib/a@b:c.db'",
            "sqlite:/var/lib/a@b:c.db".to_owned(),
        ),
        ("database = 'sqlite::memory:'", "sqlite::memory:".to_owned()),
    ] {
        let loaded = with(text).unwrap();
        assert_eq!(loaded.config.database.expose(), url);
        assert_eq!(loaded.warnings, [], "{text}");
        let shown = format!("{} {:?}", loaded.config.database, loaded.config);
        assert!(
            !shown.contains("hunter2") && !shown.contains(password),
            "{shown}"
        );
    }
    let rabbitmq =
        good("rabbitmq = { url = 'amqps://shop@mq/%2f', password = 'env:SHOP_PASSWORD' }");
    let rabbitmq = rabbitmq.config.rabbitmq.unwrap();
    assert_eq!(rabbitmq.expose(), format!("amqps://shop:{password}@mq/%2f"));
    assert_eq!(rabbitmq.to_string(), "amqps://shop:***@mq/%2f");
    assert_eq!(rabbitmq.scheme(), "amqps");
}

#[test]
fn a_url_that_cannot_be_meant_is_an_error() {
    for (value, wanted) in [
        (
            "'oracle://db/shop'",
            "this is no URL of a database; begin it with postgres:, ",
        ),
        ("'shop.db'", "this is no URL of a database"),
        ("'postgres'", "this is no URL of a database"),
        ("'amqp://mq'", "this is no URL of a database"),
        ("'postgres://db/a b'", "has a space"),
        (
            "'postgres://shop:hun/ter2@db/shop'",
            "a character that ends it",
        ),
        (
            "'postgres://shop:hun#ter2@db/shop'",
            "a character that ends it",
        ),
        (
            "{ url = 'postgres://shop:hunter2@db/shop', password = 'env:SHOP_PASSWORD' }",
            "in the URL as well",
        ),
        (
            "{ url = 'postgres://db/shop', password = 'env:SHOP_PASSWORD' }",
            "a password for no user",
        ),
        (
            "{ url = 'sqlite:shop.db', password = 'env:SHOP_PASSWORD' }",
            "no place for a password",
        ),
        ("{ password = 'env:SHOP_PASSWORD' }", "this is no address"),
        (
            "{ url = 'postgres://db', pasword = 'x' }",
            "this key is not known; did you mean `password`?",
        ),
        ("3", "the value is of the wrong type; write a URL in quotes"),
        ("'env:NONE'", "\"NONE\" is not set"),
    ] {
        let said = with(format!("database = {value}")).unwrap_err().to_string();
        assert!(said.starts_with("shop.toml:1:"), "{said}");
        assert!(said.contains(wanted), "{value}: {said}");
        assert!(!said.contains("ter2"), "{said}");
    }
}

#[test]
fn a_type_that_reads_a_file_while_it_is_read_leaves_the_outer_file_as_it_was() {
    let (outer, notes) = Context::within(
        "a".into(),
        |_| Ok(None),
        || {
            Context::within("b".into(), |_| Ok(None), || ());
            Context::note(context::Note::PlainText("x".to_owned()));
            Context::path("c")
        },
    );
    assert_eq!(outer, Path::new("a/c"));
    assert_eq!(notes.len(), 1);
    assert_eq!(Context::path("c"), Path::new("c"));
}

proptest! {
    #[test]
    fn a_period_is_read_as_it_is_shown(milliseconds in 0_u64..u64::MAX / 2) {
        let period = Period(std::time::Duration::from_millis(milliseconds));
        prop_assert_eq!(period.to_string().parse(), Ok(period));
    }

    #[test]
    fn a_size_is_read_as_it_is_shown(bytes in any::<u64>()) {
        prop_assert_eq!(ByteSize(bytes).to_string().parse(), Ok(ByteSize(bytes)));
    }

    #[test]
    fn any_text_is_a_value_or_an_error_with_a_cure(text in "[0-9a-zA-Zµ ]{0,12}|\\PC{0,12}") {
        for error in [text.parse::<Period>().err(), text.parse::<ByteSize>().err()].into_iter().flatten() {
            prop_assert!(error.contains("; "), "{}", error);
        }
    }

    #[test]
    fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = with(bytes);
    }

    #[test]
    fn no_error_shows_a_value(
        key in "database|rabbitmq|token|timeout|size|port|format|outlets|http|other",
        shape in prop::sample::select(vec![
            "'V'", "\"V\"", "{ url = 'V' }", "{ password = 'V' }", "{ url = 'mysql://u@b/', password = 'V' }",
            "['V']", "{ env = 7, file = 'V' }", "{ text = 'V', more = 'V' }", "'mysql://u:V/@h/x'", "'amqp://u:V@h x'",
            "[{ url = 'V' }]", "'V", "{ listen = 'V' }", "{ V = }", "[[{ url = 'V' }]]", "'mysql://u:V@h/x'",
        ]),
    ) {
        // `other` may show its own name, and so may a key: a value stands behind an equals sign.
        let text = format!("{key} = {}", shape.replace('V', "hunter2"));
        let shown = match with(&text) {
            Ok(loaded) => format!("{:?} {:?} {}", loaded.config, loaded.warnings,
                loaded.warnings.iter().map(ToString::to_string).collect::<String>()),
            Err(error) => format!("{error} {error:?}"),
        };
        let is_key = text.contains("hunter2 =");
        // A list of outlets has URLs that are no secrets; nothing else shows what it was given.
        let is_open = key == "outlets" && shape.starts_with("[{");
        prop_assert!(is_key || is_open || !shown.contains("hunter2"), "{}: {}", text, shown);
    }
}

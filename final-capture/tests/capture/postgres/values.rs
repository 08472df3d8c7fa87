//! A row by SELECT is the row by the stream, for every type.

use final_capture::{source::RowOp, table::ColumnKind, value::Value};
use sqlx::{AssertSqlSafe, Row};

use super::shop::{Shop, Stream};

/// Types, and values of them as SQL.
const TYPES: &[(&str, &[&str])] = &[
    ("boolean", &["true", "false"]),
    ("smallint", &["-32768", "32767"]),
    ("integer", &["-2147483648", "0", "2147483647"]),
    (
        "bigint",
        &[
            "-9223372036854775808",
            "9007199254740993",
            "9223372036854775807",
        ],
    ),
    ("oid", &["0", "4294967295"]),
    (
        "real",
        &[
            "0.1",
            "1e-45",
            "3.4028235e38",
            "'NaN'",
            "'Infinity'",
            "'-Infinity'",
            "-0.0::real",
        ],
    ),
    (
        "double precision",
        &[
            "0.1",
            "5e-324",
            "1.7976931348623157e308",
            "'NaN'",
            "'Infinity'",
            "1e15",
            "0.3::float8 - 0.1",
        ],
    ),
    (
        "numeric",
        &[
            "0",
            "12.50",
            "-0.000001",
            "123456789012345678901234567890.123456789",
            "'NaN'",
            "'Infinity'",
            "'-Infinity'",
        ],
    ),
    ("numeric(10,2)", &["12.5", "-99999999.99"]),
    ("numeric(3,-2)", &["12345"]),
    ("money", &["1234.56", "-0.5"]),
    (
        "text",
        &[
            "''",
            "'Grüße, 世界 🦀'",
            "'a''b\\c'",
            "E'line\\nline\\ttab'",
        ],
    ),
    ("varchar(20)", &["'x'"]),
    ("char(5)", &["'x'", "''"]),
    ("\"char\"", &["'x'"]),
    ("name", &["'x'"]),
    (
        "bytea",
        &["''", "'\\x00ff5c78'", "decode(repeat('ab', 10000), 'hex')"],
    ),
    (
        "date",
        &[
            "'2024-02-29'",
            "'0044-03-15 BC'",
            "'infinity'",
            "'-infinity'",
            "'12024-01-01'",
            "'0001-01-01'",
        ],
    ),
    ("time", &["'00:00'", "'23:59:59.999999'", "'24:00'"]),
    ("time(3)", &["'12:00:00.1239'"]),
    ("timetz", &["'12:00+02'", "'12:00:00.5-05:30'"]),
    (
        "timestamp",
        &[
            "'2024-02-29 12:00:00.5'",
            "'0044-03-15 12:00 BC'",
            "'infinity'",
            "'-infinity'",
            "'12024-01-01 00:00'",
        ],
    ),
    (
        "timestamptz",
        &[
            "'2024-02-29 12:00:00.5+02'",
            "'0044-03-15 12:00+00 BC'",
            "'infinity'",
            "'-infinity'",
            "'1883-11-18 12:00+00'",
        ],
    ),
    ("timestamptz(0)", &["'2024-02-29 12:00:00.5+02'"]),
    (
        "interval",
        &[
            "'1 year 2 mons 3 days 04:05:06.789'",
            "'-1 day'",
            "'0'",
            "'-1 year +3 days'",
        ],
    ),
    ("uuid", &["'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'"]),
    (
        "json",
        &[
            "'{\"b\": 1, \"a\":  [1e100, null]}'",
            "'null'",
            "'\"x\"'",
            "'12345678901234567890'",
        ],
    ),
    (
        "jsonb",
        &["'{\"b\": 1, \"a\":  [1e2, null, 0.10]}'", "'null'"],
    ),
    ("xml", &["'<a b=\"c\">d</a>'"]),
    ("inet", &["'192.168.0.1/24'", "'::1'"]),
    ("cidr", &["'10.0.0.0/8'"]),
    ("macaddr", &["'08:00:2B:01:02:03'"]),
    ("bit(4)", &["B'0101'"]),
    ("varbit", &["B'01'", "B''"]),
    ("point", &["'(1,-2.5)'"]),
    ("polygon", &["'((0,0),(1,1),(1,0))'"]),
    ("tsvector", &["to_tsvector('english', 'a fat cat')"]),
    ("int[]", &["'{1,NULL,3}'", "'{}'", "'{{1,2},{3,4}}'"]),
    ("text[]", &["ARRAY['a,b', 'c\"d', NULL, '']"]),
    (
        "timestamptz[]",
        &["ARRAY['2024-02-29 12:00+02'::timestamptz]"],
    ),
    ("bytea[]", &["ARRAY['\\xff'::bytea]"]),
    ("int4range", &["'[1,5)'", "'empty'", "'(,5)'"]),
    ("tstzrange", &["'[2024-01-01 00:00+02,)'"]),
    ("int4multirange", &["'{[1,2),[5,6)}'"]),
    ("pg_lsn", &["'16/B374D848'"]),
    ("shop.mood", &["'sad'", "'very happy'"]),
    ("shop.price", &["12.5"]),
    ("shop.price_of_price", &["12.5"]),
    ("shop.moment", &["'2024-02-29 12:00+02'"]),
    ("shop.pair", &["ROW(1, 'a,b')"]),
    ("shop.mood[]", &["ARRAY['sad'::shop.mood]"]),
];

/// What a text that SELECT prints means, by rules of its own.
fn meant(kind: &ColumnKind, text: &str) -> Value {
    match kind {
        ColumnKind::Bool => Value::Bool(text == "t" || text == "true"),
        ColumnKind::Integer {
            unsigned: false, ..
        } => Value::Int(text.parse().unwrap()),
        ColumnKind::Integer { unsigned: true, .. } => Value::UInt(text.parse().unwrap()),
        ColumnKind::Float { bytes: 4 } => Value::Float(text.parse().unwrap()),
        ColumnKind::Float { .. } => Value::Double(text.parse().unwrap()),
        ColumnKind::Json => Value::Json(text.into()),
        ColumnKind::Bytes => {
            let digits: Vec<_> = text.strip_prefix("\\x").unwrap().chars().collect();
            let byte = |pair: &[char]| u8::from_str_radix(&String::from_iter(pair), 16).unwrap();
            Value::Bytes(digits.chunks(2).map(byte).collect::<Vec<_>>().into())
        }
        _ => Value::Text(text.into()),
    }
}

/// Equal, and also equal if neither is a number.
fn is_same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Float(a), Value::Float(b)) => a.to_bits() == b.to_bits(),
        (Value::Double(a), Value::Double(b)) => a.to_bits() == b.to_bits(),
        (a, b) => a == b,
    }
}

#[tokio::test]
async fn each_value_of_each_type_is_the_same_by_select_and_by_the_stream() {
    let shop = Shop::new().await;
    // A database with other habits: the stream must not follow them.
    let name = shop.url.rsplit_once('/').unwrap().1;
    for setting in [
        "datestyle = 'German, DMY'",
        "timezone = 'America/New_York'",
        "intervalstyle = 'postgres_verbose'",
        "bytea_output = 'escape'",
        "extra_float_digits = -15",
    ] {
        shop.run(&format!("ALTER DATABASE {name} SET {setting}"))
            .await;
    }
    let mut tables = vec![
        "CREATE TYPE shop.mood AS ENUM ('sad', 'very happy'); CREATE DOMAIN shop.price AS numeric(12,3);
         CREATE DOMAIN shop.price_of_price AS shop.price; CREATE DOMAIN shop.moment AS timestamptz;
         CREATE TYPE shop.pair AS (a int, b text)"
            .to_owned(),
    ];
    let mut inserts = Vec::new();
    for (number, (kind, values)) in TYPES.iter().enumerate() {
        tables.push(format!(
            "CREATE TABLE shop.t{number} (id int PRIMARY KEY, v {kind})"
        ));
        for (id, value) in values.iter().chain(&["NULL"]).enumerate() {
            inserts.push(format!("INSERT INTO shop.t{number} VALUES ({id}, {value})"));
        }
    }
    shop.run(&tables.join(";")).await;
    let mut stream: Stream = shop.open(None).await;
    shop.run(&inserts.join(";")).await;
    let read = stream.transaction().await;
    assert_eq!(read.rows().len(), inserts.len());

    let url = &shop.url;
    let select = sqlx::PgPool::connect_with(
        url.parse::<sqlx::postgres::PgConnectOptions>()
            .unwrap()
            .options([
                ("datestyle", "ISO"),
                ("timezone", "UTC"),
                ("intervalstyle", "iso_8601"),
                ("bytea_output", "hex"),
                ("extra_float_digits", "1"),
                ("lc_monetary", "C"),
            ]),
    )
    .await
    .unwrap();
    let mut others = 0;
    for row in read.rows() {
        let table = &row.table;
        let after = row.after.as_ref().unwrap();
        let Value::Int(id) = after[0] else {
            panic!("{row:?}");
        };
        let sql = format!(
            "SELECT CASE WHEN v IS NOT NULL THEN format('%s', v) END, pg_typeof(v)::text FROM {} WHERE id = {id}",
            table.name
        );
        let selected = sqlx::query(AssertSqlSafe(sql))
            .fetch_one(&select)
            .await
            .unwrap();
        let kind = &table.columns[1].kind;
        let printed: Option<String> = selected.get(0);
        let expected = match printed {
            None => Value::Null,
            Some(text) => match kind {
                // Of moments the form differs, and nothing else.
                ColumnKind::Timestamp | ColumnKind::DateTime => {
                    let text = text.replacen(' ', "T", 1).replace("+00", "Z");
                    Value::Text(text.replace("TBC", " BC").into())
                }
                kind => {
                    others += 1;
                    meant(kind, &text)
                }
            },
        };
        assert!(
            is_same(&after[1], &expected),
            "{} {}: {:?} by the stream, {expected:?} by SELECT",
            selected.get::<String, _>(1),
            table.name,
            after[1],
        );
    }
    assert!(others > 100);
    let declared: Vec<_> = read
        .rows()
        .iter()
        .map(|row| &*row.table.columns[1].declared)
        .collect();
    for (declared_as, of) in [
        ("shop.mood", "'sad'"),
        ("integer[]", "an array"),
        ("numeric(10,2)", "12.5"),
    ] {
        assert!(
            declared.contains(&declared_as),
            "{declared_as} of {of}: {declared:?}"
        );
    }
    assert_eq!(read.rows()[0].op, RowOp::Insert);
    stream.close().await;
}

#[tokio::test]
async fn a_value_of_a_type_that_was_dropped_since_still_comes() {
    let shop = Shop::new().await;
    shop.run("CREATE TYPE shop.mood AS ENUM ('sad'); CREATE TABLE shop.a (id int PRIMARY KEY, v shop.mood)").await;
    let position = shop.open(None).await.close().await;
    shop.run("INSERT INTO shop.a VALUES (1, 'sad')").await;
    shop.run("DROP TYPE shop.mood CASCADE").await;
    let mut stream = shop.open(Some(&position)).await;
    let read = stream.transaction().await;
    let column = &read.row().table.columns[1];
    assert_eq!(
        (&*column.declared, &column.kind),
        ("shop.mood", &ColumnKind::Other)
    );
    assert_eq!(
        read.row().after.as_ref().unwrap()[1],
        Value::Text("sad".into())
    );
    stream.close().await;
}

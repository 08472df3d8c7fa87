//! The row by the stream is the row by SELECT, for all types.

use std::fmt::Write as _;

use final_capture::value::{Row, Value};
use sqlx::{AssertSqlSafe, Row as _};

use super::shop::Shop;

/// A type, how SELECT tells its values, and values.
struct Case(&'static str, How, &'static [&'static str]);

/// How a value is compared.
#[derive(Clone, Copy, PartialEq)]
enum How {
    /// As the server prints it.
    Print,
    /// As UTF-8.
    Utf8,
    /// As bytes.
    Hex,
    /// As a number with a floating point.
    Float,
}
use How::{Float, Hex, Print, Utf8};

const CASES: &[Case] = &[
    Case("TINYINT", Print, &["-128", "127", "0"]),
    Case("TINYINT UNSIGNED", Print, &["255", "0"]),
    Case("BOOLEAN", Print, &["TRUE", "FALSE"]),
    Case("SMALLINT", Print, &["-32768", "32767"]),
    Case("SMALLINT UNSIGNED", Print, &["65535"]),
    Case("MEDIUMINT", Print, &["-8388608", "8388607"]),
    Case("MEDIUMINT UNSIGNED", Print, &["16777215"]),
    Case("INT", Print, &["-2147483648", "2147483647"]),
    Case("BIT(1)", Print, &["b'1'", "b'0'"]),
    Case("INT UNSIGNED", Print, &["4294967295"]),
    Case("YEAR", Print, &["2024", "1901", "2155", "0"]),
    Case(
        "BIGINT",
        Print,
        &["-9223372036854775808", "9223372036854775807"],
    ),
    Case(
        "BIGINT UNSIGNED",
        Print,
        &["18446744073709551615", "9223372036854775808"],
    ),
    Case("FLOAT", Float, &["1.5", "-0.1", "3.4028234e38", "1e-40"]),
    Case(
        "DOUBLE",
        Float,
        &["0.1", "-1.7976931348623157e308", "5e-324"],
    ),
    Case("FLOAT UNSIGNED", Float, &["0.25"]),
    Case(
        "DECIMAL(10,2)",
        Print,
        &["12345678.90", "-0.05", "0", "-12345678.90"],
    ),
    Case(
        "DECIMAL(65,30)",
        Print,
        &[
            "-12345678901234567890123456789012345.123456789012345678901234567890",
            "1",
        ],
    ),
    Case("DECIMAL(9,0) UNSIGNED", Print, &["999999999"]),
    Case(
        "DECIMAL(38,38)",
        Print,
        &["0.00000000000000000000000000000000000001", "-0.5"],
    ),
    Case("BIT(13)", Print, &["b'1000000000001'"]),
    Case(
        "BIT(64)",
        Print,
        &[
            "b'1111111111111111111111111111111111111111111111111111111111111111'",
            "1",
        ],
    ),
    Case(
        "DATE",
        Print,
        &["'2024-02-29'", "'9999-12-31'", "'1000-01-01'"],
    ),
    Case(
        "DATETIME",
        Print,
        &[
            "'2024-02-29 23:59:59'",
            "'9999-12-31 23:59:59'",
            "'0001-01-01 00:00:00'",
        ],
    ),
    Case("DATETIME(1)", Print, &["'2024-02-29 23:59:59.5'"]),
    Case("DATETIME(3)", Print, &["'2024-02-29 23:59:59.005'"]),
    Case("DATETIME(6)", Print, &["'2024-02-29 23:59:59.000001'"]),
    Case(
        "TIMESTAMP NULL",
        Print,
        &[
            "'2024-02-29 23:59:59'",
            "'1970-01-01 00:00:01'",
            "'2038-01-19 03:14:07'",
        ],
    ),
    Case("TIMESTAMP(2) NULL", Print, &["'2024-02-29 23:59:59.25'"]),
    Case(
        "TIMESTAMP(6) NULL",
        Print,
        &["'2024-02-29 23:59:59.999999'"],
    ),
    Case(
        "TIME",
        Print,
        &["'-838:59:59'", "'838:59:59'", "'00:00:00'", "'-00:00:01'"],
    ),
    Case("TIME(1)", Print, &["'-00:00:00.5'", "'100:00:00.1'"]),
    Case("TIME(4)", Print, &["'-01:00:00.0001'", "'12:34:56.789'"]),
    Case(
        "TIME(6)",
        Print,
        &[
            "'-838:59:59.999999'",
            "'-00:00:00.000001'",
            "'00:00:00.000001'",
        ],
    ),
    Case("CHAR(5)", Utf8, &["'ab'", "'ab   '", "''", "'äöü€😀'"]),
    Case(
        "CHAR(255) CHARACTER SET utf8mb4",
        Utf8,
        &["'x'", "REPEAT('😀', 255)"],
    ),
    Case("VARCHAR(20)", Utf8, &["'ab '", "'äöü€😀'", "''"]),
    Case(
        "VARCHAR(20) CHARACTER SET latin1",
        Utf8,
        &["'äöü€'", "X'818D8F909D'", "X'80FF'"],
    ),
    Case("VARCHAR(300) CHARACTER SET latin2", Utf8, &["'Łódź'"]),
    Case("CHAR(5) CHARACTER SET cp1251", Utf8, &["'Жар'"]),
    Case("VARCHAR(9) CHARACTER SET koi8r", Utf8, &["'Жар'"]),
    Case("VARCHAR(9) CHARACTER SET greek", Utf8, &["'αβγ'"]),
    Case("VARCHAR(9) CHARACTER SET swe7", Utf8, &["'åäö'"]),
    Case("VARCHAR(9) CHARACTER SET ascii", Utf8, &["'abc'"]),
    Case("VARCHAR(9) CHARACTER SET ucs2", Utf8, &["'äЖ'"]),
    Case("VARCHAR(9) CHARACTER SET utf16", Utf8, &["'ä😀'"]),
    Case("VARCHAR(9) CHARACTER SET utf16le", Utf8, &["'ä😀'"]),
    Case("VARCHAR(9) CHARACTER SET utf32", Utf8, &["'ä😀'"]),
    Case("VARCHAR(9) CHARACTER SET utf8mb3", Utf8, &["'ä€'"]),
    Case("VARCHAR(9) COLLATE utf8mb4_uca1400_ai_ci", Utf8, &["'ä'"]),
    Case("VARCHAR(9) CHARACTER SET gbk", Utf8, &["'a你好b'", "'?'"]),
    Case("VARCHAR(9) CHARACTER SET sjis", Utf8, &["'ﾊ表ア~'"]),
    Case("VARCHAR(9) CHARACTER SET cp932", Utf8, &["'①表ｱ'"]),
    Case("VARCHAR(9) CHARACTER SET big5", Utf8, &["'許功蓋'"]),
    Case("VARCHAR(9) CHARACTER SET euckr", Utf8, &["'한국'"]),
    Case("TEXT CHARACTER SET gb2312", Utf8, &["'你好'"]),
    Case(
        "UUID",
        Print,
        &[
            "'123e4567-e89b-12d3-a456-426655440000'",
            "'00000000-0000-0000-0000-000000000000'",
            "'ffffffff-ffff-7fff-bfff-ffffffff0000'",
        ],
    ),
    Case(
        "INET6",
        Print,
        &[
            "'::1'",
            "'::'",
            "'2001:db8::ff00:42:8329'",
            "'::ffff:1.2.3.4'",
            "'::1.2.3.4'",
            "'1::'",
            "'1:0:0:2::'",
            "'2001:db8:0:1:2:3:4:5'",
            "'0:1:0:2:0:3:0:4'",
            "'1:0:0:2:3:0:0:4'",
            "'0:1:2:3:4:5:6:7'",
            "'1:2:3:4:5:6:7:0'",
            "'1:2:3:4:5:6:7:8'",
            "'::ffff:0:0'",
            "'::ffff:0:0:0'",
            "'0:0:0:0:0:1:2:3'",
            "'::1:0'",
        ],
    ),
    Case(
        "INET4",
        Print,
        &["'10.0.0.0'", "'255.255.255.255'", "'0.0.0.0'"],
    ),
    Case("BINARY(16)", Hex, &["X'01'"]),
    Case("TINYTEXT", Utf8, &["'ä'"]),
    Case("TEXT", Utf8, &["'ä'", "REPEAT('ä', 30000)"]),
    Case("TEXT CHARACTER SET latin1", Utf8, &["'ä'"]),
    Case("MEDIUMTEXT", Utf8, &["REPEAT('m', 70000)"]),
    Case("LONGTEXT", Utf8, &["'l'"]),
    Case("JSON", Utf8, &["'{\"a\": [1, \"ä\"]}'"]),
    Case(
        "BINARY(4)",
        Hex,
        &["X'01020304'", "X'0100'", "X''", "X'00000000'"],
    ),
    Case("BINARY(255)", Hex, &["X'20'"]),
    Case("VARBINARY(300)", Hex, &["X'0100'", "X''", "X'FF'"]),
    Case("TINYBLOB", Hex, &["X'00FF'"]),
    Case("BLOB", Hex, &["X'00FF'"]),
    Case("MEDIUMBLOB", Hex, &["X'00FF'"]),
    Case("LONGBLOB", Hex, &["X'00FF'"]),
    Case("ENUM('b','ä','it''s')", Utf8, &["'ä'", "'it''s'", "1"]),
    Case("ENUM('x','Ł') CHARACTER SET latin2", Utf8, &["'Ł'"]),
    Case("SET('b','ä','c')", Utf8, &["'b,c'", "''", "'ä'"]),
    Case("SET('x','ö') CHARACTER SET latin1", Utf8, &["'x,ö'"]),
    Case("GEOMETRY", Hex, &["ST_GeomFromText('POINT(1 2)', 4326)"]),
    Case("POINT", Hex, &["ST_GeomFromText('POINT(1 2)')"]),
    Case(
        "POLYGON",
        Hex,
        &["ST_GeomFromText('POLYGON((0 0, 0 1, 1 1, 0 0))')"],
    ),
    Case(
        "VARCHAR(900) COMPRESSED",
        Utf8,
        &["'short'", "REPEAT('long ', 100)", "''"],
    ),
    Case("TEXT COMPRESSED", Utf8, &["'short'", "REPEAT('ä ', 5000)"]),
    Case(
        "TEXT COMPRESSED CHARACTER SET latin1",
        Utf8,
        &["REPEAT('ä ', 5000)"],
    ),
    Case("BLOB COMPRESSED", Hex, &["X'00'", "REPEAT(X'00FF', 5000)"]),
    Case("VARBINARY(900) COMPRESSED", Hex, &["REPEAT(X'00FF', 400)"]),
];

/// A value in the form that SELECT is asked for.
fn told(value: &Value, how: How) -> Option<String> {
    let hex = |bytes: &[u8]| {
        bytes.iter().fold(String::new(), |mut hex, byte| {
            let _ = write!(hex, "{byte:02X}");
            hex
        })
    };
    Some(match (value, how) {
        (Value::Null, _) => return None,
        (Value::Int(number), Print) => number.to_string(),
        (Value::UInt(number) | Value::Bits(number), Print) => number.to_string(),
        (Value::Text(text) | Value::Invalid(text), Print) => {
            text.replace('T', " ").trim_end_matches('Z').to_owned()
        }
        (Value::Float(number), Float) => f64::from(*number).to_string(),
        (Value::Double(number), Float) => number.to_string(),
        (Value::Text(text) | Value::Enum(_, text), Utf8) => hex(text.as_bytes()),
        (Value::Set(_, texts), Utf8) => hex(texts.join(",").as_bytes()),
        (Value::Bytes(bytes), Hex) => hex(bytes),
        (other, _) => format!("{other:?}"),
    })
}

fn asked(column: &str, kind: &str, how: How) -> String {
    match how {
        // A number of bits or a year is printed as a number.
        Print if kind.starts_with("BIT") || kind == "YEAR" => format!("CAST({column} + 0 AS CHAR)"),
        Print => format!("CAST({column} AS CHAR)"),
        Utf8 => format!("HEX(CONVERT({column} USING utf8mb4))"),
        Hex => format!("HEX({column})"),
        Float => format!("CAST(CAST({column} AS DOUBLE) AS CHAR)"),
    }
}

/// Makes a table of the cases, and compares each row of the stream with SELECT.
async fn compare(mode: &str, cases: &[Case]) {
    let mut shop = Shop::open().await;
    shop.run(&format!("SET sql_mode = '{mode}'")).await;
    let columns: Vec<String> = (0..cases.len()).map(|at| format!("c{at}")).collect();
    let declared: Vec<String> = columns
        .iter()
        .zip(cases)
        .map(|(column, Case(kind, ..))| format!("{column} {kind}"))
        .collect();
    shop.run(&format!(
        "CREATE TABLE t (id INT PRIMARY KEY, {})",
        declared.join(", ")
    ))
    .await;
    let mut stream = shop.stream().await;
    let rows = cases
        .iter()
        .map(|Case(_, _, values)| values.len())
        .max()
        .unwrap_or(0)
        + 1;
    for row in 0..rows {
        let value =
            |Case(_, _, values): &Case| values.get(row).map_or("NULL", |value| value).to_owned();
        let values: Vec<String> = cases.iter().map(value).collect();
        let sql = format!("INSERT INTO t VALUES ({row}, {})", values.join(", "));
        sqlx::query(AssertSqlSafe(sql))
            .execute(&mut shop.conn)
            .await
            .expect("a row");
    }
    let asked: Vec<String> = columns
        .iter()
        .zip(cases)
        .map(|(column, Case(kind, how, _))| asked(column, kind, *how))
        .collect();
    let mut seen: Vec<Row> = Vec::new();
    while seen.len() < rows {
        let bundle = stream.bundle().await;
        seen.extend(
            bundle
                .rows()
                .into_iter()
                .filter_map(|row| row.after.clone()),
        );
    }
    for (number, row) in seen.iter().enumerate() {
        let sql = format!("SELECT {} FROM t WHERE id = {number}", asked.join(", "));
        let selected = sqlx::query(AssertSqlSafe(sql))
            .fetch_one(&mut shop.conn)
            .await
            .expect("the row");
        for (at, Case(kind, how, _)) in cases.iter().enumerate() {
            let mut selected: Option<String> = selected.try_get_unchecked(at).expect("a text");
            let mut streamed = told(&row[at + 1], *how);
            if *how == Float {
                let number = |text: String| text.parse::<f64>().expect("a number").to_string();
                selected = selected.map(number);
                streamed = streamed.map(number);
            }
            assert_eq!(
                streamed,
                selected,
                "{kind} in row {number}: {:?}",
                row[at + 1]
            );
        }
    }
}

#[tokio::test]
async fn each_type_is_read_from_the_stream_as_select_reads_it() {
    compare("STRICT_ALL_TABLES", CASES).await;
}

#[tokio::test]
async fn dates_of_no_calendar_are_told_as_select_prints_them() {
    compare(
        "ALLOW_INVALID_DATES",
        &[
            Case(
                "DATE",
                Print,
                &["'0000-00-00'", "'2024-00-15'", "'2023-02-31'"],
            ),
            Case(
                "DATETIME(3)",
                Print,
                &["'0000-00-00'", "'2024-02-30 10:00:00.5'"],
            ),
            Case("TIMESTAMP(2) NULL", Print, &["'0000-00-00'"]),
            Case("ENUM('a')", Utf8, &["'wrong'"]),
        ],
    )
    .await;
}

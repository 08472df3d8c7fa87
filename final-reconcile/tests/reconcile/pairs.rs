//! Digest equality is value equality: random rows of every pair of types, on every pair of databases.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    time::Duration,
};

use fastrand::Rng;
use final_reconcile::{DifferenceKind, Job, Mapped};

use crate::place::{ALL, Db, Place};

/// A value, whatever the database.
#[derive(Clone, Debug, PartialEq)]
pub enum V {
    Null,
    Int(i64),
    Bool(bool),
    /// A number as it is written.
    Number(String),
    Text(String),
    Bytes(Vec<u8>),
    Uuid([u8; 16]),
    Bits(u16),
    /// JSON as it is written in the source, and in the target.
    Json(String, String),
}

/// A column on each database as source and as target, and its values.
pub struct Column {
    pub name: &'static str,
    from: [&'static str; 3],
    to: [&'static str; 3],
    make: fn(&mut Rng) -> V,
    /// A value that is not the same.
    change: fn(&mut Rng, &V) -> V,
}

fn text(rng: &mut Rng, alphabet: &str, most: usize) -> V {
    let letters: Vec<char> = alphabet.chars().collect();
    let length = rng.usize(0..=most);
    V::Text(
        (0..length)
            .map(|_| letters[rng.usize(0..letters.len())])
            .collect(),
    )
}

/// Changes that collations do not see, and others.
fn other_text(rng: &mut Rng, value: &V) -> V {
    let V::Text(old) = value else {
        return V::Text(String::new());
    };
    let new = match rng.u8(0..5) {
        0 => old.to_uppercase(),
        1 => format!("{old} "),
        2 => format!("{old}a"),
        3 => old.replace('e', "é"),
        _ => return V::Null,
    };
    match new == *old {
        true => V::Text(format!("{old}~;1:")),
        false => V::Text(new),
    }
}

fn other(make: fn(&mut Rng) -> V, rng: &mut Rng, value: &V) -> V {
    loop {
        let new = make(rng);
        if new != *value {
            return new;
        }
    }
}

fn int(rng: &mut Rng) -> V {
    V::Int(match rng.u8(0..4) {
        0 => i64::MAX,
        1 => i64::MIN,
        2 => rng.i64(-3..3),
        _ => rng.i64(..),
    })
}

fn small(rng: &mut Rng) -> V {
    V::Int(rng.i64(0..=9_999))
}

fn boolean(rng: &mut Rng) -> V {
    V::Bool(rng.bool())
}

fn decimal(rng: &mut Rng) -> V {
    let thousandths = rng.i64(-99_999_999..99_999_999) * i64::from(rng.u8(0..5) > 0);
    let sign = if thousandths < 0 { "-" } else { "" };
    let (whole, behind) = (thousandths.abs() / 1_000, thousandths.abs() % 1_000);
    V::Number(format!("{sign}{whole}.{behind:03}"))
}

fn double(rng: &mut Rng) -> V {
    let value = match rng.u8(0..5) {
        0 => f64::from(rng.i32(-1_000..1_000)),
        1 => rng.f64() * 1e-200,
        2 => (rng.f64() - 0.5) * 1e250,
        // A half at the sixteenth digit, where rounding the binary value ends elsewhere.
        3 => format!("0.{}5", rng.u64(100_000_000_000_000..1_000_000_000_000_000))
            .parse()
            .unwrap(),
        _ => rng.f64() - 0.5,
    };
    V::Number(format!("{value:e}"))
}

fn other_number(_: &mut Rng, value: &V) -> V {
    let V::Number(text) = value else {
        return V::Number("0".into());
    };
    match text.parse::<f64>().unwrap() {
        0.0 => V::Number("1".into()),
        value => V::Number(format!("{:e}", value * 1.001)),
    }
}

fn float(rng: &mut Rng) -> V {
    let value = match rng.u8(0..3) {
        0 => rng.f32(),
        1 => (rng.f32() - 0.5) * 1e20,
        _ => f32::from(rng.i16(..)),
    };
    V::Number(format!("{:e}", f64::from(value)))
}

fn date(rng: &mut Rng) -> V {
    V::Text(format!(
        "{:04}-{:02}-{:02}",
        rng.u16(1000..9999),
        rng.u8(1..=12),
        rng.u8(1..=28)
    ))
}

fn clock(rng: &mut Rng) -> String {
    format!(
        "{:02}:{:02}:{:02}",
        rng.u8(0..24),
        rng.u8(0..60),
        rng.u8(0..60)
    )
}

fn time(rng: &mut Rng) -> V {
    V::Text(format!(
        "{}.{:03}",
        clock(rng),
        rng.u16(0..1000) * u16::from(rng.bool())
    ))
}

fn moment(rng: &mut Rng, years: std::ops::Range<u16>, behind: &str) -> V {
    let day = format!(
        "{:04}-{:02}-{:02}",
        rng.u16(years),
        rng.u8(1..=12),
        rng.u8(1..=28)
    );
    V::Text(format!("{day} {}.{behind}", clock(rng)))
}

fn date_time(rng: &mut Rng) -> V {
    let micros = rng.u32(0..1_000_000) * u32::from(rng.bool());
    moment(rng, 1000..9999, &format!("{micros:06}"))
}

fn stamp(rng: &mut Rng) -> V {
    let millis = rng.u16(0..1_000);
    moment(rng, 1971..2037, &format!("{millis:03}"))
}

fn bytes(rng: &mut Rng) -> V {
    let length = rng.usize(0..20);
    V::Bytes((0..length).map(|_| rng.u8(..)).collect())
}

fn uuid(rng: &mut Rng) -> V {
    V::Uuid(rng.u128(..).to_be_bytes())
}

fn bits(rng: &mut Rng) -> V {
    V::Bits(rng.u16(0..512))
}

fn word(rng: &mut Rng) -> V {
    V::Text(["red", "green", "blue"][rng.usize(0..3)].into())
}

fn free_text(rng: &mut Rng) -> V {
    text(rng, "aAeEé;:~'\"\\ \n%_0😀ß", 12)
}

fn latin(rng: &mut Rng) -> V {
    text(rng, "aAeEéßÿ€ ;", 12)
}

fn padded(rng: &mut Rng) -> V {
    text(rng, "aAé;", 8)
}

fn other_padded(rng: &mut Rng, value: &V) -> V {
    other(padded, rng, value)
}

fn json(rng: &mut Rng) -> V {
    let (a, b) = (rng.i32(..), rng.f32());
    let name = ["x", "é", "a b"][rng.usize(0..3)];
    V::Json(
        format!("{{\"{name}\": [{a}, {b}, null, true], \"n\": 1}}"),
        format!("{{\"n\":1.0,\"{name}\":[{a}.0,{b:e},null,true]}}"),
    )
}

macro_rules! column {
    ($name:literal, $types:expr, $make:expr) => {
        column!($name, $types => $types, $make)
    };
    ($name:literal, $types:expr, $make:expr, $change:expr) => {
        column!($name, $types => $types, $make, $change)
    };
    ($name:literal, $from:expr => $to:expr, $make:expr) => {
        column!($name, $from => $to, $make, |rng, value| other($make, rng, value))
    };
    ($name:literal, $from:expr => $to:expr, $make:expr, $change:expr) => {
        Column {
            name: $name,
            from: $from,
            to: $to,
            make: $make,
            change: $change,
        }
    };
}

pub fn columns() -> Vec<Column> {
    vec![
        column!("big", ["bigint", "bigint", "INTEGER"], int),
        column!(
            "small",
            ["smallint", "smallint unsigned zerofill", "INT"],
            small
        ),
        column!(
            "wide",
            ["numeric(20, 0)", "bigint unsigned", "BIGINT"],
            small
        ),
        column!("yes", ["boolean", "tinyint(1)", "BOOLEAN"], boolean),
        column!(
            "price",
            ["numeric(12, 3)", "decimal(12, 3)", "DECIMAL(12, 3)"],
            decimal
        ),
        column!("free", ["numeric", "decimal(30, 10)", "TEXT"], decimal),
        column!(
            "ratio",
            ["double precision", "double", "REAL"],
            double,
            other_number
        ),
        column!("rough", ["real", "float", "REAL"], float, other_number),
        column!(
            "name",
            ["text", "varchar(60) COLLATE utf8mb4_general_ci", "TEXT"],
            free_text,
            other_text
        ),
        column!(
            "old",
            [
                "varchar(60)",
                "varchar(60) CHARACTER SET latin1",
                "VARCHAR(60)"
            ],
            latin,
            other_text
        ),
        column!(
            "padded",
            ["char(10)", "char(10)", "TEXT"],
            padded,
            other_padded
        ),
        column!("raw", ["bytea", "varbinary(60)", "BLOB"], bytes),
        column!("day", ["date", "date", "DATE"], date),
        column!("clock", ["time(3)", "time(3)", "TIME"], time),
        column!("made", ["timestamp(6)", "datetime(6)", "TEXT"], date_time),
        column!(
            "seen",
            ["timestamptz(3)", "timestamp(3) NULL", "DATETIME"],
            stamp
        ),
        column!("uid", ["uuid", "binary(16)", "TEXT"], uuid),
        column!("other_uid", ["uuid", "char(36)", "UUID"], uuid),
        column!("flags", ["bit(9)", "bit(9)", "INTEGER"], bits),
        column!(
            "colour",
            ["varchar(10)", "enum('red', 'green', 'blue')", "TEXT"],
            word
        ),
    ]
}

/// Columns whose types are not the same on both sides.
pub fn unlike_columns() -> Vec<Column> {
    vec![
        column!("n1", ["integer", "int", "INTEGER"] => ["numeric(20, 4)", "decimal(20, 4)", "DECIMAL(20, 4)"], small),
        column!("n2", ["bigint", "bigint", "INTEGER"] => ["double precision", "double", "REAL"], small),
        column!("n3", ["numeric(12, 3)", "decimal(12, 3)", "TEXT"] => ["numeric(14, 5)", "decimal(14, 5)", "NUMERIC"], decimal),
        column!("n4", ["numeric(12, 3)", "decimal(12, 3)", "NUMERIC"] => ["double precision", "double", "REAL"], decimal),
        column!("single", ["real", "float", "REAL"] => ["double precision", "double", "REAL"], float, other_number),
        column!("year", ["smallint", "year", "INTEGER"] => ["integer", "int", "INT"], year),
        column!("yes", ["boolean", "tinyint(1)", "BOOLEAN"] => ["smallint", "int", "INTEGER"], boolean),
        column!("few", ["bit(9)", "bit(9)", "INTEGER"] => ["bit(9)", "int unsigned", "INTEGER"], bits),
        column!("padded", ["char(10)", "char(10)", "TEXT"] => ["varchar(12)", "varchar(12)", "TEXT"], padded, other_padded),
        column!("name", ["varchar(60)", "varchar(60) COLLATE utf8mb4_bin", "TEXT"] => ["text", "text CHARACTER SET utf8mb4", "CLOB"], free_text, other_text),
        column!("colour", ["varchar(10)", "enum('red', 'green', 'blue')", "TEXT"] => ["text", "varchar(20)", "TEXT"], word),
        column!("at", ["timestamp(6)", "datetime(6)", "TEXT"] => ["timestamptz(6)", "timestamp(6) NULL", "DATETIME"], micros),
        column!("uid", ["uuid", "char(36)", "TEXT"] => ["bytea", "binary(16)", "UUID"], uuid),
    ]
}

/// Columns whose target has room for fewer digits of a second. No other server keeps times for SQLite.
pub fn coarse_columns() -> Vec<Column> {
    vec![
        column!("s", ["timestamp(6)", "datetime(6)", "TEXT"] => ["timestamp(0)", "datetime", "TEXT"], near_half),
        column!("ms", ["timestamp(6)", "datetime(6)", "TEXT"] => ["timestamp(3)", "datetime(3)", "TEXT"], near_half),
        column!("at", ["timestamptz(6)", "timestamp(6) NULL", "TEXT"] => ["timestamptz(1)", "timestamp(1) NULL", "TEXT"], near_half),
        column!("clock", ["time(6)", "time(6)", "TEXT"] => ["time(0)", "time", "TEXT"], clock_near_half),
        column!("tick", ["time(6)", "time(6)", "TEXT"] => ["time(2)", "time(2)", "TEXT"], clock_near_half),
    ]
}

pub fn json_columns() -> Vec<Column> {
    vec![
        column!(
            "name",
            ["text", "text CHARACTER SET utf8mb4", "TEXT"],
            free_text,
            other_text
        ),
        column!("data", ["jsonb", "json", "JSON"], json),
        column!(
            "plain",
            ["json", "longtext CHECK (json_valid(`plain`))", "JSON"],
            json
        ),
    ]
}

fn year(rng: &mut Rng) -> V {
    V::Int(rng.i64(1950..2100))
}

fn micros(rng: &mut Rng) -> V {
    let micros = rng.u32(0..1_000_000);
    moment(rng, 1971..2037, &format!("{micros:06}"))
}

/// Where rounding goes one way or the other.
fn half(rng: &mut Rng) -> u32 {
    [
        0,
        500_000,
        499_999,
        500_001,
        999_999,
        500,
        1_500,
        50_000,
        150_000,
        5_000,
        4_999,
        rng.u32(0..1_000_000),
    ][rng.usize(0..12)]
}

fn near_half(rng: &mut Rng) -> V {
    let micros = half(rng);
    moment(rng, 1990..2010, &format!("{micros:06}"))
}

fn clock_near_half(rng: &mut Rng) -> V {
    V::Text(format!("{}.{:06}", clock(rng), half(rng)))
}

/// A value as SQL.
fn literal(db: Db, declared: &str, value: &V, is_source: bool) -> String {
    let quoted = |text: &str| match db {
        Db::Maria => format!("'{}'", text.replace('\\', "\\\\").replace('\'', "''")),
        _ => format!("'{}'", text.replace('\'', "''")),
    };
    let hex = |bytes: &[u8]| {
        bytes.iter().fold(String::new(), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        })
    };
    match value {
        V::Null => "NULL".into(),
        V::Int(i64::MIN) if db == Db::Sqlite => "(-9223372036854775807 - 1)".into(),
        V::Int(value) => value.to_string(),
        V::Bool(value) if declared == "boolean" => value.to_string(),
        V::Bool(value) => u8::from(*value).to_string(),
        V::Number(text) if declared == "TEXT" => quoted(text),
        V::Number(text) => text.clone(),
        // As other programs write it.
        V::Text(text) if db == Db::Sqlite && declared == "DATETIME" => {
            quoted(&format!("{}Z", text.replace(' ', "T")))
        }
        V::Text(text) => quoted(text),
        V::Bytes(bytes) if db == Db::Postgres => format!("'\\x{}'::bytea", hex(bytes)),
        V::Bytes(bytes) => format!("X'{}'", hex(bytes)),
        V::Uuid(bytes) if declared == "bytea" => format!("'\\x{}'::bytea", hex(bytes)),
        V::Uuid(bytes) if declared == "binary(16)" || declared == "UUID" => {
            format!("X'{}'", hex(bytes))
        }
        V::Uuid(bytes) if db == Db::Sqlite => quoted(&hex(bytes).to_uppercase()),
        V::Uuid(bytes) => quoted(&uuid::Uuid::from_bytes(*bytes).to_string()),
        V::Bits(value) if db == Db::Sqlite => value.to_string(),
        V::Bits(value) => format!("B'{value:09b}'"),
        V::Json(source, target) => quoted(if is_source { source } else { target }),
    }
}

pub type Rows = BTreeMap<i64, Vec<V>>;

pub async fn fill(place: &Place, table: &str, columns: &[Column], rows: &Rows, is_source: bool) {
    let types = |column: &Column| if is_source { column.from } else { column.to };
    for (at, db) in ALL.into_iter().enumerate() {
        let declared: Vec<String> = columns
            .iter()
            .map(|column| format!("{} {}", column.name, types(column)[at]))
            .collect();
        let mut sql = format!(
            "CREATE TABLE {table} (id bigint PRIMARY KEY, {});",
            declared.join(", ")
        );
        if !rows.is_empty() {
            let _ = write!(sql, "INSERT INTO {table} VALUES ");
        }
        let mut tuples = Vec::new();
        for (id, values) in rows {
            let mut values: Vec<String> = columns
                .iter()
                .zip(values)
                .map(|(column, value)| literal(db, types(column)[at], value, is_source))
                .collect();
            values.insert(0, id.to_string());
            tuples.push(format!("({})", values.join(", ")));
        }
        sql.push_str(&tuples.join(",\n"));
        place.run(db, sql).await;
        if db == Db::Sqlite {
            let is_real = |column: &Column| types(column)[2] == "REAL";
            write_floats(place, table, columns, rows, is_real).await;
        }
    }
}

/// SQLite reads the last bit of some numbers wrongly, so floats are bound.
async fn write_floats(
    place: &Place,
    table: &str,
    columns: &[Column],
    rows: &Rows,
    is_real: impl Fn(&Column) -> bool,
) {
    let mut tx = place.sqlite.begin().await.unwrap();
    for (at, column) in columns
        .iter()
        .enumerate()
        .filter(|(_, column)| is_real(column))
    {
        let sql = format!("UPDATE {table} SET {} = ?1 WHERE id = ?2", column.name);
        for (id, values) in rows {
            if let V::Number(text) = &values[at] {
                let value: f64 = text.parse().unwrap();
                let update = sqlx::query(sqlx::AssertSqlSafe(sql.clone()))
                    .bind(value)
                    .bind(id);
                update.execute(&mut *tx).await.unwrap();
            }
        }
    }
    tx.commit().await.unwrap();
}

/// What was planted: rows that are missing, extra, and different with their columns.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Planted {
    pub missing: BTreeSet<i64>,
    pub extra: BTreeSet<i64>,
    pub different: BTreeMap<i64, BTreeSet<String>>,
}

/// Random rows of a source, and of a target that differs here and there.
pub fn plant(rng: &mut Rng, columns: &[Column], count: i64) -> (Rows, Rows, Planted) {
    let mut source = Rows::new();
    for id in 0..count {
        let value = |column: &Column| {
            if rng.u8(0..8) == 0 {
                V::Null
            } else {
                (column.make)(rng)
            }
        };
        source.insert(id * 3, columns.iter().map(value).collect());
    }
    let mut target = source.clone();
    let mut planted = Planted::default();
    for id in source.keys() {
        match rng.u8(0..12) {
            0 => {
                target.remove(id);
                planted.missing.insert(*id);
            }
            1 => {
                let mut values = source[id].clone();
                values[0] = (columns[0].make)(rng);
                target.insert(id + 1, values);
                planted.extra.insert(id + 1);
            }
            2..5 => {
                let at = rng.usize(0..columns.len());
                let values = target.get_mut(id).unwrap();
                values[at] = (columns[at].change)(rng, &values[at]);
                let names = planted.different.entry(*id).or_default();
                names.insert(columns[at].name.into());
            }
            _ => {}
        }
    }
    (source, target, planted)
}

async fn equality_is_that_of_values(columns: Vec<Column>, dbs: &[Db], count: i64) {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let rng = &mut Rng::with_seed(seed);
    let (source, target, planted) = plant(rng, &columns, count);
    let place = Place::fresh().await;
    fill(&place, "source", &columns, &source, true).await;
    fill(&place, "target", &columns, &target, false).await;
    let has_uuid = columns.iter().any(|column| column.name == "uid");
    for (from, to) in dbs
        .iter()
        .flat_map(|from| dbs.iter().map(move |to| (*from, *to)))
    {
        {
            let job = Job::new("pairs")
                .source(place.side(from, "source"))
                .target(place.side(to, "target"), |map| match has_uuid {
                    // 16 bytes and a text are a UUID only if that is said.
                    true => map.column("uid", Mapped::default().uuid()).rest(),
                    false => map,
                })
                .settle(Duration::ZERO)
                .show_values(true)
                .examples(10_000);
            let comparison = job.compare().await.unwrap().remove(0);
            let mut found = Planted::default();
            for example in &comparison.examples {
                let id: i64 = example.key[0].1.parse().unwrap();
                match example.kind {
                    DifferenceKind::Missing => drop(found.missing.insert(id)),
                    DifferenceKind::Extra => drop(found.extra.insert(id)),
                    _ => {
                        let names = example.columns.iter().map(|column| column.name.clone());
                        found.different.insert(id, names.collect());
                    }
                }
            }
            if found != planted {
                let wrong = comparison.examples.iter().filter(|example| {
                    let id: i64 = example.key[0].1.parse().unwrap();
                    example.kind == DifferenceKind::Different
                        && found.different.get(&id) != planted.different.get(&id)
                });
                let wrong: Vec<String> = wrong
                    .take(12)
                    .map(|example| format!("{:?} {:?}", example.key, example.columns))
                    .collect();
                let unseen = planted
                    .different
                    .iter()
                    .filter(|(id, _)| !found.different.contains_key(id));
                let unseen: Vec<String> = unseen
                    .take(5)
                    .map(|(id, names)| {
                        let name = names.first().unwrap();
                        let at = columns
                            .iter()
                            .position(|column| column.name == name)
                            .unwrap();
                        format!("{id} {name} {:?} {:?}", source[id][at], target[id][at])
                    })
                    .collect();
                panic!(
                    "seed {seed}, {from:?} with {to:?}:\n{}\nunseen {unseen:#?}",
                    wrong.join("\n")
                );
            }
            assert_eq!(comparison.rows, source.len() as u64, "{from:?} with {to:?}");
            assert_eq!(
                comparison.unsettled + comparison.healed,
                0,
                "{from:?} with {to:?}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_digests_are_equal_exactly_if_all_values_are() {
    equality_is_that_of_values(columns(), &ALL, 400).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn json_is_compared_as_a_value_whatever_its_text() {
    equality_is_that_of_values(json_columns(), &ALL, 120).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_are_equal_whatever_type_each_side_has_for_them() {
    equality_is_that_of_values(unlike_columns(), &ALL, 250).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_time_is_compared_as_the_coarser_side_has_stored_it() {
    equality_is_that_of_values(coarse_columns(), &[Db::Postgres, Db::Maria], 250).await;
}

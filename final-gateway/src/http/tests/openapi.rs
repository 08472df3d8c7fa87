//! `/openapi.json` says what the code does.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use axum::{body::Body, http::StatusCode};
use final_core::Message;
use serde_json::{Map, Value};

use super::{ask, ask_router, get, post, request, rooms::Made, small};
use crate::http::{Front, openapi::OPENAPI, vitals::Vitals};

type Names = BTreeSet<String>;

fn document() -> Value {
    serde_json::from_str(OPENAPI).unwrap()
}

fn object(value: &Value) -> &Map<String, Value> {
    value
        .as_object()
        .unwrap_or_else(|| panic!("no object: {value}"))
}

fn names(texts: impl IntoIterator<Item = impl Into<String>>) -> Names {
    texts.into_iter().map(Into::into).collect()
}

/// What a reference points to.
fn resolve<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    match value.get("$ref").and_then(Value::as_str) {
        Some(path) => {
            let found = document.pointer(path.strip_prefix('#').unwrap());
            found.unwrap_or_else(|| panic!("{path} points to nothing"))
        }
        None => value,
    }
}

/// All operations: path, method, what is said of it.
fn operations(document: &Value) -> Vec<(String, String, &Value)> {
    let mut all = Vec::new();
    for (path, methods) in object(&document["paths"]) {
        for (method, operation) in object(methods) {
            all.push((path.clone(), method.to_uppercase(), operation));
        }
    }
    all
}

fn filled(path: &str) -> String {
    path.replace("{topic}", "t").replace("{group}", "billing")
}

struct Fine;

impl Vitals for Fine {
    fn not_live(&self) -> futures::future::BoxFuture<'_, Vec<String>> {
        Box::pin(async { Vec::new() })
    }

    fn not_ready(&self) -> futures::future::BoxFuture<'_, Vec<String>> {
        Box::pin(async { vec!["the database\nis away".to_owned()] })
    }

    fn metrics(&self) -> futures::future::BoxFuture<'_, String> {
        Box::pin(async { "up 1\n".to_owned() })
    }
}

#[tokio::test]
async fn it_has_every_path_and_method_that_there_is_and_no_other() {
    let document = document();
    let routes = include_str!("../routes.rs").split(".route(");
    let routes = routes.skip(1).map(|route| route.split('"').nth(1).unwrap());
    assert_eq!(names(routes), names(object(&document["paths"]).keys()));

    let rooms = Made::default();
    let front = Front::over(rooms.shared(), small()).with_vitals(std::sync::Arc::new(Fine));
    let router = front.router();
    for (path, methods) in object(&document["paths"]) {
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE"] {
            let request = axum::http::Request::builder()
                .method(method)
                .uri(filled(path));
            let back = ask_router(router.clone(), request.body(Body::empty()).unwrap()).await;
            let is_there = methods.get(method.to_lowercase()).is_some();
            assert_ne!(back.status, StatusCode::NOT_FOUND, "{path}");
            assert_eq!(
                back.status != StatusCode::METHOD_NOT_ALLOWED,
                is_there,
                "{method} {path}"
            );
        }
    }
}

#[tokio::test]
async fn its_parameters_are_those_that_are_known() {
    let document = document();
    let rooms = Made::default();
    for (path, method, operation) in operations(&document) {
        if !path.starts_with("/v1") {
            continue;
        }
        let mut said = BTreeMap::<String, Names>::new();
        for parameter in operation["parameters"].as_array().unwrap() {
            let place = parameter["in"].as_str().unwrap().to_owned();
            said.entry(place)
                .or_default()
                .insert(parameter["name"].as_str().unwrap().to_owned());
        }
        let in_path = path
            .split('{')
            .skip(1)
            .map(|part| part.split('}').next().unwrap());
        assert_eq!(
            said.remove("path").unwrap_or_default(),
            names(in_path),
            "{path}"
        );

        let request = request(&method, &format!("{}?wrong=1", filled(&path)));
        let back = ask(&rooms, request.body(Body::from("1")).unwrap()).await;
        assert_eq!(back.code(), "unknown_parameter", "{path}");
        let message = back.message();
        let known = message
            .split("there are ")
            .nth(1)
            .unwrap_or_default()
            .split(", ");
        let known = names(known.filter(|name| !name.is_empty()));
        assert_eq!(said.remove("query").unwrap_or_default(), known, "{path}");
    }
}

#[tokio::test]
async fn its_fields_of_requests_are_those_that_are_read() {
    let document = document();
    let rooms = Made::default();
    let json = "application/json";
    for (path, schema) in [
        ("/v1/groups/billing/ack", "Ack"),
        ("/v1/groups/billing/nack", "Nack"),
        ("/v1/groups/billing/extend", "Extend"),
        ("/v1/groups/billing/dead-letters/replay?topic=t", "Replay"),
    ] {
        let message = post(&rooms, path, json, r#"{"wrong":1}"#).await.message();
        assert_eq!(
            properties(&document, schema),
            expected_fields(&message),
            "{schema}"
        );
    }
    let ndjson = "application/x-ndjson";
    let back = post(&rooms, "/v1/topics/t/messages", ndjson, r#"{"wrong":1}"#)
        .await
        .json();
    let message = back["results"][0]["error"]["message"].as_str().unwrap();
    assert_eq!(properties(&document, "Record"), expected_fields(message));
}

/// The names that serde would have taken.
fn expected_fields(message: &str) -> Names {
    let expected = message.split_once("expected").unwrap().1;
    names(expected.split('`').skip(1).step_by(2))
}

fn properties(document: &Value, schema: &str) -> Names {
    let schema = &document["components"]["schemas"][schema];
    names(object(&schema["properties"]).keys())
}

/// Checks a value against a schema: types of objects and arrays, fields. Adds the fields that were there to `seen`.
fn check(document: &Value, schema: &Value, value: &Value, at: &str, seen: &mut Names) {
    let schema = resolve(document, schema);
    if let Some(each) = schema.get("items") {
        for (index, item) in value.as_array().into_iter().flatten().enumerate() {
            check(document, each, item, &format!("{at}[{index}]"), seen);
        }
    }
    let Some(properties) = schema.get("properties") else {
        return;
    };
    for required in schema["required"].as_array().into_iter().flatten() {
        assert!(
            value.get(required.as_str().unwrap()).is_some(),
            "{at}: no {required} in {value}"
        );
    }
    for (name, field) in object(value) {
        let known = properties.get(name);
        let known = known.unwrap_or_else(|| panic!("{at}: {name} is not described"));
        let known = resolve(document, known);
        let types = match &known["type"] {
            Value::String(one) => vec![one.as_str()],
            Value::Array(some) => some.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        };
        let is_fine = types.is_empty()
            || types.iter().any(|kind| match *kind {
                "null" => field.is_null(),
                "string" => field.is_string(),
                "integer" => field.is_i64() || field.is_u64(),
                "number" => field.is_number(),
                "object" => field.is_object(),
                "array" => field.is_array(),
                "boolean" => field.is_boolean(),
                other => panic!("{other}"),
            });
        assert!(is_fine, "{at}.{name}: {field} is none of {types:?}");
        seen.insert(name.clone());
        if !field.is_null() {
            check(document, known, field, &format!("{at}.{name}"), seen);
        }
    }
}

#[tokio::test]
async fn its_fields_of_answers_are_those_that_are_written() {
    let document = document();
    let rooms = Made::default();
    let json = Message::new("t", "1").with_content_type("application/json");
    let packed = Message::new("t", "x")
        .with_content_encoding("gzip")
        .with_key("k")
        .with_header("a", "b");
    rooms.offer([json.clone(), packed.clone()]);
    rooms.bury(json, "no stock");
    rooms.bury(packed.clone(), "no stock");
    rooms.bury(packed, "broken");
    rooms.spoil(2);

    let plain = "application/json";
    let publish = "/v1/topics/t/messages";
    let lines = "{\"payload\":1}\n{\n";
    let group = "/v1/groups/billing";
    for (schema, back) in [
        ("Stored", post(&rooms, publish, plain, "1").await),
        ("Error", post(&rooms, publish, plain, "{").await),
        (
            "Results",
            post(&rooms, publish, "application/x-ndjson", lines).await,
        ),
        (
            "Pull",
            get(&rooms, &format!("{group}/messages?topic=t")).await,
        ),
        (
            "Results",
            post(
                &rooms,
                &format!("{group}/ack"),
                plain,
                r#"{"receipts":["t/receipt-0","x"]}"#,
            )
            .await,
        ),
        (
            "Backlog",
            get(&rooms, &format!("{group}/backlog?topic=t")).await,
        ),
        (
            "DeadLetters",
            get(&rooms, &format!("{group}/dead-letters?topic=t")).await,
        ),
        (
            "Replayed",
            post(
                &rooms,
                &format!("{group}/dead-letters/replay?topic=t"),
                plain,
                r#"{"all":true}"#,
            )
            .await,
        ),
        (
            "DatabusAddresses",
            get(&rooms, "/databus/consumer/addrs?group=g").await,
        ),
        (
            "DatabusOffsets",
            post(
                &rooms,
                "/databus/pub?topic=t&group=g",
                plain,
                r#"{"records":[{"value":1},{}]}"#,
            )
            .await,
        ),
    ] {
        let described = &document["components"]["schemas"][schema];
        let mut seen = Names::new();
        check(&document, described, &back.json(), schema, &mut seen);
        let mut all = Names::new();
        all_fields(&document, described, &mut all);
        // Receipts have no place, and one batch or the other shows each field.
        if back.status != StatusCode::MULTI_STATUS || seen.contains("seq") {
            assert_eq!(seen, all, "{schema}");
        }
    }
}

fn all_fields(document: &Value, schema: &Value, all: &mut Names) {
    let schema = resolve(document, schema);
    if let Some(each) = schema.get("items") {
        all_fields(document, each, all);
    }
    for (name, field) in schema.get("properties").map(object).into_iter().flatten() {
        all.insert(name.clone());
        all_fields(document, field, all);
    }
}

#[test]
fn its_codes_are_those_of_the_sources() {
    let mut codes = Names::new();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/http");
    for file in fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "rs") {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let text = text.split("#[cfg(test)]").next().unwrap();
        let parts: Vec<_> = text.split('"').collect();
        for (before, code) in parts.iter().zip(parts.iter().skip(1)) {
            let before = before.trim_end();
            let is_status = before.rsplit_once("StatusCode::").is_some_and(|(_, rest)| {
                rest.ends_with(',')
                    && rest
                        .trim_end_matches(',')
                        .bytes()
                        .all(|b| b.is_ascii_uppercase() || b == b'_')
            });
            let makes = ["bad(", "unavailable(", "forbidden("]
                .iter()
                .any(|end| before.ends_with(end));
            if (is_status || makes) && code.bytes().all(|b| b.is_ascii_lowercase() || b == b'_') {
                codes.insert((*code).to_owned());
            }
        }
    }
    let document = document();
    let said = &document["components"]["schemas"]["Problem"]["properties"]["code"]["enum"];
    assert_eq!(
        names(
            said.as_array()
                .unwrap()
                .iter()
                .map(|code| code.as_str().unwrap())
        ),
        codes
    );
}

#[test]
fn it_is_whole() {
    let document = document();
    assert_eq!(document["openapi"], "3.1.0");
    walk(&document, &document);
    let mut ids = Names::new();
    for (path, method, operation) in operations(&document) {
        let id = operation["operationId"].as_str().unwrap();
        assert!(ids.insert(id.to_owned()), "{id} is there twice");
        assert!(
            operation["responses"].get("200").is_some(),
            "{method} {path}"
        );
    }
}

fn walk(document: &Value, value: &Value) {
    resolve(document, value);
    match value {
        Value::Object(fields) => fields.values().for_each(|field| walk(document, field)),
        Value::Array(items) => items.iter().for_each(|item| walk(document, item)),
        _ => {}
    }
}

#[tokio::test]
async fn probes_and_metrics_need_no_login() {
    let rooms = Made::default();
    let front = Front::over(rooms.shared(), small()).with_vitals(std::sync::Arc::new(Fine));
    let router = front.router();
    for (path, status, text) in [
        ("/livez", 200, "ok\n"),
        ("/readyz", 503, "not ok\nthe database is away\n"),
        ("/metrics", 200, "up 1\n"),
    ] {
        let request = axum::http::Request::get(path).body(Body::empty()).unwrap();
        let back = ask_router(router.clone(), request).await;
        assert_eq!((back.status.as_u16(), back.text()), (status, text));
    }
}

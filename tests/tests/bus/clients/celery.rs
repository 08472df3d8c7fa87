//! Tasks of Celery: those that it sends to a service, and one that a bus sends to its worker.

use serde::de::IgnoredAny;
use serde_json::json;

use super::*;

/// The body of a task: arguments, keyword arguments, and what concerns Celery alone.
type Task = ((u32, String), Arguments, IgnoredAny);

#[derive(Debug, PartialEq, Deserialize)]
struct Arguments {
    express: bool,
    order: Order,
}

fn task(message: &Message) -> String {
    message.headers().get("task").unwrap_or_default().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_reads_the_tasks_that_celery_sends() {
    let post = Post::open().await;
    let (topic, queue) = (post.house.topic("placed"), post.house.service.clone());
    let tasks = post.published_by(Client::Celery, 6, task).await;

    let arguments = || {
        let order = order();
        (
            (7, "Zoë".to_owned()),
            Arguments {
                express: true,
                order,
            },
        )
    };
    for name in ["shop.plain", "shop.options", "shop.gzip", "shop.exchange"] {
        let Json((args, kwargs, _)) = extract::<Json<Task>>(&tasks[name]).await.expect(name);
        assert_eq!((args, kwargs), arguments(), "{name}");
        assert_eq!(
            tasks[name].headers().get("id"),
            Some(&*format!("id-of-{name}"))
        );
        assert_eq!(tasks[name].headers().get("retries"), Some("0"));
    }
    let packed = extract::<Payload<Task>>(&tasks["shop.msgpack"]).await;
    let Payload((args, kwargs, _)) = packed.expect("msgpack");
    assert_eq!((args, kwargs), arguments());
    assert_eq!(tasks["shop.plain"].topic(), queue);
    assert_eq!(tasks["shop.exchange"].topic(), topic);

    let options = tasks["shop.options"].received();
    assert_eq!(
        options.correlation_id.as_deref(),
        Some("id-of-shop.options")
    );
    assert_eq!(options.priority, Some(3));
    assert_eq!(options.expiration, Some(Duration::from_secs(7200)));
    let limits = list([HeaderValue::Int(30), HeaderValue::Nil]);
    assert_eq!(options.headers["timelimit"], limits);
    assert_eq!(options.headers["group"], HeaderValue::Nil);
    assert!(tasks["shop.options"].headers().get("eta").is_some());

    // The first protocol has no headers, and all in the body.
    let Json(old) = extract::<Json<serde_json::Value>>(&tasks[""])
        .await
        .expect("JSON");
    assert_eq!(
        (&old["task"], &old["args"]),
        (&json!("shop.protocol-1"), &json!([7, "Zoë"]))
    );
    post.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_of_celery_runs_the_task_that_a_bus_sends() {
    let house = House::<Sqlite, Rabbit>::new().await;
    let (bus, topic) = (house.bus(), house.topic("receipt"));
    bus.start(Router::new()).await.expect("start");
    let body = json!([[7, "Zoë"], { "express": true }, {}]);
    let sent = bus.publish(&topic, Json(&body));
    let sent = sent.header("task", "shop.receipt").header("id", "id-1");
    sent.header("tenant", "acme").await.expect("publish");

    let queue = house.service.clone();
    let ran = run(
        Client::Celery,
        house.transport.url(),
        ["work", &topic, &queue],
    )
    .await;

    let task = json!({ "id": "id-1", "args": [7, "Zoë"], "kwargs": { "express": true }, "tenant": "acme" });
    assert_eq!(ran, [task]);
    house.outbox_is_empty(&bus).await;
    bus.shutdown().await.expect("shutdown");
}

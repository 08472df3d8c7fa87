//! Findings of RabbitMQ.

use final_amqp::{Amqp, QueueKind, doctor::BrokerDoctor};
use final_core::{
    Bus, Router,
    admin::doctor::{Finding, Level},
};
use final_tests::{RabbitMq, Vhost, eventually, unique};
use lapin::{
    Connection, ConnectionProperties,
    options::{BasicPublishOptions, QueueDeclareOptions},
    types::FieldTable,
};
use sqlx::PgPool;

use crate::house::SOON;

/// A service on a virtual host of its own.
struct Ward {
    vhost: Vhost,
    service: String,
    /// What takes the limit of deliveries away that each quorum queue has on RabbitMQ 4. RabbitMQ 3 has none, and knows
    /// no negative number.
    no_limit: Option<i64>,
}

impl Ward {
    /// As production.md tells operators to have it.
    async fn new() -> Self {
        let vhost = final_tests::amqp_vhost().await.expect("RabbitMQ");
        let service = unique("svc");
        let api = vhost.api().expect("its API");
        let no_limit = (api.major().await.expect("a version") >= 4).then_some(-1);
        if let Some(none) = no_limit {
            let (letters, none) = (
                format!("^{service}_dlx$"),
                serde_json::json!({ "delivery-limit": none }),
            );
            let set = api.set_weak_policy(vhost.name(), "lasting", &letters, none);
            set.await.expect("set");
        }
        Self {
            vhost,
            service,
            no_limit,
        }
    }

    /// With everything that a start declares.
    async fn declared() -> Self {
        let ward = Self::new().await;
        ward.declare().await;
        ward.shows([]).await;
        ward
    }

    fn amqp(&self) -> Amqp {
        Amqp::new(self.vhost.url()).expect("a URL")
    }

    fn topic(&self) -> String {
        format!("{}.placed", self.service)
    }

    /// The service starts and ends: it declares what is missing, and takes what waits.
    async fn declare(&self) {
        self.start(self.amqp(), 0).await;
        let Some(none) = self.no_limit else { return };
        // The management shows a policy some seconds after it counts.
        let letters = format!("{}_dlx", self.service);
        eventually("the policy is shown", SOON, async || {
            let api = self.vhost.api().expect("its API");
            let queue = api.queue(self.vhost.name(), &letters).await;
            let queue = queue.map_err(|error| error.to_string())?;
            let shown = queue["effective_policy_definition"]["delivery-limit"].as_i64();
            (shown == Some(none)).then_some(()).ok_or(queue.to_string())
        })
        .await;
    }

    async fn start(&self, amqp: Amqp, handles: u64) {
        let url = final_tests::pg_database().await.expect("PostgreSQL");
        let bus = Bus::new(
            &self.service,
            PgPool::connect_lazy(&url).expect("a URL"),
            amqp,
        );
        let router = Router::new().route(self.topic(), async || {});
        bus.start(router.route(self.other_topic(), async || {}))
            .await
            .expect("start");
        eventually("it is handled", SOON, async || {
            bus.stats().await.expect("stats").handled == handles
        })
        .await;
        bus.shutdown().await.expect("shutdown");
    }

    fn other_topic(&self) -> String {
        format!("{}.paid", self.service)
    }

    fn doctor(&self) -> BrokerDoctor {
        self.of_service().topic(self.topic())
    }

    fn of_service(&self) -> BrokerDoctor {
        let api = self.vhost.api().expect("its API").url();
        let doctor = BrokerDoctor::new(self.amqp()).service(&self.service);
        doctor.management(api).expect("a URL")
    }

    /// By AMQP alone.
    fn by_amqp(&self) -> BrokerDoctor {
        BrokerDoctor::new(self.amqp())
            .service(&self.service)
            .topic(self.topic())
    }

    async fn shows<const N: usize>(&self, names: [&str; N]) -> [Finding; N] {
        shows(&self.doctor(), names).await
    }

    async fn delete_queue(&self, queue: &str) {
        let api = self.vhost.api().expect("its API");
        api.delete_queue(self.vhost.name(), queue)
            .await
            .expect("deleted");
    }

    /// Does by the API what the finding says to type.
    async fn delete_as_told(&self, finding: &Finding, queue: &str) {
        let told = format!("`rabbitmqctl delete_queue {queue} --if-empty`");
        assert!(finding.mend.contains(&told), "{finding}");
        self.delete_queue(queue).await;
    }

    async fn connect(&self) -> Connection {
        let connection = Connection::connect(self.vhost.url(), ConnectionProperties::default());
        connection.await.expect("connected")
    }
}

async fn shows<const N: usize>(doctor: &BrokerDoctor, names: [&str; N]) -> [Finding; N] {
    let findings = doctor.examine().await;
    let found: Vec<&str> = findings.iter().map(|finding| finding.name).collect();
    assert_eq!(found, names, "{findings:#?}");
    findings.try_into().expect("as many")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_that_is_missing_is_told() {
    let ward = Ward::new().await;
    let names = ["queue_missing", "topic_exchange_missing"];
    let findings = ward.doctor().examine().await;
    let found: Vec<&str> = findings.iter().map(|finding| finding.name).collect();
    assert_eq!(found, names, "{findings:#?}");

    ward.declare().await;

    ward.shows([]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_letters_without_an_exchange_or_a_queue_are_told() {
    let ward = Ward::declared().await;
    let api = ward.vhost.api().expect("its API");
    let exchange = format!("{}_exchange_dlx", ward.service);
    api.delete_exchange(ward.vhost.name(), &exchange)
        .await
        .expect("deleted");
    ward.shows(["dead_letter_exchange_missing"]).await;
    ward.declare().await;
    ward.shows([]).await;

    ward.delete_queue(&format!("{}_dlx", ward.service)).await;
    ward.shows(["dead_letter_queue_missing"]).await;
    ward.declare().await;
    ward.shows([]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exchange_of_a_topic_that_is_missing_is_told() {
    let ward = Ward::declared().await;
    let api = ward.vhost.api().expect("its API");
    api.delete_exchange(ward.vhost.name(), &ward.topic())
        .await
        .expect("deleted");

    ward.shows(["topic_exchange_missing"]).await;

    ward.declare().await;
    ward.shows([]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_that_nobody_consumes_are_told() {
    let ward = Ward::declared().await;
    let connection = ward.connect().await;
    let channel = connection.create_channel().await.expect("a channel");
    let topic = ward.topic();
    let published = channel.basic_publish(
        topic.as_str().into(),
        topic.as_str().into(),
        BasicPublishOptions::default(),
        b"\x01",
        lapin::BasicProperties::default(),
    );
    published.await.expect("published");
    let findings = eventually("it is counted", SOON, async || {
        let findings = ward.doctor().examine().await;
        if findings.is_empty() {
            Err(findings)
        } else {
            Ok(findings)
        }
    })
    .await;

    assert_eq!(findings.len(), 1, "{findings:?}");
    assert_eq!(findings[0].name, "queue_without_consumers");
    ward.start(ward.amqp(), 1).await;
    eventually("it is taken", SOON, async || {
        ward.doctor().examine().await.is_empty()
    })
    .await;
}

/// A queue that somebody else has made, in ways that a service would not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_with_other_properties_is_told() {
    let ward = Ward::declared().await;
    let connection = ward.connect().await;
    let (service, letters) = (ward.service.clone(), format!("{}_dlx", ward.service));
    for (queue, options, arguments, name) in [
        (
            &service,
            QueueDeclareOptions::durable(),
            FieldTable::default(),
            "queue_arguments_differ",
        ),
        (
            &letters,
            QueueDeclareOptions::durable(),
            short_lived(),
            "queue_arguments_differ",
        ),
        (
            &service,
            QueueDeclareOptions::default(),
            FieldTable::default(),
            "queue_not_durable",
        ),
        (
            &letters,
            QueueDeclareOptions::default(),
            FieldTable::default(),
            "queue_not_durable",
        ),
    ] {
        ward.delete_queue(queue).await;
        let channel = connection.create_channel().await.expect("a channel");
        let declared = channel.queue_declare(queue.as_str().into(), options, arguments);
        declared.await.expect("declared");

        // What is not asked is told.
        let [finding, _] = shows(&ward.by_amqp(), [name, "could_not_check"]).await;

        ward.delete_as_told(&finding, queue).await;
        ward.declare().await;
        ward.shows([]).await;
    }
}

fn short_lived() -> FieldTable {
    let mut arguments = FieldTable::default();
    arguments.insert("x-expires".into(), 3_600_000.into());
    arguments
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_of_one_connection_is_told() {
    let ward = Ward::declared().await;
    ward.delete_queue(&ward.service).await;
    let connection = ward.connect().await;
    let channel = connection.create_channel().await.expect("a channel");
    let alone = QueueDeclareOptions {
        exclusive: true,
        ..QueueDeclareOptions::default()
    };
    let declared =
        channel.queue_declare(ward.service.as_str().into(), alone, FieldTable::default());
    declared.await.expect("declared");

    shows(&ward.by_amqp(), ["queue_exclusive", "could_not_check"]).await;

    // As told: the program ends.
    connection.close(200, "OK".into()).await.expect("closed");
    eventually("it is gone", SOON, async || {
        let names: Vec<_> = ward
            .by_amqp()
            .examine()
            .await
            .iter()
            .map(|finding| finding.name)
            .collect();
        names == ["queue_missing", "could_not_check"]
    })
    .await;
    ward.declare().await;
    ward.shows([]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_classic_queue_is_a_note_unless_it_is_wanted() {
    let ward = Ward::new().await;
    let classic = ward.amqp().queue_kind(QueueKind::Classic);
    ward.start(classic.clone(), 0).await;

    let [first, letters] = ward.shows(["queue_classic"; 2]).await;

    assert_eq!((first.level, letters.level), (Level::Note, Level::Note));
    shows(
        &BrokerDoctor::new(classic).service(&ward.service),
        ["could_not_check"],
    )
    .await;
    ward.delete_as_told(&first, &ward.service).await;
    ward.delete_as_told(&letters, &format!("{}_dlx", ward.service))
        .await;
    ward.declare().await;
    ward.shows([]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_that_may_not_look_is_told_so() {
    let ward = Ward::declared().await;
    let api = ward.vhost.api().expect("its API");
    let user = unique("few");
    api.add_user(&user, "s3cret").await.expect("a user");
    api.set_permissions(&user, ward.vhost.name(), ["^$", ".*", ".*"])
        .await
        .expect("permissions");
    let (_, address) = ward.vhost.url().rsplit_once('@').expect("a login");
    let amqp = Amqp::new(format!("amqp://{user}:s3cret@{address}")).expect("a URL");
    let doctor = BrokerDoctor::new(amqp).service(&ward.service);

    let findings = shows(&doctor, ["could_not_check"; 3]).await;

    assert!(
        findings[..2]
            .iter()
            .all(|finding| finding.what.contains(&ward.service)),
        "{findings:?}"
    );
    api.set_permissions(&user, ward.vhost.name(), [".*"; 3])
        .await
        .expect("permissions");
    shows(&doctor, ["could_not_check"]).await;
    api.delete_user(&user).await.expect("removed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_is_away_is_told_without_its_password() {
    let nowhere = Amqp::new("amqp://guest:s3cret@127.0.0.1:1/%2f").expect("a URL");

    let [finding] = shows(&BrokerDoctor::new(nowhere), ["rabbitmq_unreachable"]).await;

    assert!(finding.what.contains("127.0.0.1:1"), "{finding}");
    assert!(!finding.to_string().contains("s3cret"), "{finding}");
    // Once the URL is right:
    Ward::declared().await;
}

/// On a server of its own, since an alarm stops all publishers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_alarm_is_told() {
    let server = RabbitMq::start().await.expect("RabbitMQ");
    let doctor = BrokerDoctor::new(Amqp::new(server.url()).expect("a URL"));
    shows(&doctor, []).await;
    server
        .ctl(&["set_vm_memory_high_watermark", "absolute", "1MB"])
        .await
        .expect("set");
    let alarm = async || server.management().has_alarm().await.expect("an answer");
    eventually("an alarm", SOON, alarm).await;

    let [finding] = shows(&doctor, ["rabbitmq_alarm"]).await;

    assert!(finding.mend.contains("`rabbitmqctl status`"), "{finding}");
    // It gets memory.
    server
        .ctl(&["set_vm_memory_high_watermark", "0.9"])
        .await
        .expect("set");
    eventually("no alarm", SOON, async || !alarm().await).await;
    shows(&doctor, []).await;
}

/// Bindings that somebody has removed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bindings_that_are_missing_are_told() {
    let ward = Ward::declared().await;
    let connection = ward.connect().await;
    let channel = connection.create_channel().await.expect("a channel");
    let unbind = async |queue: &str, exchange: &str, key: &str| {
        let (queue, exchange, key) = (queue.into(), exchange.into(), key.into());
        let unbound = channel.queue_unbind(queue, exchange, key, FieldTable::default());
        unbound.await.expect("unbound");
    };
    let letters = format!("{}_dlx", ward.service);
    unbind(&letters, &format!("{}_exchange_dlx", ward.service), "").await;
    ward.shows(["dead_letter_queue_unbound"]).await;
    ward.declare().await;
    ward.shows([]).await;

    unbind(&ward.service, &ward.topic(), &ward.topic()).await;
    ward.shows(["topic_unbound"]).await;
    ward.declare().await;
    ward.shows([]).await;

    for topic in [ward.topic(), ward.other_topic()] {
        unbind(&ward.service, &topic, &topic).await;
    }
    shows(&ward.of_service(), ["queue_unbound"]).await;
    ward.declare().await;
    ward.shows([]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn policies_that_lose_messages_are_told() {
    let ward = Ward::declared().await;
    let api = ward.vhost.api().expect("its API");
    let (queue, letters) = (
        format!("^{}$", ward.service),
        format!("^{}_dlx$", ward.service),
    );
    let policy = async |pattern: &str, definition: serde_json::Value| {
        let set = api.set_policy(ward.vhost.name(), "hasty", pattern, definition);
        set.await.expect("set");
    };
    let settles = async |names: &[&str]| -> Vec<Finding> {
        eventually("the policy counts", SOON, async || {
            let findings = ward.doctor().examine().await;
            let found: Vec<&str> = findings.iter().map(|finding| finding.name).collect();
            if found == names {
                Ok(findings)
            } else {
                Err(findings)
            }
        })
        .await
    };

    policy(&queue, serde_json::json!({ "delivery-limit": 5 })).await;
    let low = settles(&["delivery_limit_low"]).await;
    assert!(low[0].what.contains("is 5; its policy is hasty"), "{low:?}");
    // As told.
    policy(&queue, serde_json::json!({ "delivery-limit": 20 })).await;
    settles(&[]).await;

    policy(&letters, serde_json::json!({ "delivery-limit": 20 })).await;
    let limited = settles(&["dead_letters_limited"]).await;
    assert!(
        limited[0].mend.contains("`Options::collect_dead_letters`"),
        "{limited:?}"
    );
    shows(&ward.doctor().collecting(&ward.service), []).await;
    // RabbitMQ 3 knows no negative limit. There it is taken out.
    api.delete_policy(ward.vhost.name(), "hasty")
        .await
        .expect("deleted");
    settles(&[]).await;

    for pattern in [&queue, &letters] {
        // Of the policies only one counts for a queue.
        let mut drops = serde_json::json!({ "max-length": 1000 });
        if let Some(none) = ward.no_limit {
            drops["delivery-limit"] = none.into();
        }
        policy(pattern, drops.clone()).await;
        settles(&["queue_drops_messages"]).await;
        // As told.
        drops["overflow"] = "reject-publish".into();
        policy(pattern, drops).await;
        settles(&[]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_management_api_that_does_not_answer_is_told_without_its_password() {
    let ward = Ward::declared().await;
    let away = BrokerDoctor::new(ward.amqp()).service(&ward.service);
    let away = away
        .management("http://guest:s3cret@127.0.0.1:1")
        .expect("a URL");

    let [note] = shows(&away, ["could_not_check"]).await;

    assert!(
        note.what.contains("127.0.0.1:1") && !note.to_string().contains("s3cret"),
        "{note}"
    );
    let wrong = BrokerDoctor::new(ward.amqp()).management("mq:s3cret");
    let error = wrong.expect_err("no URL").to_string();
    assert!(!error.contains("s3cret"), "{error}");
}

//! What `open` refuses, and what it puts up with.

#![allow(
    clippy::unwrap_used,
    reason = "tests say what they expect by unwrapping"
)]

mod declaring;
mod existing;
#[path = "../support/mod.rs"]
mod support;

use std::time::Duration;

use final_amqp::{Amqp, QueueKind};
use final_core::{
    Error, Message,
    broker::{Broker, BrokerErrorKind, Confirm, Isolation, LinkState},
};
use support::*;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};

fn with_login(user: &str, password: &str) -> String {
    let url = url();
    let (_, address) = url.rsplit_once('@').unwrap();
    format!("amqp://{user}:{password}@{address}")
}

#[tokio::test]
async fn a_refused_login_is_an_error_without_the_password() {
    let amqp = Amqp::new(with_login("nobody", "s3cret")).unwrap();
    let error = amqp.open(setup(&name("s"), &[])).await.unwrap_err();

    assert_eq!(error.kind(), BrokerErrorKind::Refused);
    let shown = format!("{error} {error:?}");
    let shown = format!("{shown} {:?}", Error::from(error));
    assert!(!shown.contains("s3cret"), "{shown}");
}

#[tokio::test]
async fn an_unknown_virtual_host_is_an_error() {
    let url = url();
    let (start, _) = url.rsplit_once('/').unwrap();
    let amqp = Amqp::new(format!("{start}/nowhere-{}", name("v"))).unwrap();

    let error = amqp.open(setup(&name("s"), &[])).await.unwrap_err();
    assert_eq!(error.kind(), BrokerErrorKind::Refused);
}

#[tokio::test]
async fn tls_to_a_port_without_it_is_no_panic() {
    let amqp = Amqp::new(url().replace("amqp://", "amqps://")).unwrap();

    // The server closes, or answers no TLS: away, or an error that says so.
    match amqp.open(setup(&name("s"), &[])).await {
        Ok(opened) => end(&*opened.link).await,
        Err(error) => assert_eq!(error.kind(), BrokerErrorKind::Certificate),
    }
}

#[tokio::test]
async fn a_bad_certificate_authority_is_an_error() {
    let amqp = Amqp::new(url().replace("amqp://", "amqps://"))
        .unwrap()
        .ca_certificate("-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n");

    let error = amqp.open(setup(&name("s"), &[])).await.unwrap_err();
    assert_eq!(error.kind(), BrokerErrorKind::Certificate);
}

#[tokio::test]
async fn a_queue_of_another_kind_is_an_error_that_names_it_and_the_way_out() {
    let (service, topic) = (name("s"), name("t"));
    let classic = amqp().queue_kind(QueueKind::Classic);
    let opened = classic.open(setup(&service, &[&topic])).await.unwrap();
    end(&*opened.link).await;

    let error = amqp().open(setup(&service, &[&topic])).await.unwrap_err();
    assert_eq!(error.kind(), BrokerErrorKind::Mismatch);
    let text = error.to_string();
    assert!(
        text.contains(&service) && text.contains("QueueKind::Classic"),
        "{text}"
    );
    // With the right kind all is well.
    let opened = classic.open(setup(&service, &[&topic])).await.unwrap();
    end(&*opened.link).await;
    Admin::new().await.forget(&service, &[&topic]).await;
}

#[tokio::test]
async fn a_queue_name_that_cannot_be_is_an_error() {
    for queue in ["", "amq.mine", &"x".repeat(256)] {
        let error = amqp()
            .queue(queue)
            .open(setup(&name("s"), &[]))
            .await
            .unwrap_err();

        assert_eq!(error.kind(), BrokerErrorKind::Invalid);
    }
}

#[tokio::test]
async fn purge_empties_the_queues_unless_somebody_consumes() {
    let (service, topic) = (name("s"), name("t"));
    let purging = || {
        let mut setup = setup(&service, &[&topic]);
        setup.purge = true;
        setup
    };
    let running = amqp().open(setup(&service, &[&topic])).await.unwrap();
    let error = amqp().open(purging()).await.unwrap_err();
    assert_eq!(error.kind(), BrokerErrorKind::InUse);
    end(&*running.link).await;

    let link = publisher(&amqp()).await;
    let mut sender = Sender::new(link.clone());
    let message = Message::new(topic.as_str(), "old");
    assert_eq!(
        sender.confirm(Isolation::Shared, message).await,
        Confirm::Stored
    );
    end(&*link).await;
    let admin = Admin::new().await;
    let (exchange, letters) = (format!("{service}_exchange_dlx"), format!("{service}_dlx"));
    let properties = Default::default();
    admin.publish(&exchange, "", properties, b"old").await;

    // A consumer that has just ended may be counted a moment longer.
    let mut opened = loop {
        match amqp().open(purging()).await {
            Ok(opened) => break opened,
            Err(error) => assert_eq!(error.kind(), BrokerErrorKind::InUse),
        }
    };
    let quiet = tokio::time::timeout(
        std::time::Duration::from_millis(500),
        opened.deliveries.recv(),
    );
    assert!(quiet.await.is_err(), "nothing is left to deliver");
    assert_eq!(admin.drain(&letters).await, []);
    end(&*opened.link).await;
    admin.forget(&service, &[&topic]).await;
}

#[tokio::test]
async fn purge_needs_a_broker() {
    let amqp = Amqp::new("amqp://guest:guest@127.0.0.1:1/%2f").unwrap();
    let mut setup = setup(&name("s"), &["t"]);
    setup.purge = true;

    let error = amqp.open(setup).await.unwrap_err();
    assert_eq!(error.kind(), BrokerErrorKind::Unreachable);
}

#[tokio::test]
async fn a_broker_that_is_away_is_no_error() {
    let amqp = Amqp::new("amqp://guest:guest@127.0.0.1:1/%2f").unwrap();
    let opened = amqp.open(setup(&name("s"), &["t"])).await.unwrap();

    assert_eq!(*opened.link.state().borrow(), LinkState::Away);
    end(&*opened.link).await;
}

/// lapin's thread, its stream and its buffers would stay for each, for as long as the other side does.
#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_to_connect_that_is_given_up_hangs_up() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let amqp = Amqp::new(format!("amqp://{}/%2f", silent.local_addr().unwrap()))
        .unwrap()
        .connect_timeout(Duration::from_millis(200));
    let setup = setup(&name("s"), &["t"]);
    let (opened, stream) = tokio::join!(amqp.open(setup), silent.accept());

    let mut said = Vec::new();
    let hung_up = timeout(LONG, stream.unwrap().0.read_to_end(&mut said)).await;
    assert!(hung_up.is_ok(), "after {said:?}");
    end(&*opened.unwrap().link).await;
}

fn method(payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&[1, 0, 0], &length[..], payload, &[0xce]].concat()
}

/// Begins the handshake as a broker does, answers the login with these bytes and keeps the socket open.
async fn answer_login(mut stream: TcpStream, answer: &[u8]) -> TcpStream {
    let start = b"\0\x0a\0\x0a\0\x09\0\0\0\0\0\0\0\x05PLAIN\0\0\0\x05en_US";
    stream.read_exact(&mut [0; 8]).await.unwrap();
    stream.write_all(&method(start)).await.unwrap();
    let mut head = [0; 7];
    stream.read_exact(&mut head).await.unwrap();
    let length = u32::from_be_bytes(*head.last_chunk().unwrap());
    let mut rest = vec![0; length as usize + 1];
    stream.read_exact(&mut rest).await.unwrap();
    stream.write_all(answer).await.unwrap();
    stream
}

/// RabbitMQ names some reasons in its own log only. What is known then is how far the attempt came.
#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_that_ends_without_a_reason_says_what_it_may_mean() {
    let tune = method(b"\0\x0a\0\x1e\x07\xff\0\0\x20\0\0\x3c");
    let busy = b"HTTP/1.1 503 Service Unavailable\r\n\r\n";
    for (greets, answer, words) in [
        (false, &[][..], "`amqps://`"),
        (false, busy, "check the port"),
        (true, &[], "login mechanism"),
        (
            true,
            &tune,
            "frame_max 8192, channel_max 2047, heartbeat 60",
        ),
    ] {
        let broker = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("amqp://{}/%2f", broker.local_addr().unwrap());
        let amqp = Amqp::new(url).unwrap();
        let refused = async {
            let mut stream = broker.accept().await.unwrap().0;
            if greets {
                stream = answer_login(stream, answer).await;
            } else {
                stream.read_exact(&mut [0; 8]).await.unwrap();
                stream.write_all(answer).await.unwrap();
            }
            if answer == tune {
                // What the client answers to the limits.
                let _ = stream.read(&mut [0; 64]).await;
            }
        };
        // A purge needs the broker at once, so that its absence is an error.
        let mut setup = setup(&name("s"), &[]);
        setup.purge = true;
        let (opened, ()) = tokio::join!(amqp.open(setup), refused);

        let error = opened.unwrap_err();
        assert_eq!(error.kind(), BrokerErrorKind::Unreachable);
        assert!(error.to_string().contains(words), "{words}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_does_not_answer_is_told_from_one_that_is_not_there() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!(
        "amqp://{}/%2f?connection_timeout=200",
        silent.local_addr().unwrap()
    );
    let mut setup = setup(&name("s"), &[]);
    setup.purge = true;

    let error = Amqp::new(url).unwrap().open(setup).await.unwrap_err();
    assert_eq!(error.kind(), BrokerErrorKind::Unreachable);
    assert!(error.to_string().contains("did not answer"), "{error}");
}

/// RabbitMQ may have no limit of frames. lapin reserves 64 frames of memory for each connection.
#[tokio::test(flavor = "multi_thread")]
async fn a_broker_without_limits_is_asked_for_ours() {
    let broker = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("amqp://{}/%2f", broker.local_addr().unwrap());
    let answered = async {
        let stream = broker.accept().await.unwrap().0;
        let tune = method(b"\0\x0a\0\x1e\0\0\0\0\0\0\0\0");
        let mut stream = answer_login(stream, &tune).await;
        let mut tune_ok = [0; 20];
        stream.read_exact(&mut tune_ok).await.unwrap();
        tune_ok
    };
    let amqp = Amqp::new(url).unwrap();
    let (opened, tune_ok) = tokio::join!(amqp.open(setup(&name("s"), &[])), answered);

    assert_eq!(tune_ok[7..11], [0, 10, 0, 31]);
    assert_eq!(tune_ok[13..17], (128_u32 * 1024).to_be_bytes());
    assert_eq!(tune_ok[17..19], 10_u16.to_be_bytes());
    end(&*opened.unwrap().link).await;
}

#[tokio::test]
async fn too_few_channels_in_the_url_are_an_error_that_names_them() {
    let amqp = Amqp::new(format!("{}?channel_max=2", url())).unwrap();

    let error = amqp.open(setup(&name("s"), &[])).await.unwrap_err();
    assert_eq!(error.kind(), BrokerErrorKind::Invalid);
    assert!(error.to_string().contains("`channel_max`"), "{error}");
}

/// As for an attempt that is given up, where the other side says why and leaves the socket open.
#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_to_connect_that_is_refused_hangs_up() {
    let close = method(b"\0\x0a\0\x32\x01\x93\x02no\0\0\0\0");
    for answer in [&close[..], b"HTTP/1.1 400 Bad Request\r\n\r\n"] {
        let broker = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("amqp://{}/%2f", broker.local_addr().unwrap());
        let amqp = Amqp::new(url).unwrap();
        let refused = async {
            let stream = broker.accept().await.unwrap().0;
            answer_login(stream, answer).await
        };
        let setup = setup(&name("s"), &[]);
        let (opened, mut stream) = tokio::join!(amqp.open(setup), refused);

        let hung_up = timeout(LONG, stream.read_to_end(&mut Vec::new())).await;
        assert!(hung_up.is_ok(), "{answer:?}");
        if let Ok(opened) = opened {
            end(&*opened.link).await;
        }
    }
}

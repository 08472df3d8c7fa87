use super::*;
use crate::{publish::PublishError, rights::Denied};

#[tokio::test]
async fn a_message_is_answered_after_its_commit_and_a_pipeline_is_one_submission() {
    let fake = Fake::holding_back();
    let mut caller = Caller::logged_in(&fake, PUB).await;
    let pipeline: Vec<_> = (0..16)
        .flat_map(|_| request(&[b"SET", b"k", b"1"]))
        .collect();
    caller.send(&pipeline).await;
    caller.send("PING\r\n").await;
    eventually(|| fake.submitted().len() >= 16).await;
    let mut byte = [0; 1];
    let early = futures::poll!(Box::pin(caller.stream.read(&mut byte)));
    assert!(early.is_pending(), "an answer before the commit");
    fake.commit(3);
    caller.hears(&"+OK\r\n".repeat(3)).await;
    fake.commit(16);
    // The later request is answered after the earlier ones.
    caller.hears(&("+OK\r\n".repeat(13) + "+PONG\r\n")).await;
}

#[tokio::test]
async fn messages_keep_key_bytes_headers_and_colour() {
    let fake = Fake::new();
    let mut caller = Caller::logged_in(&fake, &format!("{PUB}&color=red")).await;
    let header = b"\x0a\x09\x0a\x01a\x12\x04blue";
    let large = [&b"\""[..], &[b'x'; 20_000], b"\""].concat();
    caller.send(request(&[b"SET", b"k1", b"{\"id\": 1}"])).await;
    caller.send(request(&[b"set", b"", b"\xff\x00\r\n"])).await;
    caller
        .send(request(&[b"HSET", b"k3", header, &large]))
        .await;
    caller.hears(&"+OK\r\n".repeat(3)).await;
    let submitted = fake.submitted();
    let [json, bytes, headed] = &submitted[..] else {
        panic!("{submitted:?}")
    };
    assert_eq!(
        (json.topic(), json.key(), json.content_type()),
        ("t", Some("k1"), "application/json")
    );
    assert_eq!(&json.payload()[..], b"{\"id\": 1}");
    assert_eq!(json.headers().get("color"), Some("red"));
    assert_eq!(
        (bytes.key(), bytes.content_type()),
        (None, "application/octet-stream")
    );
    assert_eq!(&bytes.payload()[..], b"\xff\x00\r\n");
    assert_eq!(headed.headers().get("a"), Some("blue"));
    assert_eq!(headed.headers().get("color"), Some("red"));
    assert_eq!(&headed.payload()[..], large);
}

#[tokio::test]
async fn what_cannot_be_published_is_told_and_the_connection_goes_on() {
    let fake = Fake::new();
    let mut caller = Caller::logged_in(&fake, PUB).await;
    caller.says("SET k", "-pub params error\r\n").await;
    caller.says("SET k v EX 1", "-pub params error\r\n").await;
    caller.says("HSET k v", "-pub params error\r\n").await;
    caller.send(request(&[b"SET", b"\xff", b"1"])).await;
    caller
        .hears("-ERR the key is not UTF-8; nothing was published\r\n")
        .await;
    caller
        .says(
            "HSET k hello 1",
            "-ERR the header is no protobuf map of texts; nothing was published\r\n",
        )
        .await;
    caller
        .send(request(&[b"SET", b"k", &vec![b'1'; 1_000_001]]))
        .await;
    caller
        .hears("-ERR the value has 1000001 bytes; 1000000 are allowed\r\n")
        .await;
    caller
        .send(request(&[b"SET", b"k", &vec![b'1'; 1_000_000]]))
        .await;
    caller.hears("+OK\r\n").await;
    fake.fail(PublishError::Refused("no\r\n+OK".to_owned()));
    caller.says("SET k 1", "-ERR refused: no  +OK\r\n").await;
    fake.owe(Some(Duration::from_secs(2)));
    caller
        .says(
            "SET k 1",
            "-ERR over the limit of messages per second; try again in 2s\r\n",
        )
        .await;
    assert_eq!(fake.submitted().len(), 1);
}

#[tokio::test]
async fn a_revocation_closes_the_connection_with_its_reason() {
    let fake = Fake::new();
    let mut caller = Caller::logged_in(&fake, PUB).await;
    // Rights that changed and are still there change nothing.
    fake.rights(None);
    caller.says("SET k 1", "+OK\r\n").await;
    fake.rights(Some(Denied::Topic));
    assert_eq!(
        caller.hears_to_the_end().await,
        "-ERR the rights were revoked: no right on this topic\r\n"
    );
    assert_eq!(fake.connections(), 0);
}

#[tokio::test]
async fn a_client_that_closes_its_side_still_hears_of_every_commit() {
    let fake = Fake::holding_back();
    let mut caller = Caller::logged_in(&fake, PUB).await;
    caller.send("SET k 1\r\nSET k 2\r\nSET").await;
    caller.stream.shutdown().await.unwrap();
    eventually(|| fake.submitted().len() >= 2).await;
    fake.commit(2);
    assert_eq!(caller.hears_to_the_end().await, "+OK\r\n+OK\r\n");
}

#[tokio::test]
async fn at_the_stop_what_was_submitted_is_answered_first() {
    let fake = Fake::holding_back();
    let mut caller = Caller::logged_in(&fake, PUB).await;
    caller.send("SET k 1\r\n").await;
    eventually(|| !fake.submitted().is_empty()).await;
    caller.stop.cancel();
    fake.commit(1);
    assert_eq!(
        caller.hears_to_the_end().await,
        "+OK\r\n-ERR the gateway is being stopped; connect again\r\n"
    );
}

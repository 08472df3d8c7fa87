use super::*;
use crate::rights::Denied;

fn shown(offset: i64, payload: &str) -> String {
    let record = format!(
        r#"{{"key":"","value":{payload},"topic":"t","partition":3,"offset":{offset},"timestamp":1700000000,"metadata":null}}"#
    );
    format!("${}\r\n{record}\r\n", record.len())
}

#[tokio::test]
async fn messages_come_in_lots_and_are_committed_by_their_offset() {
    let fake = Fake::new();
    let mut caller = Caller::logged_in(&fake, SUB).await;
    fake.deliver(7, "{}", "");
    fake.deliver(8, "1", "");
    caller
        .says(
            "MGET \"\"",
            &format!("*2\r\n{}{}", shown(7, "{}"), shown(8, "1")),
        )
        .await;
    let lot = fake.lots()[0];
    assert_eq!((lot.messages, lot.bytes), (100, 4 * 1024 * 1024));
    assert!(lot.wait > Duration::from_secs(29) && lot.gather == Duration::from_millis(100));
    caller.says("SET 3 8", "+OK\r\n").await;
    assert_eq!(fake.settled(), ["commit 3 8"]);
    fake.deliver(9, "1", "");
    caller
        .says(
            "mget pb",
            "*1\r\n$16\r\n\x12\x011\x1a\x01t\x20\x03\x28\x090",
        )
        .await;
}

#[tokio::test]
async fn a_commit_that_means_nothing_is_told_and_the_connection_goes_on() {
    let fake = Fake::new();
    let mut caller = Caller::logged_in(&fake, SUB).await;
    for wrong in [
        "SET",
        "SET 1",
        "SET 1 2 3",
        "SET a 1",
        "SET 1 b",
        "SET 1 9223372036854775808",
        "SET 2147483648 1",
    ] {
        caller.says(wrong, "-commit offset params error\r\n").await;
    }
    caller
        .says(
            "SET 1 -1",
            "-commit offset params error: offset -1 was not given to this connection\r\n",
        )
        .await;
    caller
        .says(
            "SET 99 1",
            "-commit offset params error: there is no partition 99\r\n",
        )
        .await;
    caller
        .says(
            "HSET a b c",
            "-ERR this connection consumes; HSET needs a login with role=pub\r\n",
        )
        .await;
    assert!(fake.settled().is_empty());
    caller.says("PING", "+PONG\r\n").await;
}

#[tokio::test(start_paused = true)]
async fn an_empty_lot_comes_after_thirty_seconds() {
    let mut caller = Caller::logged_in(&Fake::new(), SUB).await;
    let started = Instant::now();
    caller.says("MGET", "*0\r\n").await;
    assert_eq!(started.elapsed().as_secs(), 30);
}

#[tokio::test]
async fn messages_of_another_colour_are_skipped_and_never_shown() {
    let fake = Fake::new();
    let mut caller = Caller::logged_in(&fake, &format!("{SUB}&color=red")).await;
    assert_eq!(fake.held()[0].to_string(), "g~red/t");
    fake.deliver(1, "1", "");
    fake.deliver(2, "2", "blue");
    caller.send("MGET\r\n").await;
    eventually(|| fake.settled().len() >= 2).await;
    fake.deliver(3, "3", "red");
    caller.send("QUIT\r\n").await;
    let heard = caller.hears_to_the_end().await;
    assert!(
        heard.starts_with("*1\r\n") && heard.contains(r#""offset":3,"#),
        "{heard}"
    );
    assert_eq!(fake.settled(), ["skip 1", "skip 2"]);
}

#[tokio::test]
async fn a_client_that_goes_away_while_it_waits_gets_nothing_into_its_hand() {
    let fake = Fake::new();
    let mut caller = Caller::logged_in(&fake, SUB).await;
    caller.send("MGET\r\nMGET\r\n").await;
    eventually(|| !fake.lots().is_empty()).await;
    caller.stream.shutdown().await.unwrap();
    eventually(|| fake.holders() == 0).await;
    fake.deliver(1, "1", "");
    assert_eq!(fake.stock(), 1);
    assert_eq!(caller.hears_to_the_end().await, "*0\r\n*0\r\n");
}

#[tokio::test]
async fn what_was_in_hand_goes_back_when_the_connection_ends() {
    let fake = Fake::new();
    for end in ["QUIT\r\n", "*-1\r\n"] {
        let mut caller = Caller::logged_in(&fake, SUB).await;
        assert_eq!(fake.holders(), 1);
        caller.send(end).await;
        caller.hears_to_the_end().await;
        assert_eq!((fake.holders(), fake.connections()), (0, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_revocation_just_after_the_question_is_not_missed() {
    let fake = Fake::new();
    let mut caller = Caller::logged_in(&fake, SUB).await;
    fake.rights_after_next(Denied::Group);
    caller.send("MGET\r\n").await;
    assert_eq!(caller.hears_to_the_end().await, "-error group\r\n");

    let fake = Fake::new();
    let caller = Caller::logged_in(&fake, SUB).await;
    fake.rights_after_next(Denied::Group);
    fake.rights(None);
    let heard = caller.hears_to_the_end().await;
    assert!(heard.starts_with("-ERR the rights were revoked"), "{heard}");
}

#[tokio::test]
async fn a_revocation_and_a_stop_end_the_waiting() {
    for (is_stop, answer) in [
        (false, "-error group\r\n"),
        (true, "-ERR the gateway is being stopped; connect again\r\n"),
    ] {
        let fake = Fake::new();
        let mut caller = Caller::logged_in(&fake, SUB).await;
        caller.send("MGET\r\n").await;
        eventually(|| !fake.lots().is_empty()).await;
        match is_stop {
            true => caller.stop.cancel(),
            false => fake.rights(Some(Denied::Group)),
        }
        assert_eq!(caller.hears_to_the_end().await, answer);
    }
}

#[tokio::test(start_paused = true)]
async fn a_limited_app_waits_before_its_next_lot() {
    let fake = Fake::new();
    let mut caller = Caller::logged_in(&fake, SUB).await;
    fake.deliver(1, "1", "");
    fake.owe(Some(Duration::from_secs(3)));
    let started = Instant::now();
    let forgiving = fake.clone();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(2)).await;
        forgiving.owe(None);
    });
    caller
        .says("MGET", &format!("*1\r\n{}", shown(1, "1")))
        .await;
    assert_eq!(started.elapsed().as_secs(), 3);
    fake.owe(Some(Duration::from_secs(60)));
    caller.says("MGET", "*0\r\n").await;
    assert_eq!(started.elapsed().as_secs(), 33);
}

#[tokio::test]
async fn a_broker_that_is_away_is_told_and_what_is_in_hand_stays() {
    let fake = Fake::new();
    let mut caller = Caller::logged_in(&fake, SUB).await;
    fake.deliver(7, "1", "");
    caller
        .says("MGET", &format!("*1\r\n{}", shown(7, "1")))
        .await;
    fake.lose_broker(true);
    caller
        .says("MGET", "-ERR the broker is away: gone\r\n")
        .await;
    fake.lose_broker(false);
    assert_eq!(fake.holders(), 1);
    caller.says("SET 3 7", "+OK\r\n").await;
    fake.deliver(8, "1", "");
    caller
        .says("MGET", &format!("*1\r\n{}", shown(8, "1")))
        .await;
}

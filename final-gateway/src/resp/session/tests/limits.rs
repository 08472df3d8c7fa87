//! Clients that are slow, silent, or too much.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_stranger_has_five_seconds_whatever_it_says_meanwhile() {
    let mut caller = Caller::new(&Fake::new());
    let started = Instant::now();
    for _ in 0..4 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        caller.says("PING", "+PONG\r\n").await;
        caller.says("RESET", "+RESET\r\n").await;
    }
    caller.send("*2\r\n$4\r\nAU").await;
    assert_eq!(caller.hears_to_the_end().await, "");
    assert_eq!(started.elapsed().as_secs(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_silent_for_too_long_is_closed() {
    for (login, seconds) in [(PUB, 20 * 60), (SUB, 40)] {
        let caller = Caller::logged_in(&Fake::new(), login).await;
        let started = Instant::now();
        let limit = Duration::from_secs(seconds + 60);
        assert_eq!(caller.ends_within(limit).await, "");
        assert_eq!(started.elapsed().as_secs(), seconds);
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_trickles_in_is_given_up() {
    let mut caller = Caller::logged_in(&Fake::new(), PUB).await;
    let started = Instant::now();
    for byte in request(&[b"SET", b"k", &[b'1'; 200]]) {
        if caller.stream.write_all(&[byte]).await.is_err() {
            break;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert!(started.elapsed().as_secs() < 40, "{:?}", started.elapsed());
    assert_eq!(caller.hears_to_the_end().await, "");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_never_reads_is_closed_and_not_read_from() {
    let fake = Fake::new();
    let mut caller = Caller::limited(&fake, SessionLimits::default(), 4096);
    caller.says(PUB, "+OK\r\n").await;
    let set = request(&[b"SET", b"k", b"1"]);
    let mut sent = 0_usize;
    while caller.stream.write_all(&set).await.is_ok() {
        sent += 1;
        assert!(sent < 100_000, "nothing stops it");
    }
    // The answers in the pipe, those of one block, and those in the queue.
    let submitted = fake.submitted().len();
    assert!(submitted < 10_000, "{submitted} messages were taken");
    caller.session.await.unwrap();
    assert_eq!(fake.connections(), 0);
}

#[tokio::test]
async fn a_client_that_does_not_read_gets_one_lot_and_no_second() {
    let fake = Fake::new();
    let mut caller = Caller::limited(&fake, SessionLimits::default(), 64);
    caller.says(SUB, "+OK\r\n").await;
    for offset in 0..300 {
        fake.deliver(offset, "1", "");
    }
    caller.send("MGET\r\nMGET\r\nMGET\r\n").await;
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    assert_eq!(fake.stock(), 200);
}

#[tokio::test]
async fn large_echoes_do_not_pile_up() {
    let mut caller = Caller::limited(&Fake::new(), SessionLimits::default(), 64 * 1024);
    caller.says(PUB, "+OK\r\n").await;
    let ping = request(&[b"PING", &vec![b'x'; 900_000]]);
    let written = async {
        for _ in 0..20 {
            caller.send(&ping).await;
        }
    };
    let written = tokio::time::timeout(Duration::from_secs(2), written).await;
    assert!(
        written.is_err(),
        "18 MB of answers wait for a client that does not read"
    );
}

#[tokio::test(start_paused = true)]
async fn requests_that_have_not_come_in_full_have_a_bound_of_memory_together() {
    // The app has half of it.
    const ROOM: usize = 420 * 1024;
    let (fake, room) = (Fake::new(), Budget::new(ROOM));
    let new = || {
        let limits = SessionLimits::default();
        Caller::beside_others(&fake, limits, room.clone(), 64 * 1024)
    };
    let set = request(&[b"SET", b"k", &vec![b'1'; 190 * 1024]]);
    let (most, rest) = set.split_at(set.len() - 1);
    let mut first = new();
    first.says(PUB, "+OK\r\n").await;
    first.send(most).await;
    eventually(|| room.left() < ROOM * 3 / 4).await;

    let mut second = new();
    second.says(PUB, "+OK\r\n").await;
    second.says("SET k 1", "+OK\r\n").await;
    let _ = second.stream.write_all(most).await;
    let answer = "-ERR busy: too many requests are in memory at once; connect again later\r\n";
    assert_eq!(second.hears_to_the_end().await, answer);

    // Small requests, and the one that was there first, are not concerned.
    let mut third = new();
    third.says(PUB, "+OK\r\n").await;
    third.says("SET k 1", "+OK\r\n").await;
    first.send(rest).await;
    first.hears("+OK\r\n").await;
    first.send("QUIT\r\n").await;
    first.hears_to_the_end().await;
    assert_eq!(room.left(), ROOM);
    third.send(&set).await;
    third.hears("+OK\r\n").await;
    assert_eq!(fake.submitted().len(), 4);
    // A connection that is idle gives back what it had.
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(room.left(), ROOM);
}

#[tokio::test]
async fn an_app_that_takes_all_the_memory_it_can_leaves_enough_to_another_app() {
    let (fake, room) = (Fake::new(), Budget::new(1024 * 1024));
    let new = || {
        let limits = SessionLimits::default();
        Caller::beside_others(&fake, limits, room.clone(), 64 * 1024)
    };
    let set = request(&[b"SET", b"k", &vec![b'1'; 190 * 1024]]);
    let (most, rest) = set.split_at(set.len() - 1);
    let mut greedy = Vec::new();
    for _ in 0..9 {
        let mut caller = new();
        caller.says(PUB, "+OK\r\n").await;
        let _ = caller.stream.write_all(most).await;
        greedy.push(caller);
    }
    // Each wants 192 KiB at least, and the app has 512 KiB.
    let refused = || greedy.iter().filter(|caller| caller.session.is_finished());
    eventually(|| {
        assert!(room.left() >= 512 * 1024);
        refused().count() >= 6
    })
    .await;

    let mut other = new();
    other
        .says("AUTH other:s@g/topic=t&role=pub", "+OK\r\n")
        .await;
    other.send(most).await;
    other.send(rest).await;
    other.hears("+OK\r\n").await;
}

#[tokio::test]
async fn a_client_that_has_not_logged_in_takes_nothing_of_the_memory_of_apps() {
    const ROOM: usize = 1024 * 1024;
    let (fake, room) = (Fake::new(), Budget::new(ROOM));
    fake.get_stuck();
    let limits = SessionLimits::default();
    let mut caller = Caller::beside_others(&fake, limits, room.clone(), 1024 * 1024);
    // Its login hangs, and what it sends meanwhile is read ahead.
    caller.send(format!("{SUB}\r\n")).await;
    caller.send(vec![b'x'; 900 * 1024]).await;
    eventually(|| fake.connections() == 1).await;
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    assert_eq!(room.left(), ROOM);
}

#[tokio::test]
async fn a_pipeline_of_small_requests_needs_none_of_the_shared_memory() {
    let (fake, room) = (Fake::new(), Budget::new(0));
    let limits = SessionLimits::default();
    let mut caller = Caller::beside_others(&fake, limits, room, 1024 * 1024);
    caller.says(PUB, "+OK\r\n").await;
    let set = request(&[b"SET", b"k", b"12345"]);
    caller.send(set.repeat(10_000)).await;
    caller.hears(&"+OK\r\n".repeat(10_000)).await;
    let set = request(&[b"SET", b"k", &vec![b'1'; 60 * 1024]]);
    caller.send(set.repeat(10)).await;
    caller.hears(&"+OK\r\n".repeat(10)).await;
}

#[test]
fn the_task_of_a_connection_is_small() {
    let (stream, _other) = duplex(1);
    let peer = "192.0.2.1:5000".parse().unwrap();
    let fake = Fake::new();
    let task = serve(
        stream,
        peer,
        fake,
        SessionLimits::default(),
        SessionLimits::default().input_room(),
        CancellationToken::new(),
    );
    let bytes = size_of_val(&task);
    assert!(bytes < 8 * 1024, "{bytes} bytes");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_goes_away_during_a_login_that_hangs_leaves_nothing_behind() {
    let fake = Fake::new();
    fake.get_stuck();
    let mut caller = Caller::new(&fake);
    caller.send(format!("{SUB}\r\n")).await;
    eventually(|| fake.connections() == 1).await;
    drop(caller.stream);
    within(SOON, caller.session).await.unwrap();
    assert_eq!(fake.connections(), 0);
}

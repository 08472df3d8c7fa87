//! Servers that answer too late, too much, or nothing that makes sense.

use super::{server::*, *};

/// Long enough to get as far as the test is about, and soon over.
const SHORT: Duration = Duration::from_millis(1500);

async fn outcome(server: &Server, timeout: Duration) -> CallOutcome {
    let caller = caller().build().unwrap();
    let outcome = caller
        .call(&local(&server.url()).timeout(timeout), &call("k"))
        .await;
    assert_eq!(
        caller.stats().connections,
        0,
        "a connection is kept after {outcome:?}"
    );
    outcome
}

async fn writing(answer: &'static [u8]) -> Server {
    Server::start(move |mut visit| async move {
        visit.request().await;
        visit.write(answer).await;
    })
    .await
}

#[tokio::test]
async fn an_answer_that_never_comes_ends_with_the_time_limit() {
    let server = Server::silent().await;
    let why = why(outcome(&server, SHORT).await);

    assert_eq!(
        why,
        NotDone::Late {
            limit: SHORT,
            step: crate::Step::Waiting
        }
    );
    until(|| server.open() == 0).await;
}

#[tokio::test]
async fn an_answer_that_comes_late_is_no_answer() {
    let server = Server::start(|mut visit| async move {
        visit.request().await;
        visit.closed().await;
        visit.write(OK).await;
    })
    .await;

    assert!(matches!(
        why(outcome(&server, SHORT).await),
        NotDone::Late { .. }
    ));
}

#[tokio::test]
async fn a_connection_that_is_closed_without_an_answer_is_told() {
    let server = writing(b"").await;

    assert!(matches!(
        why(outcome(&server, PATIENT).await),
        NotDone::Broken { .. }
    ));
    assert_eq!(
        server.requests().len(),
        1,
        "only a used connection is replaced"
    );
}

#[tokio::test]
async fn an_answer_that_ends_in_the_middle_does_not_mean_done() {
    let cut: [&[u8]; 4] = [
        b"HTTP/1.1 200 O",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
    ];
    for answer in cut {
        let why = why(outcome(&writing(answer).await, PATIENT).await);
        assert!(matches!(why, NotDone::Broken { .. }), "{why:?}");
    }
    let server = writing(b"HTTP/1.1 410 Gone\r\nContent-Length: 5\r\n\r\nabc").await;
    let why = why(outcome(&server, PATIENT).await);
    assert_eq!(
        why,
        NotDone::Status {
            status: 410,
            said: "abc".to_owned()
        }
    );
}

#[tokio::test]
async fn what_is_no_http_is_told() {
    let nonsense: [&[u8]; 6] = [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
        b"HTTP/1.1 999999 Odd\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n",
    ];
    for answer in nonsense {
        let why = why(outcome(&writing(answer).await, PATIENT).await);
        assert!(matches!(why, NotDone::Broken { .. }), "{answer:?}: {why:?}");
    }
}

#[tokio::test]
async fn a_change_of_protocol_is_no_answer() {
    let server =
        writing(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n")
            .await;
    let why = why(outcome(&server, SHORT).await);
    assert!(
        matches!(
            why,
            NotDone::Status { status: 101, .. } | NotDone::Broken { .. }
        ),
        "{why:?}"
    );
}

/// Writes the same again and again, until the client has closed the connection, and says how much that was.
async fn flood(head: &'static str, again: Vec<u8>) -> (Server, Arc<Mutex<usize>>) {
    let written = Arc::new(Mutex::new(0));
    let counted = written.clone();
    let server = Server::start(move |mut visit| {
        let (again, counted) = (again.clone(), counted.clone());
        async move {
            visit.request().await;
            visit.write(head).await;
            while visit.write(&again).await {
                *counted.lock().unwrap() += again.len();
            }
        }
    })
    .await;
    (server, written)
}

/// More than what the buffers of both sockets hold.
const MUCH: usize = 64 << 20;

#[tokio::test]
async fn a_head_without_an_end_is_refused() {
    let (server, written) = flood("HTTP/1.1 200 OK\r\nX: ", vec![b'x'; 1 << 16]).await;
    let why = why(outcome(&server, PATIENT).await);

    assert!(why.to_string().contains("too large"), "{why}");
    until(|| server.open() == 0).await;
    assert!(*written.lock().unwrap() < MUCH);
}

#[tokio::test]
async fn more_headers_than_make_sense_are_refused() {
    let answer = |count: usize| {
        let headers = "x: y\r\n".repeat(count - 1);
        format!("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n{headers}\r\n").leak()
    };
    let server = writing(answer(100).as_bytes()).await;
    assert_eq!(outcome(&server, PATIENT).await, CallOutcome::Done(200));

    let server = writing(answer(101).as_bytes()).await;
    let why = why(outcome(&server, PATIENT).await);
    assert!(why.to_string().contains("too large"), "{why}");
}

#[tokio::test]
async fn provisional_answers_without_an_end_are_no_answer() {
    let (server, _) = flood("", b"HTTP/1.1 100 Continue\r\n\r\n".repeat(100)).await;

    assert!(matches!(
        why(outcome(&server, SHORT).await),
        NotDone::Late { .. }
    ));
    until(|| server.open() == 0).await;
}

#[tokio::test]
async fn a_body_without_an_end_is_read_up_to_its_limit() {
    let chunk = format!("10000\r\n{}\r\n", "x".repeat(1 << 16));
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let (server, written) = flood(head, chunk.clone().into_bytes()).await;

    assert_eq!(outcome(&server, PATIENT).await, CallOutcome::Done(200));
    until(|| server.open() == 0).await;
    assert!(*written.lock().unwrap() < MUCH);

    let head = "HTTP/1.1 500 Oops\r\nTransfer-Encoding: chunked\r\n\r\n";
    let (server, written) = flood(head, chunk.into_bytes()).await;
    let why = why(outcome(&server, PATIENT).await);
    assert!(why.to_string().len() < 1200, "{why}");
    until(|| server.open() == 0).await;
    assert!(*written.lock().unwrap() < MUCH);
}

#[tokio::test]
async fn a_body_that_drips_ends_with_the_time_limit() {
    async fn dripping(head: &'static str) -> Server {
        Server::start(move |mut visit| async move {
            visit.request().await;
            visit.write(head).await;
            while visit.write("x").await {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await
    }
    let server = dripping("HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n").await;
    let done = why(outcome(&server, SHORT).await);
    assert_eq!(
        done,
        NotDone::Late {
            limit: SHORT,
            step: crate::Step::Reading
        }
    );
    until(|| server.open() == 0).await;

    let server = dripping("HTTP/1.1 500 Oops\r\nContent-Length: 60000\r\n\r\n").await;
    let oops = why(outcome(&server, SHORT).await);
    assert!(
        matches!(&oops, NotDone::Status { status: 500, said } if said.starts_with('x')),
        "{oops:?}"
    );

    let server = dripping("HTTP/1.1 200 OK\r\nX: ").await;
    assert!(matches!(
        why(outcome(&server, SHORT).await),
        NotDone::Late { .. }
    ));
}

#[tokio::test]
async fn a_compressed_answer_stays_as_it_is() {
    // A gzip of many zeros: a thousand times longer when it is unpacked.
    let packed = [
        0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 2, 3, 0x63, 0x60, 0x18, 5, 0xa3, 0x60,
    ];
    let mut answer =
        b"HTTP/1.1 500 Oops\r\nContent-Encoding: gzip\r\nContent-Length: 16\r\n\r\n".to_vec();
    answer.extend_from_slice(&packed);
    let server = Server::answering(answer).await;
    let caller = caller().build().unwrap();

    let why = why(caller.call(&local(&server.url()), &call("k")).await);
    assert!(
        matches!(&why, NotDone::Status { status: 500, said } if said.contains("c`")),
        "{why:?}"
    );
    assert_eq!(
        server.requests()[0].header("accept-encoding"),
        Some("identity")
    );
}

#[tokio::test]
async fn an_endpoint_that_does_not_read_ends_with_the_time_limit() {
    let server = Server::start(|visit| async move {
        let _held = visit;
        std::future::pending::<()>().await;
    })
    .await;
    let caller = caller().build().unwrap();
    let large = Call::new(vec![0; MUCH], "application/octet-stream", "k").unwrap();

    let outcome = caller
        .call(&local(&server.url()).timeout(SHORT), &large)
        .await;
    assert_eq!(
        why(outcome),
        NotDone::Late {
            limit: SHORT,
            step: crate::Step::Waiting
        }
    );
}

#[tokio::test]
async fn an_answer_before_the_whole_request_was_read_counts() {
    let server = Server::start(|mut visit| async move {
        let mut some = [0; 1024];
        let _ = tokio::io::AsyncReadExt::read(&mut visit.stream, &mut some).await;
        visit
            .write("HTTP/1.1 413 Large\r\nContent-Length: 5\r\nConnection: close\r\n\r\nlarge")
            .await;
        visit.closed().await;
    })
    .await;
    let caller = caller().build().unwrap();
    let large = Call::new(vec![0; MUCH], "application/octet-stream", "k").unwrap();

    let outcome = caller.call(&local(&server.url()), &large).await;
    assert_eq!(
        why(outcome),
        NotDone::Status {
            status: 413,
            said: "large".to_owned()
        }
    );
}

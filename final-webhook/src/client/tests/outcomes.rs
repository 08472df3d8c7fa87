//! What an answer means.

use super::{server::*, *};

async fn outcome(answer: &str) -> CallOutcome {
    let server = Server::answering(answer.to_owned()).await;
    let caller = caller().build().unwrap();
    caller.call(&local(&server.url()), &call("k")).await
}

fn status(line: &str) -> String {
    format!("HTTP/1.1 {line}\r\nContent-Length: 0\r\n\r\n")
}

#[tokio::test]
async fn a_call_is_a_post_with_its_body_and_its_key() {
    let server = Server::answering(OK).await;
    let endpoint = local(&format!("http://user:pw@{}/a%20b?c=d#e", server.address));
    let endpoint = endpoint
        .header("X-Tenant", "7")
        .unwrap()
        .header("X-Of", "endpoint")
        .unwrap();
    let call = call("order-7").header("x-of", "call").unwrap();

    let outcome = caller().build().unwrap().call(&endpoint, &call).await;

    assert_eq!(outcome, CallOutcome::Done(200));
    let [request] = &server.requests()[..] else {
        panic!()
    };
    assert!(
        request.head.starts_with("POST /a%20b?c=d HTTP/1.1\r\n"),
        "{}",
        request.head
    );
    assert_eq!(request.body, br#"{"order":7}"#);
    for (name, value) in [
        ("host", server.address.to_string().as_str()),
        ("content-type", "application/json"),
        ("content-length", "11"),
        ("idempotency-key", "order-7"),
        ("accept-encoding", "identity"),
        ("authorization", "Basic dXNlcjpwdw=="),
        ("x-tenant", "7"),
        ("x-of", "call"),
    ] {
        assert_eq!(request.header(name), Some(value), "{name}");
    }
    assert!(
        request
            .header("user-agent")
            .unwrap()
            .starts_with("final-webhook/")
    );
    assert_eq!(request.header("x-final-signature"), None);
}

#[tokio::test]
async fn every_status_from_200_to_299_is_done() {
    for line in [
        "200 OK",
        "201 Created",
        "202 Accepted",
        "204 No Content",
        "299 Odd",
    ] {
        let done = line[..3].parse().unwrap();
        assert_eq!(outcome(&status(line)).await, CallOutcome::Done(done));
    }
}

#[tokio::test]
async fn only_200_is_done_for_an_endpoint_that_says_so() {
    let server = Server::answering(status("204 No Content")).await;
    let endpoint = local(&server.url()).exactly_200(true);

    let outcome = caller().build().unwrap().call(&endpoint, &call("k")).await;
    assert_eq!(
        why(outcome),
        NotDone::Status {
            status: 204,
            said: String::new()
        }
    );
    let server = Server::answering(OK).await;
    let endpoint = local(&server.url()).exactly_200(true);
    let outcome = caller().build().unwrap().call(&endpoint, &call("k")).await;
    assert_eq!(outcome, CallOutcome::Done(200));
}

#[tokio::test]
async fn gone_is_gone() {
    assert_eq!(outcome(&status("410 Gone")).await, CallOutcome::Gone);
}

#[tokio::test]
async fn an_error_says_what_the_endpoint_says() {
    for line in [
        "400 Bad",
        "401 No",
        "404 None",
        "409 Conflict",
        "500 Oops",
        "502 Bad",
        "599 Odd",
    ] {
        let code: u16 = line[..3].parse().unwrap();
        let answer = format!("HTTP/1.1 {line}\r\nContent-Length: 9\r\n\r\nno\r\nsuch\0");
        let why = why(outcome(&answer).await);
        assert_eq!(
            why,
            NotDone::Status {
                status: code,
                said: "no such".to_owned()
            }
        );
        assert_eq!(
            why.to_string(),
            format!("the endpoint answered {code}: no such")
        );
    }
}

#[tokio::test]
async fn a_wish_to_be_left_alone_is_told_and_bounded() {
    let answer = |status: &str, wish: &str| {
        format!(
            "HTTP/1.1 {status}\r\nRetry-After: {wish}\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
             Content-Length: 0\r\n\r\n"
        )
    };
    for (status, wish, seconds) in [
        ("429 Slow", "7", Some(7)),
        ("503 Later", "Sun, 06 Nov 1994 08:50:37 GMT", Some(60)),
        ("429 Slow", "Sun, 06 Nov 1994 08:00:00 GMT", Some(0)),
        ("429 Slow", "-7", None),
        ("429 Slow", "99999999999999999999", Some(3600)),
        ("503 Later", "Fri, 31 Dec 9999 23:59:59 GMT", Some(3600)),
        ("500 Oops", "7", None),
        ("200 OK", "7", None),
    ] {
        let after = match outcome(&answer(status, wish)).await {
            CallOutcome::Retry { after, .. } => after,
            _ => None,
        };
        assert_eq!(after, seconds.map(Duration::from_secs), "{status} {wish}");
    }
}

#[tokio::test]
async fn a_redirect_is_told_and_not_followed() {
    let private = Server::answering(OK).await;
    for status in [
        "301 Moved",
        "302 Found",
        "303 Other",
        "307 Here",
        "308 There",
    ] {
        let answer = format!(
            "HTTP/1.1 {status}\r\nLocation: {}?secret\r\nContent-Length: 0\r\n\r\n",
            private.url()
        );
        let why = why(outcome(&answer).await);
        let to = format!("http://{}", private.address);
        assert_eq!(
            why,
            NotDone::Redirect {
                status: status[..3].parse().unwrap(),
                to
            }
        );
    }
    assert_eq!(private.connections(), 0);
}

#[tokio::test]
async fn a_redirect_to_itself_is_asked_once() {
    let server =
        Server::answering("HTTP/1.1 302 Found\r\nLocation: /hook\r\nContent-Length: 0\r\n\r\n")
            .await;
    let outcome = caller()
        .build()
        .unwrap()
        .call(&local(&server.url()), &call("k"))
        .await;

    assert!(matches!(
        why(outcome),
        NotDone::Redirect { status: 302, .. }
    ));
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn an_error_page_that_repeats_the_request_tells_no_secret() {
    let server = Server::start(|mut visit| async move {
        let request = visit.request().await.unwrap();
        let body = format!("{}\r\n\r\n", request.head);
        let head = format!(
            "HTTP/1.1 500 Oops\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        visit.write(head + &body).await;
    })
    .await;
    let url = format!(
        "http://user:hidden-1@{}/abcdefghijklmnopqrstuvwhidden-2?key=hidden-3",
        server.address
    );
    let endpoint = local(&url).header("X-Token", "Bearer hidden-4").unwrap();
    let call = call("k").header("X-Other", "hidden-5").unwrap();

    let outcome = caller().build().unwrap().call(&endpoint, &call).await;

    let why = why(outcome).to_string();
    assert!(
        why.contains("POST /") && why.contains("x-token: ***"),
        "{why}"
    );
    assert!(!why.contains("hidden") && !why.contains("dXNlcjp"), "{why}");
}

#[tokio::test]
async fn a_refused_connection_names_the_address() {
    let server = Server::answering(OK).await;
    let (url, address) = (server.url(), server.address);
    drop(server);
    let caller = caller().build().unwrap();
    until(|| std::net::TcpStream::connect(address).is_err()).await;

    let why = why(caller.call(&local(&url), &call("k")).await);
    assert!(
        matches!(&why, NotDone::Unreachable { address: tried, .. } if *tried == address),
        "{why}"
    );
}

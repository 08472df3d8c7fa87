//! Which addresses are connected to.

use std::{collections::VecDeque, io, net::IpAddr};

use futures::future::BoxFuture;

use super::{server::*, *};
use crate::{AddressKind, Resolver};

/// Gives the answers in turn, and the last one again and again.
#[derive(Debug)]
pub(super) struct Script {
    answers: Mutex<VecDeque<Vec<IpAddr>>>,
    asked: Mutex<Vec<String>>,
}

impl Script {
    pub(super) fn new(answers: &[&[&str]]) -> Arc<Self> {
        let read = |answer: &&[&str]| answer.iter().map(|text| text.parse().unwrap()).collect();
        Arc::new(Self {
            answers: Mutex::new(answers.iter().map(read).collect()),
            asked: Mutex::default(),
        })
    }

    fn asked(&self) -> usize {
        self.asked.lock().unwrap().len()
    }
}

impl Resolver for Script {
    fn resolve<'a>(&'a self, host: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
        self.asked.lock().unwrap().push(host.to_owned());
        let mut answers = self.answers.lock().unwrap();
        let answer = if answers.len() > 1 {
            answers.pop_front()
        } else {
            answers.front().cloned()
        };
        Box::pin(async move { answer.ok_or_else(|| io::Error::other("no such name")) })
    }
}

/// A public endpoint at the port of the server.
fn public(host: &str, server: &Server) -> Endpoint {
    Endpoint::new(&format!("http://{host}:{}/", server.address.port()))
        .unwrap()
        .timeout(PATIENT)
}

#[tokio::test]
async fn a_private_address_is_refused_however_it_is_written() {
    let server = Server::answering(OK).await;
    let caller = caller().build().unwrap();
    for host in [
        "127.0.0.1",
        "2130706433",
        "0x7f.1",
        "0177.0.0.1",
        "127.1",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::1]",
        "[64:ff9b::7f00:1]",
        "[::127.0.0.1]",
        "0.0.0.0",
        "0",
        "localhost",
        "169.254.169.254",
    ] {
        let outcome = caller.call(&public(host, &server), &call("k")).await;
        assert!(matches!(why(outcome), NotDone::Forbidden { .. }), "{host}");
    }
    assert_eq!(server.connections(), 0);
}

#[tokio::test]
async fn a_name_that_leads_to_this_machine_is_refused() {
    let server = Server::answering(OK).await;
    let script = Script::new(&[&["127.0.0.1"]]);
    let caller = caller().resolver(script).build().unwrap();

    let outcome = caller
        .call(&public("shop.example", &server), &call("k"))
        .await;

    let address = "127.0.0.1".parse().unwrap();
    let refused = why(outcome);
    let kind = AddressKind::Loopback;
    assert_eq!(
        refused,
        NotDone::Forbidden {
            host: "shop.example".to_owned(),
            address,
            kind
        }
    );
    assert!(
        refused
            .to_string()
            .contains("127.0.0.1, a loopback address"),
        "{refused}"
    );
    assert_eq!(server.connections(), 0);
}

#[tokio::test]
async fn the_address_that_was_checked_is_the_one_that_is_called() {
    let allowed = Server::at("127.0.0.2", |mut visit| async move {
        while visit.request().await.is_some() {
            visit
                .write("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                .await;
        }
    })
    .await;
    // The name server gives another answer to whoever asks twice.
    let script = Script::new(&[&["127.0.0.2"], &["127.0.0.1"]]);
    let caller = caller().resolver(script.clone()).build().unwrap();
    let endpoint = public("shop.example", &allowed).allow_network("127.0.0.2".parse().unwrap());

    assert_eq!(
        caller.call(&endpoint, &call("1")).await,
        CallOutcome::Done(200)
    );
    assert_eq!((script.asked(), allowed.requests().len()), (1, 1));
    assert_eq!(
        allowed.requests()[0].header("host").unwrap(),
        format!("shop.example:{}", allowed.address.port())
    );

    let second = caller.call(&endpoint, &call("2")).await;
    assert!(matches!(why(second), NotDone::Forbidden { .. }));
    assert_eq!(script.asked(), 2);
}

#[tokio::test]
async fn of_several_addresses_only_those_that_may_be_called_are() {
    let allowed = Server::at("127.0.0.2", |mut visit| async move {
        visit.request().await;
        visit.write(OK).await;
    })
    .await;
    let port = allowed.address.port();
    let private = tokio::net::TcpListener::bind(("127.0.0.3", port))
        .await
        .unwrap();
    let script = Script::new(&[&["127.0.0.3", "::1", "127.0.0.2"]]);
    let caller = caller().resolver(script).build().unwrap();
    let endpoint = public("shop.example", &allowed).allow_network("127.0.0.2".parse().unwrap());

    assert_eq!(
        caller.call(&endpoint, &call("k")).await,
        CallOutcome::Done(200)
    );
    let nobody = tokio::time::timeout(Duration::from_millis(50), private.accept()).await;
    assert!(nobody.is_err());
}

#[tokio::test]
async fn an_address_where_nobody_listens_does_not_hide_the_next_one() {
    let server = Server::answering(OK).await;
    let script = Script::new(&[&["127.0.0.9", "127.0.0.1"]]);
    let caller = caller().resolver(script).build().unwrap();
    let endpoint = public("shop.example", &server).allow_private(true);

    assert_eq!(
        caller.call(&endpoint, &call("k")).await,
        CallOutcome::Done(200)
    );
}

#[tokio::test]
async fn an_open_connection_is_not_lent_to_an_endpoint_that_may_not_make_it() {
    let server = Server::answering(OK).await;
    let caller = caller()
        .resolver(Script::new(&[&["127.0.0.1"]]))
        .build()
        .unwrap();
    let strict = public("shop.example", &server);
    let open = strict.clone().allow_private(true);

    assert_eq!(caller.call(&open, &call("1")).await, CallOutcome::Done(200));
    assert_eq!(caller.stats().connections, 1);
    assert!(matches!(
        why(caller.call(&strict, &call("2")).await),
        NotDone::Forbidden { .. }
    ));
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn a_name_without_an_address_is_told() {
    let server = Server::answering(OK).await;
    for answers in [&[][..], &[&[][..]]] {
        let caller = caller().resolver(Script::new(answers)).build().unwrap();
        let why = why(caller
            .call(&public("shop.example", &server), &call("k"))
            .await);
        assert!(
            matches!(&why, NotDone::Unresolved { host, .. } if host == "shop.example"),
            "{why}"
        );
    }
}

#[tokio::test]
async fn the_system_finds_this_machine_by_its_name() {
    let server = Server::answering(OK).await;
    let caller = caller().build().unwrap();
    let endpoint = public("localhost", &server).allow_private(true);

    assert_eq!(
        caller.call(&endpoint, &call("k")).await,
        CallOutcome::Done(200)
    );
}

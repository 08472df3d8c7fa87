//! The gateway as a whole: its start, its condition and its end.

use final_gateway::{
    Gateway, GatewayError, Listen, Running,
    rights::{Grants, Rights},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::{engine::Stand, place::Database};

crate::on_each_engine!(
    a_gateway_tells_where_it_listens_and_how_it_is_until_its_end,
    nodes_that_start_at_once_make_the_tables_once,
    a_gateway_starts_again_where_another_has_ended,
);

crate::everywhere!(what_cannot_start_says_why);

fn all() -> Rights {
    Rights::from_fn(|_, _| Ok(Grants::all()))
}

/// Asks by HTTP/1.1. The whole answer.
async fn get(address: std::net::SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.expect("connected");
    let request = format!("GET {path} HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("written");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    answer
}

async fn start<DB: Database>(stand: &Stand<DB>) -> Running {
    let gateway = stand
        .gateway()
        .rights(all())
        .http(Listen::at("127.0.0.1:0"));
    gateway.start().await.expect("start")
}

async fn a_gateway_tells_where_it_listens_and_how_it_is_until_its_end<DB: Database>(
    stand: Stand<DB>,
) {
    let running = start(&stand).await;
    let http = running.addresses().http.expect("an address");
    assert!(get(http, "/livez").await.starts_with("HTTP/1.1 200"));
    let ready = get(http, "/readyz").await;
    assert!(ready.starts_with("HTTP/1.1 200"), "{ready}");
    assert!(running.health().await.is_ready());
    let metrics = get(http, "/metrics").await;
    assert!(
        metrics.contains("final_gateway_messages_total{answer=\"committed\"} 0"),
        "{metrics}"
    );
    assert!(
        running
            .metrics()
            .await
            .contains("# TYPE final_gateway_open_groups gauge")
    );

    running.shutdown().await;
    assert!(TcpStream::connect(http).await.is_err());
}

async fn nodes_that_start_at_once_make_the_tables_once<DB: Database>(stand: Stand<DB>) {
    let nodes = futures::future::join_all([start(&stand), start(&stand), start(&stand)]).await;
    for node in &nodes {
        assert!(node.health().await.is_ready());
    }
    futures::future::join_all(nodes.into_iter().map(Running::shutdown)).await;
}

async fn a_gateway_starts_again_where_another_has_ended<DB: Database>(stand: Stand<DB>) {
    for _ in 0..2 {
        let running = start(&stand).await;
        assert!(running.health().await.is_live());
        running.shutdown().await;
    }
    // And where one was only dropped, as with a process that was killed.
    drop(start(&stand).await);
    start(&stand).await.shutdown().await;
}

async fn what_cannot_start_says_why<DB: Database>(place: crate::place::Place<DB>) {
    let stand = Stand::on(place);
    for name in ["", "Edge", "1edge", "e/dge", &"e".repeat(41)] {
        let error = Gateway::new(name, stand.engine())
            .start()
            .await
            .expect_err("no name");
        assert!(matches!(error, GatewayError::Name { .. }), "{error}");
    }
    let taken = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let gateway = stand.gateway().rights(all()).http(Listen::at(&*address));
    let error = gateway
        .start()
        .await
        .expect_err("the address is taken")
        .to_string();
    assert!(
        error.contains(&address) && error.contains("another"),
        "{error}"
    );
}

//! An engine for one test: the log of a database, or RabbitMQ behind an outbox.

use std::{sync::Arc, time::Duration};

use final_amqp::Amqp;
use final_core::{
    SqlBroker,
    broker::{Broker, Delivery, Link, LinkState, Setup},
};
use final_gateway::{Engine, Gateway};
use final_tests::Vhost;
use tokio::{sync::mpsc, time::timeout};

use crate::place::{Database, Place};

/// A limit of waiting. Only what is broken takes this long, also on a machine with other work.
pub const SOON: Duration = Duration::from_secs(120);

/// What a gateway of a test stands on.
pub struct Stand<DB: Database> {
    pub place: Place<DB>,
    /// RabbitMQ's virtual host, if it is the broker.
    vhost: Option<Vhost>,
}

impl<DB: Database> Stand<DB> {
    pub async fn log() -> Self {
        Self::on(Place::fresh().await)
    }

    /// The log of a database.
    pub fn on(place: Place<DB>) -> Self {
        Self { place, vhost: None }
    }

    pub async fn rabbitmq() -> Self {
        Self {
            place: Place::fresh().await,
            vhost: Some(final_tests::amqp_vhost().await.expect("RabbitMQ")),
        }
    }

    pub fn is_log(&self) -> bool {
        self.vhost.is_none()
    }

    pub fn engine(&self) -> Engine {
        let pool = self.place.pool.clone();
        match &self.vhost {
            None => Engine::log(pool.clone(), self.sql_broker()),
            Some(vhost) => Engine::broker(pool, Amqp::new(vhost.url()).expect("a URL")),
        }
    }

    pub fn gateway(&self) -> Gateway {
        Gateway::new("edge", self.engine())
    }

    /// The log, looking for messages often.
    pub fn sql_broker(&self) -> SqlBroker<DB> {
        SqlBroker::new(self.place.pool.clone()).poll_interval(Duration::from_millis(200))
    }

    /// The broker itself, beside the gateway.
    pub fn broker(&self) -> Arc<dyn Broker> {
        match &self.vhost {
            None => Arc::new(self.sql_broker()),
            Some(vhost) => Arc::new(Amqp::new(vhost.url()).expect("a URL")),
        }
    }

    /// Consumes a topic as a service of its own, from now on.
    pub async fn consumer(&self, service: &str, topic: &str) -> Consumer {
        let broker = self.broker();
        broker.migrate().await.expect("tables");
        let opened = broker
            .open(Setup::new(service, [topic]))
            .await
            .expect("open");
        let mut states = opened.link.state();
        let ready = states.wait_for(|state| *state == LinkState::Ready);
        timeout(SOON, ready).await.expect("in time").expect("ready");
        Consumer {
            link: opened.link,
            deliveries: opened.deliveries,
        }
    }
}

/// A service that takes deliveries one after the other.
pub struct Consumer {
    link: Arc<dyn Link>,
    deliveries: mpsc::Receiver<Delivery>,
}

impl Consumer {
    pub async fn next(&mut self) -> Delivery {
        let next = timeout(SOON, self.deliveries.recv()).await;
        next.expect("a delivery in time").expect("the link is open")
    }

    pub async fn close(self) {
        self.link.stop_consuming(SOON).await;
        self.link.finish_consuming(SOON).await;
        self.link.close(SOON).await;
    }
}

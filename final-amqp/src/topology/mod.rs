//! Declares the exchanges, queues and bindings that must exist before messages flow.
//!
//! Input: the service's queue and topics, and what may be declared. State: what RabbitMQ refuses. Output:
//! nothing, or the error that says what is in the way.
//!
//! ```text
//! Topology ─ list of Wanted ─▶ Declaring ─ requests ─▶ Pipeline ─▶ RabbitMQ
//!                                 └─ Refused (asked again after a pause)
//! ```

mod declaring;
mod existing;
mod explain;
mod pipeline;
mod purge;
mod refused;
mod wanted;

use std::{collections::HashMap, sync::Arc};

use final_core::broker::BrokerError;
use lapin::{
    Connection, ExchangeKind, Result,
    types::{AMQPValue, FieldTable},
};

use self::{declaring::Declaring, wanted::short};
pub(crate) use self::{
    declaring::Obstacle,
    pipeline::Pipeline,
    refused::Refused,
    wanted::{How, Thing, Wanted},
};
use crate::{
    declare::Declare,
    error::{broker_error, told},
    names,
    options::QueueKind,
};

/// The queues of one service.
#[derive(Clone, Debug)]
pub(crate) struct Topology {
    pub(crate) service: String,
    pub(crate) queue: Arc<str>,
    pub(crate) kind: QueueKind,
    pub(crate) topics: Vec<Arc<str>>,
    pub(crate) declare: Declare,
    pub(crate) refused: Arc<Refused>,
}

impl Topology {
    /// Declares everything that consuming needs. Dead letters come first, so that none is ever dropped.
    pub(crate) async fn declare(
        &self,
        pipeline: &mut Pipeline,
        connection: &Connection,
    ) -> std::result::Result<(), BrokerError> {
        let mut wanted = Vec::new();
        if self.declare != Declare::Nothing {
            wanted.extend(self.dead_letters()?);
        }
        wanted.push(self.queue(&self.queue, true)?);
        if self.declare != Declare::Nothing {
            for topic in &self.topics {
                wanted.extend([Wanted::topic(topic), self.binding(topic)]);
            }
        }
        self.run(pipeline, connection, wanted).await
    }

    /// Declares the service's dead-letter exchange and queue.
    pub(crate) async fn declare_dead_letters(
        &self,
        connection: &Connection,
    ) -> std::result::Result<(), BrokerError> {
        if self.declare == Declare::Nothing {
            return Ok(());
        }
        let mut pipeline = Pipeline::default();
        let declared = self.run(&mut pipeline, connection, self.dead_letters()?);
        let declared = declared.await;
        pipeline.end().await;
        declared
    }

    /// The bindings. RabbitMQ tells no consumer when one is lost, so they are made again and again.
    pub(crate) fn bindings(&self) -> Vec<Wanted> {
        if self.declare == Declare::Nothing {
            return Vec::new();
        }
        let topics = self.topics.iter().map(|topic| self.binding(topic));
        std::iter::once(self.dead_letter_binding())
            .chain(topics)
            .collect()
    }

    /// Makes bindings. Returns what is in the way.
    pub(crate) async fn bind(
        &self,
        pipeline: &mut Pipeline,
        connection: &Connection,
        bindings: Vec<Wanted>,
    ) -> Result<Vec<Obstacle>> {
        let declaring = Declaring::new(self.declare, &self.refused);
        let obstacles = declaring.run(pipeline, connection, bindings).await;
        self.warn();
        obstacles
    }

    async fn run(
        &self,
        pipeline: &mut Pipeline,
        connection: &Connection,
        wanted: Vec<Wanted>,
    ) -> std::result::Result<(), BrokerError> {
        let declaring = Declaring::new(self.declare, &self.refused);
        let obstacles = declaring
            .run(pipeline, connection, wanted)
            .await
            .map_err(|error| broker_error("declaring queues and exchanges", error))?;
        match obstacles.into_iter().next() {
            Some(first) => Err(self.explain(first)),
            None => {
                self.warn();
                Ok(())
            }
        }
    }

    /// Tells what RabbitMQ refuses, once.
    fn warn(&self) {
        if let Some(error) = self.refused.news() {
            tracing::warn!(
                target: "final::amqp",
                service = &*self.service,
                error = told(&error),
                "the user has no permission to declare some queues, exchanges or bindings; the bus goes on as if they were there"
            );
        }
    }

    fn dead_letters(&self) -> std::result::Result<Vec<Wanted>, BrokerError> {
        let exchange = Wanted::Exchange {
            name: names::dead_letter_exchange(&self.queue).into(),
            kind: ExchangeKind::Fanout,
        };
        let queue = names::dead_letter_queue(&self.queue).into();
        let queue = self.queue(&queue, false)?;
        Ok(vec![exchange, queue, self.dead_letter_binding()])
    }

    fn dead_letter_binding(&self) -> Wanted {
        Wanted::Binding {
            queue: names::dead_letter_queue(&self.queue).into(),
            exchange: names::dead_letter_exchange(&self.queue).into(),
            key: "".into(),
        }
    }

    fn binding(&self, topic: &Arc<str>) -> Wanted {
        Wanted::Binding {
            queue: Arc::clone(&self.queue),
            exchange: Arc::clone(topic),
            key: Arc::clone(topic),
        }
    }

    pub(crate) fn queue(
        &self,
        name: &Arc<str>,
        dead_letters: bool,
    ) -> std::result::Result<Wanted, BrokerError> {
        let failed = |error| broker_error("declaring a queue", error);
        let mut arguments = FieldTable::default();
        if dead_letters {
            let exchange = names::dead_letter_exchange(&self.queue);
            let exchange = AMQPValue::LongString(exchange.into());
            let argument = short(names::DEAD_LETTER_ARGUMENT).map_err(failed)?;
            arguments.insert(argument, exchange);
        }
        // The Go services declare a classic queue without its type, and the arguments must be equal.
        if self.kind == QueueKind::Quorum {
            let kind = AMQPValue::LongString("quorum".into());
            let argument = short(names::QUEUE_TYPE_ARGUMENT).map_err(failed)?;
            arguments.insert(argument, kind);
        }
        let name = Arc::clone(name);
        Ok(Wanted::Queue { name, arguments })
    }
}

/// Declares the exchanges of topics for a publisher. Returns those that cannot be used, each with the reason.
pub(crate) async fn declare_topics(
    pipeline: &mut Pipeline,
    connection: &Connection,
    declare: Declare,
    refused: &Refused,
    topics: &[Arc<str>],
) -> Result<HashMap<Arc<str>, String>> {
    let wanted = topics.iter().map(Wanted::topic).collect();
    let obstacles = Declaring::new(declare, refused)
        .run(pipeline, connection, wanted)
        .await?;
    let unusable = obstacles.into_iter().filter_map(|obstacle| {
        let reason = told(&obstacle.error);
        match obstacle.wanted.thing() {
            Thing::Exchange(topic) if declare == Declare::Nothing => {
                let why = "`Declare::Nothing` makes no exchange, so another program has to";
                Some((topic, format!("{reason}; {why}")))
            }
            Thing::Exchange(topic) => Some((topic, reason)),
            Thing::Queue(_) | Thing::Binding(..) => None,
        }
    });
    Ok(unusable.collect())
}

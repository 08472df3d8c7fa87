//! Three RabbitMQ nodes that are one broker.

use std::thread;

use super::{
    RabbitMq, Setup,
    rabbitmq::{Blueprint, cookie},
};
use crate::{Error, Result};

/// A cluster of one's own: quorum queues have a member on each node.
#[derive(Debug, Clone)]
pub struct RabbitCluster {
    nodes: Vec<RabbitMq>,
}

impl RabbitCluster {
    /// Starts three nodes. The first starts alone, and the others join it.
    pub async fn start() -> Result<Self> {
        crate::beside(Self::start_blocking).await
    }

    fn start_blocking() -> Result<Self> {
        let draw = |_| Blueprint::draw(Setup::default());
        let mut plans = (0..3).map(draw).collect::<Result<Vec<_>>>()?;
        let names: Vec<_> = plans.iter().map(|plan| plan.name().to_owned()).collect();
        let cookie = cookie();
        let rest = plans.split_off(1);
        let mut nodes = Vec::new();
        for plan in plans {
            // RabbitMQ 4 does not start without one of the peers that it knows of.
            nodes.push(plan.launch(&[], &cookie)?);
        }
        let joining = rest.into_iter().map(|plan| {
            let (names, cookie) = (names.clone(), cookie.clone());
            thread::spawn(move || plan.launch(&names, &cookie))
        });
        for joining in joining.collect::<Vec<_>>() {
            nodes.push(
                joining.join().map_err(|_| {
                    Error::new("a node's start panicked", "look at the panic above")
                })??,
            );
        }
        Ok(Self { nodes })
    }

    /// The nodes.
    pub fn nodes(&self) -> &[RabbitMq] {
        &self.nodes
    }

    /// The node that leads a quorum queue of the default virtual host, as this node sees it.
    pub async fn leader(&self, witness: &RabbitMq, queue: &str) -> Result<Option<&RabbitMq>> {
        let queue = witness.management().queue("/", queue).await?;
        let leader = queue["leader"].as_str().unwrap_or_default();
        Ok(self.nodes.iter().find(|node| node.node_name() == leader))
    }

    /// How many members of a quorum queue are alive, as this node sees it.
    pub async fn members(&self, witness: &RabbitMq, queue: &str) -> Result<usize> {
        let queue = witness.management().queue("/", queue).await?;
        Ok(queue["online"].as_array().map_or(0, Vec::len))
    }
}

//! [`Declare`]: what the bus may make in RabbitMQ.

/// What the bus declares in RabbitMQ, for [`Amqp::declare`](crate::Amqp::declare).
///
/// An exchange that exists is used as it is, of whatever kind, in all three cases. A user without the
/// permission to declare is enough where all exists and is bound already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Declare {
    /// Exchanges, queues and bindings. A queue that exists with other arguments is an error of `start`. The
    /// default.
    #[default]
    All,
    /// What does not exist. A queue that exists is used as it is, with any arguments; only a stream is
    /// refused. It is bound to the exchanges of the topics.
    ///
    /// A queue without the argument `x-dead-letter-exchange` loses what RabbitMQ itself drops, such as
    /// messages at its delivery limit. Messages that the bus gives up are stored as dead letters in any case.
    Missing,
    /// Nothing. The service consumes from the queue that is there, with the bindings that it has, and
    /// publishes to exchanges that are there. Dead letters go to the exchange `<queue>_exchange_dlx`; while
    /// that does not exist, or no queue is bound to it, they stay unacked.
    Nothing,
}

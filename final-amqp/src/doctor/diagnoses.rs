//! What an examination of RabbitMQ can find.

use final_core::admin::doctor::{COULD_NOT_CHECK, Diagnosis, Level};

/// Everything that an examination of RabbitMQ can find. A database has
/// [diagnoses of its own](final_core::admin::doctor::DIAGNOSES).
pub const DIAGNOSES: &[Diagnosis] = &[
    COULD_NOT_CHECK,
    UNREACHABLE,
    ALARM,
    TOO_OLD,
    QUEUE_MISSING,
    QUEUE_ARGUMENTS,
    QUEUE_NOT_DURABLE,
    QUEUE_EXCLUSIVE,
    QUEUE_CLASSIC,
    QUEUE_WITHOUT_CONSUMERS,
    DEAD_LETTER_EXCHANGE_MISSING,
    DEAD_LETTER_QUEUE_MISSING,
    TOPIC_EXCHANGE_MISSING,
    QUEUE_UNBOUND,
    DEAD_LETTER_QUEUE_UNBOUND,
    TOPIC_UNBOUND,
    DELIVERY_LIMIT_LOW,
    DEAD_LETTERS_LIMITED,
    QUEUE_DROPS_MESSAGES,
];

pub(super) const UNREACHABLE: Diagnosis = Diagnosis::new(
    Level::Error,
    "rabbitmq_unreachable",
    "Messages wait in the outbox until it is back, and none is handled",
);

pub(super) const ALARM: Diagnosis = Diagnosis::new(
    Level::Error,
    "rabbitmq_alarm",
    "RabbitMQ takes no messages until the alarm is over, so they wait in the outbox",
);

pub(super) const TOO_OLD: Diagnosis = Diagnosis::new(
    Level::Warning,
    "rabbitmq_too_old",
    "It has no quorum queues, so a queue is lost with its node, and services cannot start with the default kind of queue",
);

pub(super) const QUEUE_MISSING: Diagnosis = Diagnosis::new(
    Level::Error,
    "queue_missing",
    "Messages of the service's topics reach no queue: they wait at their publishers, or go to other services alone",
);

pub(super) const QUEUE_ARGUMENTS: Diagnosis = Diagnosis::new(
    Level::Error,
    "queue_arguments_differ",
    "A service with the default options refuses to start on this queue. Without the dead-letter exchange in its \
     arguments it loses what RabbitMQ drops",
);

pub(super) const QUEUE_NOT_DURABLE: Diagnosis = Diagnosis::new(
    Level::Error,
    "queue_not_durable",
    "The queue and its messages are gone with the next restart of the node, although the publishers hold them for stored",
);

pub(super) const QUEUE_EXCLUSIVE: Diagnosis = Diagnosis::new(
    Level::Error,
    "queue_exclusive",
    "The queue and its messages are gone with the connection that has declared it, and no other instance can read it",
);

pub(super) const QUEUE_CLASSIC: Diagnosis = Diagnosis::new(
    Level::Note,
    "queue_classic",
    "Its messages are on one node only, so they are lost with the disk of that node",
);

pub(super) const QUEUE_WITHOUT_CONSUMERS: Diagnosis = Diagnosis::new(
    Level::Error,
    "queue_without_consumers",
    "Messages wait, and no instance takes them",
);

pub(super) const DEAD_LETTER_EXCHANGE_MISSING: Diagnosis = Diagnosis::new(
    Level::Error,
    "dead_letter_exchange_missing",
    "What RabbitMQ drops from the queue, such as messages at its delivery limit, is lost. Dead letters of the bus wait \
     with their deliveries",
);

pub(super) const DEAD_LETTER_QUEUE_MISSING: Diagnosis = Diagnosis::new(
    Level::Error,
    "dead_letter_queue_missing",
    "What RabbitMQ drops from the queue, such as messages at its delivery limit, is lost. Dead letters of the bus wait \
     with their deliveries",
);

pub(super) const TOPIC_EXCHANGE_MISSING: Diagnosis = Diagnosis::new(
    Level::Error,
    "topic_exchange_missing",
    "Messages of the topic reach no queue, not even those of services that have subscribed it",
);

pub(super) const QUEUE_UNBOUND: Diagnosis = Diagnosis::new(
    Level::Error,
    "queue_unbound",
    "Messages of the service's topics reach no queue: they wait at their publishers, or go to other services alone",
);

pub(super) const DEAD_LETTER_QUEUE_UNBOUND: Diagnosis = Diagnosis::new(
    Level::Error,
    "dead_letter_queue_unbound",
    "What RabbitMQ drops from the queue, such as messages at its delivery limit, is lost. Dead letters of the bus wait \
     with their deliveries",
);

pub(super) const TOPIC_UNBOUND: Diagnosis = Diagnosis::new(
    Level::Error,
    "topic_unbound",
    "Committed messages wait until a service subscribes their topic",
);

pub(super) const DELIVERY_LIMIT_LOW: Diagnosis = Diagnosis::new(
    Level::Warning,
    "delivery_limit_low",
    "Each time a process dies, or its connection ends, the messages at its handlers count as delivered once more. At the \
     limit RabbitMQ makes them dead letters, although no handler has refused them",
);

pub(super) const DEAD_LETTERS_LIMITED: Diagnosis = Diagnosis::new(
    Level::Warning,
    "dead_letters_limited",
    "Looking at a dead letter in the queue counts as a delivery, also with \"Get messages\" of the management. At the limit \
     RabbitMQ removes the letter, and it is lost",
);

pub(super) const QUEUE_DROPS_MESSAGES: Diagnosis = Diagnosis::new(
    Level::Warning,
    "queue_drops_messages",
    "RabbitMQ drops messages that it has confirmed. From a service's queue they become dead letters, and from a queue of \
     dead letters they are lost",
);

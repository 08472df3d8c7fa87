//! RabbitMQ behind the `Broker` trait of `final-core`.

//! Whether a server serves: the first bytes of each protocol, without a client library.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    time::Duration,
};

/// A server that is frozen accepts and then says nothing.
const PATIENCE: Duration = Duration::from_secs(2);

/// PostgreSQL lets us in; while it recovers it answers with an error.
pub(super) fn postgres(port: u16) -> bool {
    let mut hello = vec![0, 3, 0, 0];
    hello.extend(b"user\0postgres\0database\0postgres\0\0");
    let length = u32::try_from(hello.len() + 4).unwrap_or_default();
    let message = [&length.to_be_bytes()[..], &hello].concat();
    answer(port, &message).is_some_and(|first| first[0] == b'R')
}

/// MariaDB greets with version 10 of its protocol; an error packet has 0xff there.
pub(super) fn mariadb(port: u16) -> bool {
    answer(port, b"").is_some_and(|first| first[4] == 10)
}

/// RabbitMQ opens the connection: a method frame on channel 0.
pub(super) fn rabbitmq(port: u16) -> bool {
    answer(port, b"AMQP\0\0\x09\x01").is_some_and(|first| first[..3] == [1, 0, 0])
}

/// Sends `hello` and returns the first five bytes that come back.
fn answer(port: u16, hello: &[u8]) -> Option<[u8; 5]> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    stream.write_all(hello).ok()?;
    let mut first = [0; 5];
    stream.read_exact(&mut first).ok()?;
    Some(first)
}

//! A producer that writes AMQP frames by hand, so that it can send what no client library would.

use std::{
    io::{self, Read, Write},
    net::TcpStream,
    time::Duration,
};

use crate::{Error, Result};

const METHOD: u8 = 1;
const HEADER: u8 = 2;
const BODY: u8 = 3;
const HEARTBEAT: u8 = 8;

/// The properties of a content header, in the order of the frame.
#[derive(Debug, Default, Clone)]
pub struct RawProperties {
    /// The content type.
    pub content_type: Option<Vec<u8>>,
    /// The entries of the table of headers, encoded.
    pub headers: Option<Vec<u8>>,
    /// The correlation id.
    pub correlation_id: Option<Vec<u8>>,
    /// The message id.
    pub message_id: Option<Vec<u8>>,
}

/// A connection with one channel that confirms.
#[derive(Debug)]
pub struct RawProducer {
    stream: TcpStream,
}

impl RawProducer {
    /// Connects to `amqp://user:password@host:port/vhost`. Only the virtual host `%2f` may be
    /// percent-encoded.
    pub async fn connect(url: &str) -> Result<Self> {
        let url = url.to_owned();
        crate::beside(move || Self::connect_blocking(&url)).await
    }

    /// Publishes one message and waits for its confirm.
    pub async fn publish(
        self,
        exchange: &str,
        routing_key: &[u8],
        properties: RawProperties,
        body: &[u8],
    ) -> Result<Self> {
        let (exchange, routing_key, body) =
            (exchange.to_owned(), routing_key.to_vec(), body.to_vec());
        crate::beside(move || {
            let mut this = self;
            this.publish_blocking(exchange.as_bytes(), &routing_key, &properties, &body)
                .map_err(refused)?;
            Ok(this)
        })
        .await
    }

    fn connect_blocking(url: &str) -> Result<Self> {
        let parts = url
            .strip_prefix("amqp://")
            .and_then(|rest| rest.split_once('@'))
            .and_then(|(login, rest)| Some((login.split_once(':')?, rest.split_once('/')?)));
        let Some(((user, password), (address, vhost))) = parts else {
            return Err(refused(io::ErrorKind::InvalidInput.into()));
        };
        let vhost = vhost.replace("%2f", "/");
        let stream = TcpStream::connect(address).map_err(refused)?;
        let mut this = Self { stream };
        this.open(user, password, &vhost).map_err(refused)?;
        Ok(this)
    }

    fn open(&mut self, user: &str, password: &str, vhost: &str) -> io::Result<()> {
        self.stream
            .set_read_timeout(Some(Duration::from_secs(30)))?;
        self.stream.write_all(b"AMQP\0\0\x09\x01")?;
        self.wait_for(10, 10)?;
        let login = format!("\0{user}\0{password}");
        let start_ok = [
            &long(b"")[..],
            &short(b"PLAIN"),
            &long(login.as_bytes()),
            &short(b"en_US"),
        ];
        self.call(0, 10, 11, &start_ok.concat())?;
        self.wait_for(10, 30)?;
        // Few channels, frames of 128 KiB, no heartbeats.
        self.call(0, 10, 31, b"\0\x10\0\x02\0\0\0\0")?;
        let open = [&short(vhost.as_bytes())[..], &short(b""), b"\0"];
        self.call(0, 10, 40, &open.concat())?;
        self.wait_for(10, 41)?;
        self.call(1, 20, 10, &short(b""))?;
        self.wait_for(20, 11)?;
        self.call(1, 85, 10, b"\0")?;
        self.wait_for(85, 11)
    }

    fn publish_blocking(
        &mut self,
        exchange: &[u8],
        routing_key: &[u8],
        properties: &RawProperties,
        body: &[u8],
    ) -> io::Result<()> {
        let publish = [b"\0\0", &short(exchange)[..], &short(routing_key), b"\0"];
        self.call(1, 60, 40, &publish.concat())?;
        let mut header = [&[0, 60, 0, 0][..], &(body.len() as u64).to_be_bytes()].concat();
        header.extend(properties.encoded());
        self.frame(HEADER, 1, &header)?;
        for part in body.chunks(100_000) {
            self.frame(BODY, 1, part)?;
        }
        self.wait_for(60, 80)
    }

    fn call(&mut self, channel: u8, class: u8, method: u8, arguments: &[u8]) -> io::Result<()> {
        let payload = [&[0, class, 0, method], arguments].concat();
        self.frame(METHOD, channel, &payload)
    }

    fn frame(&mut self, kind: u8, channel: u8, payload: &[u8]) -> io::Result<()> {
        let frame = [&[kind, 0, channel], &long(payload)[..], &[0xce]].concat();
        self.stream.write_all(&frame)
    }

    /// Reads until this method comes. Any other method is an error with the broker's text.
    fn wait_for(&mut self, class: u8, method: u8) -> io::Result<()> {
        loop {
            let mut head = [0; 7];
            self.stream.read_exact(&mut head)?;
            let [kind, _, _, length @ ..] = head;
            let mut payload = vec![0; u32::from_be_bytes(length) as usize + 1];
            self.stream.read_exact(&mut payload)?;
            if kind == HEARTBEAT {
                continue;
            }
            if payload.starts_with(&[0, class, 0, method]) {
                return Ok(());
            }
            let said = String::from_utf8_lossy(&payload).into_owned();
            return Err(io::Error::other(format!("the broker said {said:?}")));
        }
    }
}

impl RawProperties {
    fn encoded(&self) -> Vec<u8> {
        let mut flags = 0_u16;
        let mut values = Vec::new();
        let all = [
            (15, self.content_type.as_deref().map(short)),
            (13, self.headers.as_deref().map(long)),
            (10, self.correlation_id.as_deref().map(short)),
            (7, self.message_id.as_deref().map(short)),
        ];
        for (bit, value) in all {
            if let Some(value) = value {
                flags |= 1 << bit;
                values.extend(value);
            }
        }
        [&flags.to_be_bytes()[..], &values].concat()
    }
}

/// A short string.
pub fn short(text: &[u8]) -> Vec<u8> {
    let length = u8::try_from(text.len()).unwrap_or(u8::MAX);
    [&[length], &text[..usize::from(length)]].concat()
}

/// A long string, or a table of encoded entries: four bytes of length first.
pub fn long(bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    [&length.to_be_bytes(), bytes].concat()
}

fn refused(cause: io::Error) -> Error {
    Error::new(
        format!("RabbitMQ did not take what was written by hand: {cause}"),
        "look into the server's log for what it found wrong",
    )
}

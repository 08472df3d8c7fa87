//! A wire between a client and a server that can be cut, stalled, slowed and refused.
//!
//! It runs on the runtime of the test that made it.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpSocket, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::JoinHandle,
};

use crate::{
    Error, Port, Result,
    methods::{Method, Methods},
};

/// A TCP proxy on its own port. Dropping it cuts its connections.
#[derive(Debug)]
pub struct Proxy {
    port: Port,
    /// Each connection tries the servers in turn, as a load balancer does.
    servers: Arc<[String]>,
    wire: Arc<Wire>,
    listener: Mutex<Option<JoinHandle<()>>>,
}

/// What all connections through one proxy share.
#[derive(Debug)]
struct Wire {
    state: watch::Sender<State>,
    open: AtomicUsize,
    taken: AtomicUsize,
    carried: AtomicU64,
    /// What a RabbitMQ answers, if this was asked for.
    methods: OnceLock<Methods>,
}

#[derive(Debug, Default, Clone, Copy)]
struct State {
    /// Connections taken before the newest cut are over.
    cuts: usize,
    /// Connections taken before the newest of these no longer carry anything.
    strandings: usize,
    /// Connections taken before the newest of these have one direction closed.
    requests_closed: usize,
    answers_closed: usize,
    requests_stalled: bool,
    answers_stalled: bool,
    /// How long each piece is held, both ways.
    delay: Duration,
    /// How many bytes a second one direction of one connection carries; 0 is no limit.
    rate: u64,
}

impl Proxy {
    /// A proxy to the server of this URL.
    pub async fn to(url: &str) -> Result<Self> {
        Self::to_first_of(&[url]).await
    }

    /// A proxy to the first of these servers that takes connections.
    pub async fn to_first_of(urls: &[&str]) -> Result<Self> {
        let servers = urls.iter().map(|url| authority(url).map(str::to_owned));
        let servers = servers.collect::<Result<_>>()?;
        let (state, _) = watch::channel(State::default());
        let wire = Arc::new(Wire {
            state,
            open: AtomicUsize::new(0),
            taken: AtomicUsize::new(0),
            carried: AtomicU64::new(0),
            methods: OnceLock::new(),
        });
        let proxy = Self {
            port: Port::free()?,
            servers,
            wire,
            listener: Mutex::new(None),
        };
        proxy.accept()?;
        Ok(proxy)
    }

    /// The server's URL with this proxy in its place.
    pub fn url(&self, url: &str) -> String {
        let here = format!("127.0.0.1:{}", self.port());
        match authority(url) {
            Ok(server) => url.replacen(server, &here, 1),
            Err(_) => url.to_owned(),
        }
    }

    /// The port clients connect to.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// How many connections are open now.
    pub fn open(&self) -> usize {
        self.wire.open.load(Ordering::SeqCst)
    }

    /// How many connections there have been.
    pub fn taken(&self) -> usize {
        self.wire.taken.load(Ordering::SeqCst)
    }

    /// How many bytes it has carried, both ways.
    pub fn carried(&self) -> u64 {
        self.wire.carried.load(Ordering::Relaxed)
    }

    /// Counts what a RabbitMQ answers on the connections that are made from now on.
    pub fn count_methods(&self) {
        self.wire.methods.get_or_init(Methods::default);
    }

    /// How often a method came, if methods are counted.
    pub fn methods(&self, method: Method) -> usize {
        self.wire
            .methods
            .get()
            .map_or(0, |methods| methods.count(method))
    }

    /// Resets all open connections, both ends; new ones are served.
    pub fn cut(&self) {
        self.wire.state.send_modify(|state| state.cuts += 1);
    }

    /// Carries nothing more on the open connections, and closes none of them: the server's machine is gone,
    /// and another machine takes the new connections.
    pub fn strand(&self) {
        self.wire.state.send_modify(|state| state.strandings += 1);
    }

    /// Holds everything back in both directions and leaves all connections open, as a broken router does.
    pub fn stall(&self) {
        self.hold(true, true);
    }

    /// Holds back only the answers of the server: it carries out the requests, and the client does not learn
    /// of it.
    pub fn stall_answers(&self) {
        self.hold(false, true);
    }

    /// Lets through what was held back, and what follows, at full speed.
    pub fn resume(&self) {
        self.hold(false, false);
        self.delay(Duration::ZERO);
        self.limit(0);
    }

    /// Holds each piece that passes for so long, both ways.
    pub fn delay(&self, delay: Duration) {
        self.wire.state.send_modify(|state| state.delay = delay);
    }

    /// Carries no more than so many bytes a second in each direction of each connection; 0 lifts it.
    pub fn limit(&self, bytes_a_second: u64) {
        self.wire
            .state
            .send_modify(|state| state.rate = bytes_a_second);
    }

    /// Closes what open connections send to the server; its answers still pass.
    pub fn close_requests(&self) {
        self.wire
            .state
            .send_modify(|state| state.requests_closed += 1);
    }

    /// Closes what the server answers on open connections; requests still pass.
    pub fn close_answers(&self) {
        self.wire
            .state
            .send_modify(|state| state.answers_closed += 1);
    }

    /// Refuses new connections, as a server that is down; open ones stay.
    pub fn refuse(&self) {
        let listener = self
            .listener
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        listener.inspect(JoinHandle::abort);
    }

    /// Takes new connections again.
    pub fn accept(&self) -> Result<()> {
        let mut listener = self.listener.lock().unwrap_or_else(PoisonError::into_inner);
        if listener.is_none() {
            let socket = listen(self.port()).map_err(|cause| {
                Error::new(
                    format!("the proxy cannot listen on port {}: {cause}", self.port()),
                    "run the test again; another program took the port in between",
                )
            })?;
            let serve = serve(socket, Arc::clone(&self.servers), Arc::clone(&self.wire));
            *listener = Some(tokio::spawn(serve));
        }
        Ok(())
    }

    /// Refuses new connections and cuts the open ones, as if the server were gone.
    pub fn down(&self) {
        self.refuse();
        self.cut();
    }

    /// Takes connections again, as if the server were back.
    pub fn up(&self) -> Result<()> {
        self.resume();
        self.accept()
    }

    fn hold(&self, requests_stalled: bool, answers_stalled: bool) {
        self.wire.state.send_modify(|state| {
            *state = State {
                requests_stalled,
                answers_stalled,
                ..*state
            };
        });
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.down();
    }
}

/// The `host:port` of a URL.
fn authority(url: &str) -> Result<&str> {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?']).next().unwrap_or(rest);
    let address = authority
        .rsplit_once('@')
        .map_or(authority, |(_, address)| address);
    if address.contains(':') {
        return Ok(address);
    }
    let what = format!("the address {address:?} has no port, so the proxy cannot stand in for it");
    Err(Error::new(
        what,
        "write the port into the URL, even if it is the usual one",
    ))
}

fn listen(port: u16) -> std::io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
    socket.listen(1024)
}

async fn serve(listener: TcpListener, servers: Arc<[String]>, wire: Arc<Wire>) {
    while let Ok((client, _)) = listener.accept().await {
        tokio::spawn(carry(client, Arc::clone(&servers), Arc::clone(&wire)));
    }
}

async fn connect(servers: &[String]) -> Option<TcpStream> {
    for server in servers {
        if let Ok(stream) = TcpStream::connect(server).await {
            return Some(stream);
        }
    }
    None
}

/// One connection, from its beginning to its end or a cut.
async fn carry(client: TcpStream, servers: Arc<[String]>, wire: Arc<Wire>) {
    let mut state = wire.state.subscribe();
    let cuts = state.borrow_and_update().cuts;
    wire.taken.fetch_add(1, Ordering::SeqCst);
    wire.open.fetch_add(1, Ordering::SeqCst);
    if let Some(server) = connect(&servers).await {
        let _ = (client.set_nodelay(true), server.set_nodelay(true));
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        let requests = Direction {
            from: from_client,
            to: to_server,
            is_stalled: |state| state.requests_stalled,
            closed: |state| state.requests_closed,
            methods: None,
        };
        let answers = Direction {
            from: from_server,
            to: to_client,
            is_stalled: |state| state.answers_stalled,
            closed: |state| state.answers_closed,
            methods: wire.methods.get(),
        };
        tokio::select! {
            _ = async { tokio::join!(requests.pump(&wire), answers.pump(&wire)) } => {}
            _ = state.wait_for(|state| state.cuts != cuts) => {}
        }
    }
    wire.open.fetch_sub(1, Ordering::SeqCst);
}

/// One direction of a connection.
struct Direction<'w> {
    from: OwnedReadHalf,
    to: OwnedWriteHalf,
    is_stalled: fn(&State) -> bool,
    closed: fn(&State) -> usize,
    methods: Option<&'w Methods>,
}

impl Direction<'_> {
    /// Carries bytes until either end is closed, and passes the half-close on.
    async fn pump(mut self, wire: &Wire) {
        // A socket that is dropped in the middle is reset instead of closed.
        let _ = self.from.as_ref().set_zero_linger();
        let mut state = wire.state.subscribe();
        let closed = (self.closed)(&state.borrow_and_update());
        let strandings = state.borrow().strandings;
        let mut closing = state.clone();
        let (mut buffer, mut unread) = (vec![0; 64 * 1024], Vec::new());
        loop {
            // At most the bytes of a tenth of a second at once, so that a limit does not stall the
            // connection.
            let piece = match state.borrow().rate {
                0 => buffer.len(),
                rate => {
                    usize::try_from(rate / 10).map_or(buffer.len(), |n| n.clamp(1, buffer.len()))
                }
            };
            let read = tokio::select! {
                read = self.from.read(&mut buffer[..piece]) => read,
                _ = closing.wait_for(|state| (self.closed)(state) != closed) => Ok(0),
            };
            let Ok(length) = read else {
                return;
            };
            if state
                .wait_for(|state| !(self.is_stalled)(state) && state.strandings == strandings)
                .await
                .is_err()
            {
                return;
            }
            if length == 0 {
                let _ = self.to.shutdown().await;
                return;
            }
            // The settings of now. They may have changed while this task waited for bytes.
            let (delay, rate) = {
                let state = state.borrow();
                (state.delay, state.rate)
            };
            if !delay.is_zero() {
                tokio::time::sleep(delay).await;
            }
            if self.to.write_all(&buffer[..length]).await.is_err() {
                return;
            }
            if let Some(methods) = self.methods {
                methods.read(&mut unread, &buffer[..length]);
            }
            wire.carried.fetch_add(length as u64, Ordering::Relaxed);
            if let Some(millis) = (length as u64 * 1_000).checked_div(rate) {
                tokio::time::sleep(Duration::from_millis(millis)).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_of_a_url_is_found() {
        assert_eq!(
            authority("amqp://a:b@127.0.0.1:5672/%2f").unwrap(),
            "127.0.0.1:5672"
        );
        assert_eq!(
            authority("postgres://a@[::1]:5432/db?x=y").unwrap(),
            "[::1]:5432"
        );
        assert_eq!(authority("localhost:80").unwrap(), "localhost:80");
        assert!(authority("amqp://localhost/%2f").is_err());
    }
}

//! A TCP proxy in front of the broker, to cut connections and to keep silent.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
    task::AbortHandle,
};

pub struct Proxy {
    address: SocketAddr,
    connections: Arc<Mutex<Vec<AbortHandle>>>,
    refusing: watch::Sender<bool>,
    listener: AbortHandle,
}

impl Proxy {
    pub async fn start() -> Self {
        let target = target();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections: Arc<Mutex<Vec<AbortHandle>>> = Arc::default();
        let refusing = watch::Sender::new(false);
        let (all, refuse) = (Arc::clone(&connections), refusing.subscribe());
        let listener = tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                if *refuse.borrow() {
                    continue;
                }
                let target = target.clone();
                let connection = tokio::spawn(async move {
                    if let Ok(mut server) = TcpStream::connect(target).await {
                        let _ = copy_bidirectional(&mut client, &mut server).await;
                    }
                });
                all.lock().unwrap().push(connection.abort_handle());
            }
        });
        Self {
            address,
            connections,
            refusing,
            listener: listener.abort_handle(),
        }
    }

    /// The broker's URL by way of this proxy.
    pub fn url(&self) -> String {
        super::url().replace(&target(), &self.address.to_string())
    }

    /// Cuts every connection. How many there were.
    pub fn cut(&self) -> usize {
        let connections = std::mem::take(&mut *self.connections.lock().unwrap());
        connections
            .iter()
            .filter(|one| !one.is_finished())
            .map(AbortHandle::abort)
            .count()
    }

    /// Whether new connections are closed at once.
    pub fn refuse(&self, refuse: bool) {
        self.refusing.send_replace(refuse);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.listener.abort();
        self.cut();
    }
}

/// Host and port of the broker.
fn target() -> String {
    let url = super::url();
    let rest = url.split_once("://").unwrap().1;
    let authority = rest.split('/').next().unwrap();
    authority.rsplit('@').next().unwrap().to_owned()
}

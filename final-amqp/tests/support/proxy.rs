//! A TCP proxy in front of the broker, to cut connections, to keep silent, and to count answers.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::AbortHandle,
    time::sleep,
};

/// Class and method of an answer of the broker.
pub const CHANNEL_OPEN_OK: [u8; 4] = [0, 20, 0, 11];
pub const CHANNEL_CLOSE: [u8; 4] = [0, 20, 0, 40];

/// How often each method came from the broker.
type Answers = Arc<Mutex<HashMap<[u8; 4], usize>>>;

pub struct Proxy {
    address: SocketAddr,
    connections: Arc<Mutex<Vec<AbortHandle>>>,
    refusing: watch::Sender<bool>,
    muted: watch::Sender<bool>,
    swallow: Arc<AtomicBool>,
    spoil: Arc<Mutex<Option<Vec<u8>>>>,
    answers: Answers,
    delay: watch::Sender<Duration>,
    listener: AbortHandle,
}

impl Proxy {
    pub async fn start() -> Self {
        let target = target();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections: Arc<Mutex<Vec<AbortHandle>>> = Arc::default();
        let refusing = watch::Sender::new(false);
        let muted = watch::Sender::new(false);
        let mute = muted.subscribe();
        let swallow = Arc::new(AtomicBool::new(false));
        let swallows = Arc::clone(&swallow);
        let spoil: Arc<Mutex<Option<Vec<u8>>>> = Arc::default();
        let spoils = Arc::clone(&spoil);
        let answers = Answers::default();
        let delay = watch::Sender::new(Duration::ZERO);
        let (answer, delays) = (Arc::clone(&answers), delay.subscribe());
        let (all, refuse) = (Arc::clone(&connections), refusing.subscribe());
        let listener = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if *refuse.borrow() {
                    continue;
                }
                let (target, mute, swallow) = (target.clone(), mute.clone(), Arc::clone(&swallows));
                let spoil = Arc::clone(&spoils);
                let (answer, delay) = (Arc::clone(&answer), delays.clone());
                let connection = tokio::spawn(async move {
                    if let Ok(server) = TcpStream::connect(target).await {
                        let wire = Wire {
                            mute,
                            swallow,
                            spoil,
                            answer,
                            delay,
                        };
                        wire.pass(client, server).await;
                    }
                });
                all.lock().unwrap().push(connection.abort_handle());
            }
        });
        Self {
            address,
            connections,
            refusing,
            muted,
            swallow,
            spoil,
            answers,
            delay,
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

    /// Whether the broker's answers are held back.
    pub fn mute(&self, mute: bool) {
        self.muted.send_replace(mute);
    }

    /// Keeps the next confirm from whom it is for.
    pub fn swallow_a_confirm(&self) {
        self.swallow.store(true, SeqCst);
    }

    /// Whether a confirm was kept since.
    pub fn has_swallowed(&self) -> bool {
        !self.swallow.load(SeqCst)
    }

    /// Makes every dead letter whose reason begins like this one that the broker cannot read, and for which
    /// it closes the connection. `None` ends that.
    pub fn spoil_dead_letters(&self, reason: Option<&str>) {
        *self.spoil.lock().unwrap() = reason.map(|reason| reason.as_bytes().to_vec());
    }

    /// How often the broker has answered with this method.
    pub fn answers(&self, method: [u8; 4]) -> usize {
        let answers = self.answers.lock().unwrap();
        answers.get(&method).copied().unwrap_or_default()
    }

    /// Holds what passes for so long, in each direction.
    pub fn delay(&self, delay: Duration) {
        self.delay.send_replace(delay);
    }

    /// How many connections there have been, without those that were cut.
    pub fn connections(&self) -> usize {
        self.connections.lock().unwrap().len()
    }

    /// Whether new connections are closed at once.
    pub fn refuse(&self, refuse: bool) {
        self.refusing.send_replace(refuse);
    }
}

/// What one connection through the proxy obeys.
struct Wire {
    mute: watch::Receiver<bool>,
    swallow: Arc<AtomicBool>,
    spoil: Arc<Mutex<Option<Vec<u8>>>>,
    answer: Answers,
    delay: watch::Receiver<Duration>,
}

impl Wire {
    /// Passes bytes both ways until one side ends; none to the client while muted.
    async fn pass(self, mut client: TcpStream, mut server: TcpStream) {
        let (mut from_client, mut to_client) = client.split();
        let (mut from_server, mut to_server) = server.split();
        let mut mute = self.mute.clone();
        let back = async {
            let (mut buffer, mut unseen) = (vec![0; 64 * 1024], Vec::new());
            loop {
                let read = from_server.read(&mut buffer).await.unwrap_or(0);
                self.wait().await;
                let heard = mute.wait_for(|muted| !muted).await.is_ok();
                unseen.extend_from_slice(&buffer[..read]);
                let passed = self.without_confirm(&mut unseen);
                if read == 0 || !heard || to_client.write_all(&passed).await.is_err() {
                    return;
                }
            }
        };
        let forth = async {
            let mut buffer = vec![0; 64 * 1024];
            loop {
                let read = from_client.read(&mut buffer).await.unwrap_or(0);
                self.wait().await;
                spoil_reason(&mut buffer[..read], self.spoil.lock().unwrap().as_deref());
                if read == 0 || to_server.write_all(&buffer[..read]).await.is_err() {
                    return;
                }
            }
        };
        tokio::select! {
            () = forth => {}
            () = back => {}
        }
    }

    async fn wait(&self) {
        let delay = *self.delay.borrow();
        if !delay.is_zero() {
            sleep(delay).await;
        }
    }

    /// The whole frames of what has come, without the confirm that is to be kept.
    fn without_confirm(&self, unseen: &mut Vec<u8>) -> Vec<u8> {
        const HEAD: usize = 7;
        const BASIC_ACK: &[u8] = &[0, 60, 0, 80];
        let mut passed = Vec::new();
        while let Some(length) = unseen.get(3..HEAD) {
            let length = u32::from_be_bytes(length.try_into().unwrap()) as usize;
            if unseen.len() < HEAD + length + 1 {
                break;
            }
            let frame: Vec<u8> = unseen.drain(..HEAD + length + 1).collect();
            let method = (frame[0] == 1).then(|| frame[HEAD..].first_chunk::<4>());
            if let Some(method) = method.flatten() {
                *self.answer.lock().unwrap().entry(*method).or_default() += 1;
            }
            let is_confirm = frame[0] == 1 && frame[HEAD..].starts_with(BASIC_ACK);
            if !(is_confirm && self.swallow.swap(false, SeqCst)) {
                passed.extend(frame);
            }
        }
        passed
    }
}

/// Gives the header with this reason a type that does not exist.
fn spoil_reason(sent: &mut [u8], reason: Option<&[u8]>) {
    const NAME: &[u8] = b"x-final-reason";
    let Some(reason) = reason else { return };
    let names: Vec<usize> = (0..sent.len())
        .filter(|at| sent[*at..].starts_with(NAME))
        .collect();
    for at in names {
        let kind = at + NAME.len();
        if sent
            .get(kind + 5..)
            .is_some_and(|text| text.starts_with(reason))
        {
            sent[kind] = b'Z';
        }
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

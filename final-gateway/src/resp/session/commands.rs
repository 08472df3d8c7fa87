//! Which command a request is, and who answers it.

use bytes::Bytes;
use tokio::{io::AsyncRead, time::sleep};

use super::{Ending, Session, answers::Answers, backend::Backend, input::Input, login::Work};

/// The commands that are known, whatever the client may do with them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    Auth,
    Client,
    Command,
    Echo,
    Hello,
    Hset,
    Info,
    Mget,
    Ping,
    Quit,
    Reset,
    Select,
    Set,
}

impl Verb {
    /// Names are in any case.
    fn of(name: &[u8]) -> Option<Self> {
        Some(match name.to_ascii_lowercase().as_slice() {
            b"auth" => Self::Auth,
            b"client" => Self::Client,
            b"command" => Self::Command,
            b"echo" => Self::Echo,
            b"hello" => Self::Hello,
            b"hset" => Self::Hset,
            b"info" => Self::Info,
            b"mget" => Self::Mget,
            b"ping" => Self::Ping,
            b"quit" => Self::Quit,
            b"reset" => Self::Reset,
            b"select" => Self::Select,
            b"set" => Self::Set,
            _ => return None,
        })
    }
}

impl<B: Backend> Session<B> {
    /// Answers a request. Says whether it was the last one.
    pub(super) async fn answer<R: AsyncRead + Unpin>(
        &mut self,
        request: &[Bytes],
        input: &mut Input<R>,
        answers: &Answers,
    ) -> Option<Ending> {
        let (name, words) = request.split_first()?;
        // Redis has the name in the request's own spelling.
        let Some(verb) = Verb::of(name) else {
            return self.unknown(name, words, answers).await;
        };
        match verb {
            Verb::Auth | Verb::Hello => {
                let patience = self.limits.login;
                // A login may wait for a database that is away. What came with it before the client closed its side is
                // still answered, if that is soon.
                let abandoned = async {
                    input.gone().await;
                    sleep(patience).await;
                };
                let login = async {
                    match verb {
                        Verb::Auth => self.auth(words, answers).await,
                        _ => self.hello(words, answers).await,
                    }
                };
                tokio::select! {
                    biased;
                    ending = login => ending,
                    () = abandoned => Some(Ending::Client),
                }
            }
            Verb::Quit => {
                self.push(answers, |writer| writer.simple("OK")).await;
                Some(Ending::Client)
            }
            Verb::Set | Verb::Hset | Verb::Mget => match &mut self.login {
                None => self.no_auth(answers).await,
                Some(login) => {
                    match &mut login.work {
                        Work::Publish => self.publisher(verb, words, answers).await,
                        Work::Consume(_) => {
                            return self.subscriber(verb, words, input, answers).await;
                        }
                    }
                    None
                }
            },
            _ => {
                self.common(verb, words, answers).await;
                None
            }
        }
    }

    async fn no_auth(&self, answers: &Answers) -> Option<Ending> {
        self.push(answers, |writer| {
            writer.error("NOAUTH Authentication required.")
        })
        .await;
        None
    }

    /// Clients know the form of this answer, and go on without the command.
    async fn unknown(&self, name: &[u8], words: &[Bytes], answers: &Answers) -> Option<Ending> {
        // A browser that was led here would send these; what follows is not for us.
        if [&b"post"[..], b"host:"].contains(&name.to_ascii_lowercase().as_slice()) {
            return Some(Ending::Client);
        }
        if self.login.is_none() {
            return self.no_auth(answers).await;
        }
        let mut text = format!("ERR unknown command '{}'", shown(name));
        text.push_str(", with args beginning with: ");
        let begin = text.len();
        for word in words {
            if text.len() - begin >= 128 {
                break;
            }
            text.push_str(&format!("'{}' ", shown(word)));
        }
        self.push(answers, |writer| writer.error(&text)).await;
        None
    }
}

/// A word as far as it can be shown.
fn shown(word: &[u8]) -> String {
    let word = word.get(..128).unwrap_or(word);
    String::from_utf8_lossy(word).replace(char::is_control, " ")
}

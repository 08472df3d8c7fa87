//! Logging in: by SCRAM, by MD5, with the password itself, or without one.
//!
//! Input: what the server asks for. Output: our answers.

use md5::{Digest, Md5};
use pgwire_replication::{
    auth::ScramClient,
    protocol::{
        framing::write_password_message,
        messages::{auth, parse_auth_request},
    },
};

use super::{SessionError, Socket};

/// The server may ask for so many rounds of hashing. PostgreSQL's default is 4096.
const MOST_ROUNDS: u32 = 10_000_000;

/// Answers one request of the server after the other.
pub(super) struct Login<'a> {
    user: &'a str,
    password: Option<&'a str>,
    scram: Option<Scram>,
    /// Whether the server proved that it knows the password, if SCRAM was begun.
    is_proven: bool,
}

struct Scram {
    client: ScramClient,
    /// What the server's proof is checked with.
    expected: Option<(String, Vec<u8>)>,
}

impl<'a> Login<'a> {
    pub(super) fn new(user: &'a str, password: Option<&'a str>) -> Self {
        Self {
            user,
            password,
            scram: None,
            is_proven: false,
        }
    }

    /// Answers what the server asks for.
    pub(super) async fn answer(
        &mut self,
        socket: &mut Socket,
        request: &[u8],
    ) -> Result<(), SessionError> {
        let (kind, rest) = parse_auth_request(request).map_err(failed)?;
        match kind {
            auth::OK if self.scram.is_some() && !self.is_proven => {
                Err(login("the server let us in without proving itself"))
            }
            auth::OK => Ok(()),
            auth::CLEARTEXT_PASSWORD => {
                let password = self.password()?.as_bytes();
                send(socket, &[password, b"\0"].concat()).await
            }
            auth::MD5_PASSWORD => {
                let inner = hex(&[self.password()?.as_bytes(), self.user.as_bytes()]);
                let outer = hex(&[inner.as_bytes(), rest]);
                send(socket, format!("md5{outer}\0").as_bytes()).await
            }
            auth::SASL => {
                let mut offered = rest.split(|&byte| byte == 0);
                if !offered.any(|name| name == b"SCRAM-SHA-256") {
                    return Err(login("the server offers no way that we know"));
                }
                let client = ScramClient::new(self.user);
                let first = client.client_first.as_bytes();
                let length = u32::try_from(first.len()).unwrap_or_default().to_be_bytes();
                let answer = [b"SCRAM-SHA-256\0".as_slice(), &length, first].concat();
                self.scram = Some(Scram {
                    client,
                    expected: None,
                });
                send(socket, &answer).await
            }
            auth::SASL_CONTINUE => {
                let password = self.password()?;
                // What PostgreSQL hashes is the normal form, if the text has one.
                let normal = stringprep::saslprep(password);
                let password = normal.as_deref().unwrap_or(password);
                let said = text(rest)?;
                let (.., rounds) = ScramClient::parse_server_first(said).map_err(failed)?;
                if rounds > MOST_ROUNDS {
                    return Err(login("the server asks for too many rounds of hashing"));
                }
                let scram = self.scram()?;
                let (answer, all, salted) =
                    scram.client.client_final(password, said).map_err(failed)?;
                scram.expected = Some((all, salted));
                send(socket, answer.as_bytes()).await
            }
            auth::SASL_FINAL => {
                let Some((all, salted)) = self.scram()?.expected.take() else {
                    return Err(login("the server ended before it began"));
                };
                ScramClient::verify_server_final(text(rest)?, &salted, &all).map_err(failed)?;
                self.is_proven = true;
                Ok(())
            }
            other => Err(login(&format!(
                "the server asks for method {other}, which is not supported; use scram-sha-256 in pg_hba.conf"
            ))),
        }
    }

    fn password(&self) -> Result<&'a str, SessionError> {
        self.password.ok_or_else(|| {
            login("the server asks for a password; put one into the URL or into PGPASSWORD")
        })
    }

    fn scram(&mut self) -> Result<&mut Scram, SessionError> {
        self.scram
            .as_mut()
            .ok_or_else(|| login("the server went on before it began"))
    }
}

async fn send(socket: &mut Socket, answer: &[u8]) -> Result<(), SessionError> {
    write_password_message(socket, answer).await.map_err(failed)
}

fn hex(parts: &[&[u8]]) -> String {
    let mut hash = Md5::new();
    for part in parts {
        hash.update(part);
    }
    let digest = hash.finalize();
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn text(bytes: &[u8]) -> Result<&str, SessionError> {
    std::str::from_utf8(bytes).map_err(|_| login("the server's answer is no text"))
}

fn login(why: &str) -> SessionError {
    SessionError::Login(why.to_owned())
}

fn failed(error: pgwire_replication::PgWireError) -> SessionError {
    use pgwire_replication::PgWireError;
    match error {
        PgWireError::Io(error) => SessionError::Io(error.kind().into()),
        other => SessionError::Login(other.to_string()),
    }
}

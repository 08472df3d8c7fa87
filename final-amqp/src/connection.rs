//! Connects to RabbitMQ, and opens and closes channels.
//!
//! Input: the settings, with credentials or their source, and a role. Output: a connection whose incoming bytes
//! pass `inbound`, or an error that says what to check. An attempt that fails, or that is given up, leaves no
//! socket open.

use std::{io, sync::Arc, time::Duration};

use final_core::broker::{BrokerError, BrokerErrorKind};
use lapin::{
    Channel, Connection, ConnectionProperties, Error, Result,
    options::ConfirmSelectOptions,
    tcp::{AMQPUriTcpExt, AsyncTcpStream},
    uri::{AMQPScheme, AMQPUri},
};
use tokio::{
    select,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    deadline::{CALL_LIMIT, within},
    error::{broker_error_with, is_hang_up, is_refused_login, is_timeout, timed_out},
    inbound::{Guarded, Handshake, Kit},
    login::Login,
    options::Settings,
    role::Role,
    uri,
};

/// How long closing a channel or connection may take. Nothing waits for the result.
const GOODBYE_LIMIT: Duration = Duration::from_secs(2);

/// How long lapin may take to report why connecting failed, once it has dropped the stream.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// A connection, and as whom it logged in.
#[derive(Debug)]
pub(crate) struct Connected {
    pub(crate) connection: Connection,
    pub(crate) login: Login,
    /// The version of RabbitMQ, if it has told one.
    pub(crate) version: Option<String>,
}

/// Opens a connection that has what its role needs.
pub(crate) async fn connect(
    settings: &Settings,
    service: &str,
    role: Role,
) -> std::result::Result<Connected, BrokerError> {
    let mut uri = settings.uri.clone();
    let mut valid_for = None;
    if let Some(source) = &settings.credentials {
        let credentials = source.ask(settings.connect_timeout).await?;
        uri.authority.userinfo.username = credentials.user;
        uri.authority.userinfo.password = credentials.password;
        valid_for = credentials.valid_for;
    }
    let login = Login {
        user: uri.authority.userinfo.username.clone(),
        valid_for,
    };
    let handshake = Arc::<Handshake>::default();
    let attempt = attempt(settings, uri, service, role, &handshake);
    let connection = timeout(settings.connect_timeout, attempt)
        .await
        .unwrap_or_else(|_| Err(timed_out()))
        .map_err(|error| explained(settings, &handshake, error))?;
    if let Err(error) = role.check(settings, service, &connection) {
        close(&connection).await;
        return Err(error);
    }
    Ok(Connected {
        connection,
        login,
        version: handshake.version(),
    })
}

/// The error of an attempt to connect, with all that is known of its cause.
fn explained(settings: &Settings, handshake: &Handshake, error: Error) -> BrokerError {
    let mut doing = format!("connecting to RabbitMQ at {}", uri::address(&settings.uri));
    if is_refused_login(&error) && settings.credentials.is_some() {
        let text = format!(
            "{doing}: {error}; `Amqp::credentials` gave this login, and is asked again at the next attempt"
        );
        return BrokerError::new(BrokerErrorKind::Unreachable, text).because(error);
    }
    let (hung_up, timed_out) = (is_hang_up(&error), is_timeout(&error));
    // With TLS 1.3 the client may send before the server has checked the client's certificate.
    // The server's alert about the certificate is lost when the server then hangs up.
    if settings.uri.scheme == AMQPScheme::AMQPS && hung_up {
        doing += " (it hung up after the TLS handshake, as it does where it wants a client certificate \
                  and got none or another)";
    }
    let hint = if hung_up || timed_out {
        handshake.hint(timed_out)
    } else {
        String::new()
    };
    broker_error_with(&doing, error, &hint)
}

/// One attempt to connect.
///
/// lapin connects on a thread of its own. If this future is dropped, the token ends that thread and its
/// connection. A timer cannot do this: a timer in that thread panics once the runtime is gone.
async fn attempt(
    settings: &Settings,
    uri: AMQPUri,
    service: &str,
    role: Role,
    handshake: &Arc<Handshake>,
) -> Result<Connection> {
    let name = settings.connection_name.as_deref().unwrap_or(service);
    let properties = ConnectionProperties::default()
        .with_connection_name(format!("{name} {}", role.name).into());
    let token = CancellationToken::new();
    let given_up = token.clone().drop_guard();
    let tls = settings.tls.clone();
    let tokio = lapin::runtime::default_runtime()?;
    let gone = token.clone();
    let frame_max = uri.query.frame_max.unwrap_or_default();
    let handshake = Arc::clone(handshake);
    let connecting = Connection::connector(
        uri,
        Kit::runtime(tokio.clone()),
        async move |uri, _| {
            let connected = token
                .run_until_cancelled(uri.connect_with_config_async(tls.as_ref(), &tokio))
                .await;
            let stream = connected.unwrap_or_else(|| Err(io::ErrorKind::TimedOut.into()))?;
            handshake.connected();
            let guarded = Guarded::new(stream).limited_to(frame_max).tied_to(&token);
            Ok(AsyncTcpStream::Plain(guarded.heard_by(&handshake)))
        },
        properties,
    );
    // If the connection ends during the handshake, lapin reports nothing in about one of sixteen cases.
    let silence = async {
        gone.cancelled().await;
        sleep(LAST_WORDS).await;
    };
    select! {
        biased;
        connected = connecting => {
            // From here on lapin closes the stream: with the connection, or at once after an error.
            given_up.disarm();
            connected
        }
        () = silence => Err(io::Error::from(io::ErrorKind::ConnectionReset).into()),
    }
}

/// Opens a channel.
pub(crate) async fn open_channel(connection: &Connection) -> Result<Channel> {
    within(CALL_LIMIT, connection.create_channel()).await
}

/// Opens a channel whose messages are confirmed.
pub(crate) async fn open_confirm_channel(connection: &Connection) -> Result<Channel> {
    let channel = open_channel(connection).await?;
    within(
        CALL_LIMIT,
        channel.confirm_select(ConfirmSelectOptions::default()),
    )
    .await?;
    Ok(channel)
}

/// Closes a channel, if it is still open. lapin would also close it on drop, but if that fails lapin closes
/// the whole connection.
pub(crate) async fn close_channel(channel: &Channel) {
    if channel.status().connected() {
        // An error changes nothing: the channel is not used again.
        let _ = within(GOODBYE_LIMIT, channel.close(200, "OK".into())).await;
    }
}

/// Closes a connection, if it is still open.
pub(crate) async fn close(connection: &Connection) {
    if connection.status().connected() {
        // An error changes nothing: the connection is not used again.
        let _ = within(GOODBYE_LIMIT, connection.close(200, "OK".into())).await;
    }
}

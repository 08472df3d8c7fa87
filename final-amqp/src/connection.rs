//! Connects to RabbitMQ, and gives every call to it a deadline.
//!
//! Input: the settings and a role. Output: a connection whose incoming bytes pass `inbound`, or an error
//! that says what to check. An attempt that fails, or that is given up, leaves no socket open.

use std::{future::Future, io, time::Duration};

use final_core::broker::BrokerError;
use lapin::{
    Channel, Connection, ConnectionProperties, Result,
    options::ConfirmSelectOptions,
    tcp::{AMQPUriTcpExt, AsyncTcpStream},
    uri::AMQPScheme,
};
use tokio::{
    select,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    error::{broker_error, is_hang_up, timed_out},
    inbound::{Guarded, Kit},
    options::Settings,
    uri,
};

/// How long any single call to the broker may take.
pub(crate) const CALL_LIMIT: Duration = Duration::from_secs(10);
/// How long closing a channel or connection may take. Nothing waits for the result.
const GOODBYE_LIMIT: Duration = Duration::from_secs(2);

/// How long lapin may take to report why connecting failed, once it has dropped the stream.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Opens a connection. The role is part of its name in RabbitMQ's list of connections.
pub(crate) async fn connect(
    settings: &Settings,
    service: &str,
    role: &str,
) -> std::result::Result<Connection, BrokerError> {
    let attempt = timeout(settings.connect_timeout, attempt(settings, service, role));
    attempt
        .await
        .unwrap_or_else(|_| Err(timed_out()))
        .map_err(|error| {
            let mut doing = format!("connecting to RabbitMQ at {}", uri::address(&settings.uri));
            // With TLS 1.3 the client may send before the server has checked the client's certificate.
            // The server's alert about the certificate is lost when the server then hangs up.
            if settings.uri.scheme == AMQPScheme::AMQPS && is_hang_up(&error) {
                doing += " (it hung up after the TLS handshake, as it does where it wants a client \
                          certificate and got none or another)";
            }
            broker_error(&doing, error)
        })
}

/// One attempt to connect.
///
/// lapin connects on a thread of its own. If this future is dropped, the token ends that thread and its
/// connection. A timer cannot do this: a timer in that thread panics once the runtime is gone.
async fn attempt(settings: &Settings, service: &str, role: &str) -> Result<Connection> {
    let name = settings.connection_name.as_deref().unwrap_or(service);
    let properties =
        ConnectionProperties::default().with_connection_name(format!("{name} {role}").into());
    let token = CancellationToken::new();
    let given_up = token.clone().drop_guard();
    let tls = settings.tls.clone();
    let tokio = lapin::runtime::default_runtime()?;
    let gone = token.clone();
    let frame_max = settings.uri.query.frame_max.unwrap_or_default();
    let connecting = Connection::connector(
        settings.uri.clone(),
        Kit::runtime(tokio.clone()),
        async move |uri, _| {
            let connected = token
                .run_until_cancelled(uri.connect_with_config_async(tls.as_ref(), &tokio))
                .await;
            let stream = connected.unwrap_or_else(|| Err(io::ErrorKind::TimedOut.into()))?;
            let guarded = Guarded::new(stream).limited_to(frame_max).tied_to(&token);
            Ok(AsyncTcpStream::Plain(guarded))
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

/// A call with a deadline. Without one lapin waits for ever if the broker does not answer.
pub(crate) async fn within<T>(limit: Duration, call: impl Future<Output = Result<T>>) -> Result<T> {
    timeout(limit, call)
        .await
        .unwrap_or_else(|_| Err(timed_out()))
}

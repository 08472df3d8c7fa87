//! Which error of the server means what for the capture.
//!
//! Input: what a session or the catalog failed with. Output: a [`SourceError`]: away (try again), busy, unreadable
//! (stop), wrong configuration. Gaps are found by [`slot`](super::slot).

use super::{
    pgoutput::Malformed,
    wire::{ServerError, SessionError},
};
use crate::{position::SourcePoint, source::SourceError};

/// The session broke, or could not be opened.
pub(super) fn broken(error: SessionError) -> SourceError {
    match error {
        SessionError::Server(error) => refused(*error),
        SessionError::Login(why) => SourceError::Config(format!("the login failed: {why}")),
        error @ SessionError::Tls(_) => SourceError::Config(error.to_string()),
        error => SourceError::Away(Box::new(error)),
    }
}

/// The open stream broke.
pub(super) fn cut(after: u64, error: SessionError) -> SourceError {
    let what = match error {
        SessionError::TooLarge { .. } => {
            format!(
                "{error}; raise `source.most_message` of the capture (`PgSource::most_message`)"
            )
        }
        SessionError::Protocol(what) => what,
        other => return broken(other),
    };
    SourceError::Unreadable {
        after: SourcePoint::Lsn(after),
        what,
    }
}

/// The server refused a session or a command.
pub(super) fn refused(error: ServerError) -> SourceError {
    match error.code.as_str() {
        // The slot is used, by another reader or by one whose end the server has not noticed yet.
        "55006" => SourceError::Busy(error.message),
        "28000" | "28P01" => SourceError::Config(format!(
            "the server refused the login: {error}; mend the user, the password or pg_hba.conf"
        )),
        "3D000" => SourceError::Config(format!("{error}; mend the database in the URL")),
        "42501" => SourceError::Config(format!(
            "{error}; the user needs the right to replicate: `ALTER ROLE … REPLICATION`"
        )),
        _ => SourceError::Away(Box::new(SessionError::Server(Box::new(error)))),
    }
}

/// The server ended the stream with an error.
pub(super) fn streaming(after: u64, error: ServerError) -> SourceError {
    match error.code.get(..2) {
        // Damaged data, a value that cannot be printed, something that is not there or not supported: it would be the
        // same at the next try.
        Some("XX" | "22" | "42" | "0A") => SourceError::Unreadable {
            after: SourcePoint::Lsn(after),
            what: format!("the server cannot decode it: {error}"),
        },
        _ => refused(error),
    }
}

/// A notice in the stream. The one that matters is of PostgreSQL 18, which goes on without a publication that is not
/// there, and so without its tables. Its text is in the server's language, so the code alone tells it.
pub(super) fn warned(after: u64, notice: &ServerError) -> Option<SourceError> {
    let is_skipped = notice.code == "55000";
    is_skipped.then(|| SourceError::Unreadable {
        after: SourcePoint::Lsn(after),
        what: format!("the server leaves tables out: {notice}"),
    })
}

/// A message does not say what it should.
pub(super) fn unreadable(after: u64, error: Malformed) -> SourceError {
    SourceError::Unreadable {
        after: SourcePoint::Lsn(after),
        what: error.to_string(),
    }
}

/// The catalog did not answer.
pub(super) fn catalog(error: sqlx::Error) -> SourceError {
    // A pool tries again until its time is over, and then does not say what each try has met.
    if let sqlx::Error::PoolTimedOut = error {
        return SourceError::Away(
            "the server gave no connection in time; look whether it runs, at its host and port, and at max_connections"
                .into(),
        );
    }
    if let sqlx::Error::Database(server) = &error {
        let code = server.code().unwrap_or_default().into_owned();
        if matches!(code.as_str(), "28000" | "28P01" | "3D000") {
            return refused(ServerError {
                code,
                message: server.message().to_owned(),
                detail: None,
                hint: None,
            });
        }
    }
    SourceError::Away(Box::new(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_publication_that_the_server_skips_is_noticed_in_each_language() {
        let notice = |code: &str| ServerError {
            code: code.to_owned(),
            message: "Laden der Publikation »shop« übersprungen".to_owned(),
            ..ServerError::default()
        };
        let error = warned(7, &notice("55000"));
        assert!(
            matches!(
                error,
                Some(SourceError::Unreadable {
                    after: SourcePoint::Lsn(7),
                    ..
                })
            ),
            "{error:?}"
        );
        assert!(warned(7, &notice("01000")).is_none());
    }
}

//! What handlers may return.

use std::{error::Error as StdError, fmt, io};

use final_core::{
    BoxError, HandlerError, Outcome, Payload, Router,
    handler::{IntoOutcome, Permanent},
};

use crate::message;

/// An error type that hides what is inside once it is boxed, as anyhow's does.
struct Opaque(BoxError);

#[derive(Debug)]
struct Hidden(BoxError);

impl fmt::Display for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl StdError for Hidden {}

impl From<Opaque> for BoxError {
    fn from(error: Opaque) -> Self {
        Box::new(Hidden(error.0))
    }
}

#[tokio::test]
async fn every_result_is_an_outcome() {
    #[track_caller]
    fn check(result: impl IntoOutcome, expected: Result<Outcome, (&str, bool)>) {
        let result = result.into_outcome();
        let result = result.map_err(|error| (error.to_string(), Permanent::is_in(&*error)));
        let expected = expected.map_err(|(text, permanent)| (text.to_owned(), permanent));
        assert_eq!(result, expected);
    }

    let failed = |text| Err((text, false));
    check((), Ok(Outcome::Done));
    check(Outcome::Retry, Ok(Outcome::Retry));
    check(Ok::<_, io::Error>(()), Ok(Outcome::Done));
    check(Ok::<_, io::Error>(Outcome::Reject), Ok(Outcome::Reject));
    check(Err::<(), _>(io::Error::other("typed")), failed("typed"));
    check(Err::<(), _>("text"), failed("text"));
    check(Err::<(), _>(String::from("owned")), failed("owned"));
    check(Err::<(), _>(BoxError::from("boxed")), failed("boxed"));
    check(Err::<(), _>(Opaque("opaque".into())), failed("opaque"));
    check(Err::<(), _>(HandlerError::retry("again")), failed("again"));
    check(
        Err::<(), _>(HandlerError::permanent("never")),
        Err(("never", true)),
    );
    check(
        Err::<(), BoxError>(Permanent("boxed never".into()).into()),
        Err(("boxed never", true)),
    );
}

#[tokio::test]
async fn question_mark_works_on_different_errors() {
    async fn handle(Payload(which): Payload<u8>) -> Result<(), HandlerError> {
        match which {
            0 => io::Result::Err(io::Error::other("io"))?,
            1 => drop("x".parse::<i32>()?),
            2 => Err("text")?,
            3 => Err(BoxError::from("boxed"))?,
            4 => Err(Opaque("opaque".into()))?,
            5 => "x"
                .parse::<i32>()
                .map(drop)
                .map_err(HandlerError::permanent)?,
            _ => {}
        }
        Ok(())
    }

    let router = Router::new().route("topic", handle);
    for (which, expected) in [
        (0, "io"),
        (1, "invalid digit found in string"),
        (2, "text"),
        (3, "boxed"),
        (4, "opaque"),
        (5, "invalid digit found in string"),
    ] {
        let error = router.dispatch(message("topic", &which)).await.unwrap_err();
        assert_eq!(error.to_string(), expected);
        assert_eq!(Permanent::is_in(&*error), which == 5);
    }
    router.dispatch(message("topic", &6)).await.unwrap();
}

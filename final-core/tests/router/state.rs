//! State: whole, in parts, and different for merged routers.

use final_core::{FromRef, Router, State};

use crate::empty;

#[derive(Clone, Debug, PartialEq)]
struct Mailer(&'static str);

/// Not `Clone`: handlers take parts of it.
struct App {
    mailer: Mailer,
    limit: u32,
}

impl FromRef<App> for Mailer {
    fn from_ref(app: &App) -> Self {
        app.mailer.clone()
    }
}

impl FromRef<App> for u32 {
    fn from_ref(app: &App) -> Self {
        app.limit
    }
}

#[tokio::test]
async fn state_is_taken_whole_or_in_parts() {
    let parts = Router::new()
        .route(
            "parts",
            async |State(mailer): State<Mailer>, State(limit): State<u32>| {
                assert_eq!((mailer, limit), (Mailer("app"), 3));
            },
        )
        .with_state(App {
            mailer: Mailer("app"),
            limit: 3,
        });
    let router = Router::new()
        .route("whole", async |State(mailer): State<Mailer>| {
            assert_eq!(mailer, Mailer("whole"));
        })
        .with_state(Mailer("whole"))
        .merge(parts);

    for topic in ["parts", "whole"] {
        router.dispatch(empty(topic)).await.unwrap();
    }
}

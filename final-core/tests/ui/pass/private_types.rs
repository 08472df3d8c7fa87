#![deny(warnings)]
// A private payload in a handler that is `pub` in a private module warns as little as in any `async fn`.

use final_core::{Router, subscribers};

mod handlers {
    use final_core::{Payload, State, subscribe};

    #[derive(serde::Deserialize)]
    struct Order {
        id: i64,
    }

    #[derive(Clone)]
    pub(crate) struct Mailer;

    #[derive(Debug)]
    struct MailError;

    impl std::fmt::Display for MailError {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("mail")
        }
    }

    impl std::error::Error for MailError {}

    #[subscribe("private")]
    async fn private(Payload(order): Payload<Order>) -> Result<(), MailError> {
        let _ = order.id;
        Err(MailError)
    }

    #[subscribe("public")]
    #[allow(private_interfaces)]
    pub async fn public(State(_): State<Mailer>, Payload(order): Payload<Order>) -> Result<(), MailError> {
        let _ = order.id;
        Err(MailError)
    }

    pub(crate) fn all() -> final_core::Router<Mailer> {
        final_core::subscribers![private, public]
    }
}

fn main() {
    let _: Router = handlers::all().with_state(handlers::Mailer);
    let _: Router = subscribers![];
}

//! What operators hear.

use std::fmt::{Debug, Write};

use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
};

use super::{server::*, *};

/// Writes down every event of this thread.
#[derive(Clone, Default)]
struct Ears(Arc<Mutex<Vec<String>>>);

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        write!(self.0, " {field}={value:?}").unwrap();
    }
}

impl Subscriber for Ears {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn event(&self, event: &Event<'_>) {
        let metadata = event.metadata();
        let mut line = Line(format!("{} {}", metadata.level(), metadata.target()));
        event.record(&mut line);
        self.0.lock().unwrap().push(line.0);
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

#[tokio::test]
async fn each_change_of_an_endpoint_is_heard_once_and_without_a_secret() {
    let well = Arc::new(Mutex::new(false));
    let switch = well.clone();
    let server = Server::start(move |mut visit| {
        let well = well.clone();
        async move {
            while let Some(request) = visit.request().await {
                let answer = if *well.lock().unwrap() {
                    OK.to_owned()
                } else {
                    let said = request.head;
                    format!(
                        "HTTP/1.1 500 Oops\r\nContent-Length: {}\r\n\r\n{said}",
                        said.len()
                    )
                };
                visit.write(answer).await;
            }
        }
    })
    .await;
    let clock = Standing::new();
    let caller = caller().failures(2).clock(clock.clone()).build().unwrap();
    let url = format!("http://user:hidden-1@{}/hook?key=hidden-2", server.address);
    let endpoint = local(&url).header("X-Token", "hidden-3").unwrap();
    let ears = Ears::default();
    let heard = ears.0.clone();
    let _listening = tracing::subscriber::set_default(ears);

    for number in 0..10 {
        caller.call(&endpoint, &call(&number.to_string())).await;
    }
    clock.advance(Duration::from_secs(20));
    for key in ["a", "b"] {
        caller.call(&endpoint, &call(key)).await;
    }
    *switch.lock().unwrap() = true;
    clock.advance(Duration::from_secs(40));
    for key in ["c", "d"] {
        assert_eq!(
            caller.call(&endpoint, &call(key)).await,
            CallOutcome::Done(200)
        );
    }

    let heard = heard.lock().unwrap();
    let ours: Vec<_> = heard
        .iter()
        .filter(|line| line.contains("final::webhook"))
        .collect();
    let levels: Vec<_> = ours
        .iter()
        .filter_map(|line| line.split(' ').next())
        .collect();
    assert_eq!(levels, ["WARN", "DEBUG", "INFO"], "{ours:?}");
    let shown = format!("endpoint=http://{}/hook", server.address);
    assert!(ours.iter().all(|line| line.contains(&shown)), "{ours:?}");
    assert!(ours[0].contains("the endpoint answered 500"), "{}", ours[0]);
    assert!(
        !heard.iter().any(|line| line.contains("hidden")),
        "{heard:?}"
    );
}

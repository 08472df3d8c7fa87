//! Another broker as the target.
//!
//! Input: lots. State: the link, and in each term a [`Pump`] with its window. Output: confirmed messages, and positions
//! saved after them.

mod flight;
mod pump;
mod window;

use std::{sync::Arc, time::Duration};

use final_core::{
    Message,
    broker::{Broker, Confirm, Isolation, Link, LinkState, Outgoing, Setup},
};
use futures::future::BoxFuture;
use tokio::{
    sync::{Mutex, oneshot},
    time::sleep,
};

use self::{
    flight::{Flight, IN_FLIGHT},
    pump::Pump,
    window::Window,
};
use super::{Job, Outlet, TargetEnd, desk::PutBack, lots::WriteError};
use crate::{
    capture::{CaptureError, StopReason},
    engine::vitals::Vitals,
    position::{PositionStore, Term},
};

/// How often a message that the broker did not take is sent again.
const AGAIN: Duration = Duration::from_secs(1);

/// How often a parked message is sent before it stays parked.
const TRIES: u32 = 3;

/// The pause between these tries.
const SHORTLY: Duration = Duration::from_millis(100);

pub(crate) struct BrokerOutlet {
    broker: Arc<dyn Broker>,
    store: Arc<dyn PositionStore>,
    link: Mutex<Option<Arc<dyn Link>>>,
}

impl BrokerOutlet {
    pub(crate) fn new(broker: Arc<dyn Broker>, store: Arc<dyn PositionStore>) -> Self {
        Self {
            broker,
            store,
            link: Mutex::default(),
        }
    }
}

impl Outlet for BrokerOutlet {
    fn kind(&self) -> &'static str {
        "a broker, at least once"
    }

    fn positions(&self) -> Arc<dyn PositionStore> {
        Arc::clone(&self.store)
    }

    fn migrate(&self) -> BoxFuture<'_, Result<(), CaptureError>> {
        Box::pin(async move { Ok(self.store.migrate().await?) })
    }

    fn open<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), CaptureError>> {
        Box::pin(async move {
            let mut setup = Setup::new(name, Vec::<Arc<str>>::new());
            // One more for a parked message that is put back meanwhile.
            setup.confirm_window = IN_FLIGHT + 1;
            let opened = self.broker.open(setup).await?;
            *self.link.lock().await = Some(opened.link);
            Ok(())
        })
    }

    fn run(&self, job: Job) -> BoxFuture<'_, Result<(), TargetEnd>> {
        Box::pin(async move {
            let Some(link) = self.link.lock().await.clone() else {
                let closed = "the link to the broker is closed".to_owned();
                return Err(TargetEnd::Stopped(StopReason::Target(closed)));
            };
            let lane = Lane {
                link,
                store: Arc::clone(&self.store),
                vitals: Arc::clone(&job.vitals),
            };
            Pump::open(lane, job).await?.run().await
        })
    }

    fn close(&self, limit: Duration) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let Some(link) = self.link.lock().await.take() else {
                return;
            };
            link.stop_consuming(limit).await;
            link.finish_consuming(limit).await;
            link.close(limit).await;
        })
    }
}

/// The way to the broker, and the store of what it refuses.
struct Lane {
    link: Arc<dyn Link>,
    store: Arc<dyn PositionStore>,
    vitals: Arc<Vitals>,
}

impl Lane {
    /// Sends one message, a few times at most: the pump stands still meanwhile. The error says whether it stays parked
    /// until an operator asks again, or is tried at the next look.
    async fn send_alone(&self, message: &Message) -> Result<(), WriteError> {
        let (mut isolation, mut faults, mut tries) = (Isolation::Shared, 0, 0);
        loop {
            if *self.link.state().borrow() != LinkState::Ready {
                return Err(WriteError::NotNow);
            }
            // The next reader may have sent newer messages of the key.
            if !self.vitals.is_leased() {
                return Err(WriteError::NotNow);
            }
            let (told, answer) = oneshot::channel();
            self.link
                .send(Outgoing::tracked(message.clone(), isolation, |confirm| {
                    let _ = told.send(confirm);
                }));
            match answer.await.unwrap_or(Confirm::Lost) {
                Confirm::Stored => return Ok(()),
                Confirm::Suspect => isolation = Isolation::Alone,
                Confirm::Faulty(why) => {
                    isolation = Isolation::Alone;
                    faults += 1;
                    if faults >= pump::FAULTS {
                        return Err(WriteError::Refused(why));
                    }
                }
                other => {
                    tries += 1;
                    match hindrance(other) {
                        None if tries >= TRIES => return Err(WriteError::NotNow),
                        Some((words, is_last)) if is_last || tries >= TRIES => {
                            return Err(WriteError::Refused(words));
                        }
                        _ => sleep(SHORTLY).await,
                    }
                }
            }
        }
    }
}

/// Why the broker cannot take a message now, and whether another try has to wait long. `None` if nobody knows.
fn hindrance(confirm: Confirm) -> Option<(String, bool)> {
    let (words, is_last) = match confirm {
        Confirm::Unroutable => (
            "no queue is bound to the topic; start a service that subscribes it",
            false,
        ),
        Confirm::Refused => (
            "the broker refuses the message for now; look for a queue that is full",
            false,
        ),
        Confirm::NoAnswer => ("the broker does not answer", true),
        Confirm::Denied(why) => return Some((why, false)),
        _ => return None,
    };
    Some((words.to_owned(), is_last))
}

impl PutBack for Lane {
    fn store(&self) -> &dyn PositionStore {
        &*self.store
    }

    fn put_back<'a>(
        &'a self,
        term: &'a Term,
        messages: &'a [Message],
        ids: &'a [i64],
    ) -> BoxFuture<'a, Result<(), WriteError>> {
        Box::pin(async move {
            for message in messages {
                self.send_alone(message).await?;
            }
            Ok(self.store.unpark(term, ids).await?)
        })
    }
}

#[cfg(test)]
mod tests;

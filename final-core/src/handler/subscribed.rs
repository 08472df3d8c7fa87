//! What `#[subscribe]` makes of a function, so that the router finds its topic.
//!
//! The function stays a function: called directly, in a unit test for example, it returns a future with
//! the same output as before. This future is a [`Subscribed`], whose first parameter is a type that
//! carries the topic. So the router finds the topic in the type of the function.

use std::{
    fmt,
    marker::PhantomData,
    pin::Pin,
    task::{Context, Poll},
};

use pin_project_lite::pin_project;

use super::OnFailure;

pin_project! {
    /// The future of a function with [`#[subscribe]`](macro@crate::subscribe); `T` knows its topic.
    #[must_use = "futures do nothing unless you `.await` or poll them"]
    pub struct Subscribed<T, F> {
        #[pin]
        future: F,
        topic: PhantomData<fn() -> T>,
    }
}

impl<T, F> Subscribed<T, F> {
    /// Attaches a topic to a future.
    pub fn new(future: F) -> Self {
        Self {
            future,
            topic: PhantomData,
        }
    }
}

impl<T, F: Future> Future for Subscribed<T, F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        self.project().future.poll(cx)
    }
}

impl<T: SubscribedTopic, F> fmt::Debug for Subscribed<T, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscribed")
            .field("topic", &T::TOPIC)
            .field("name", &T::NAME)
            .finish_non_exhaustive()
    }
}

/// The topic that stands in a `#[subscribe("topic")]`.
pub trait SubscribedTopic {
    /// The topic.
    const TOPIC: &'static str;
    /// The path of the function it stands on, for errors and logs.
    const NAME: &'static str;
    /// What happens to messages that the function cannot handle. `None` if that is not said.
    const ON_FAILURE: Option<OnFailure> = None;
}

/// A function with [`#[subscribe("topic")]`](macro@crate::subscribe) on it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no topic of its own",
    label = "no `#[subscribe]` on this handler",
    note = "put `#[subscribe(\"topic\")]` on the function, or name the topic here: `.route(\"topic\", handler)`"
)]
pub trait SubscribeFn<M> {
    /// Knows the topic.
    type Topic: SubscribedTopic;
}

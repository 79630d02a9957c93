//! What the server refuses: it says so beside the calls, and answers none of them.

use std::future::{Future, pending};

use async_nats::{Event, ServerError};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::broadcast::{Sender, channel};

use crate::error::QueueError;

/// Hears the refusals of one connection, and tells the calls under way.
#[derive(Clone, Debug)]
pub(super) struct Refusals {
    said: Sender<String>,
}

impl Refusals {
    pub(super) fn new() -> Self {
        Self { said: channel(KEPT).0 }
    }

    pub(super) fn hear(&self, event: &Event) {
        let Event::ServerError(ServerError::Other(text)) = event else { return };
        if text.to_ascii_lowercase().contains(REFUSAL) {
            // Fails if no call is under way: nobody has been refused anything.
            drop(self.said.send(text.clone()));
        }
    }

    /// Ends when the server, from this moment on, refuses to take what goes to a subject that
    /// begins like one of those, or to send answers.
    pub(super) fn of(&self, subjects: &[&str]) -> impl Future<Output = QueueError> {
        let mut heard = self.said.subscribe();
        async move {
            loop {
                match heard.recv().await {
                    Ok(text) if concerns(&text, subjects) => {
                        return QueueError::Denied(text.into());
                    }
                    Ok(_) | Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => pending().await,
                }
            }
        }
    }
}

/// Whether the server has not taken what was sent; who may not hear its answers has sent it.
pub(super) fn is_not_taken(error: &QueueError) -> bool {
    let QueueError::Denied(text) = error else { return false };
    let text = text.to_string().to_ascii_lowercase();
    text.contains(REFUSAL) && !is_of_answers(&text)
}

fn is_of_answers(text: &str) -> bool {
    text.split('"').next().is_some_and(|what| what.contains("subscription"))
}

/// Whether a call that sends to those subjects waits in vain.
fn concerns(text: &str, subjects: &[&str]) -> bool {
    let Some((what, subject)) = text.split_once('"') else { return false };
    is_of_answers(&what.to_ascii_lowercase())
        || subjects.iter().any(|start| subject.starts_with(start))
}

const REFUSAL: &str = "permissions violation";
/// More than one call is refused at once: its first refusal counts.
const KEPT: usize = 16;

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn said(text: &str) -> Event {
        Event::ServerError(ServerError::Other(text.to_owned()))
    }

    #[test]
    fn a_refusal_is_told_to_the_call_that_it_is_of() {
        let refusals = Refusals::new();
        let api = &["$JS.API.STREAM.", "$JS.API.CONSUMER."];
        let (call, other) = (refusals.of(api), refusals.of(&["lifecycle.mail.jobs"]));
        let mut other = Box::pin(other);
        refusals.hear(&said("slow consumer"));
        let text = "Permissions Violation for Publish to \"$JS.API.STREAM.CREATE.mail\"";
        refusals.hear(&said(text));
        let error = call.now_or_never().expect("it is refused");
        assert!(error.to_string().contains("refused"), "{error:?}");
        assert!(matches!(&error, QueueError::Denied(why) if why.to_string() == text), "{error:?}");
        assert!(other.as_mut().now_or_never().is_none());
        assert!(is_not_taken(&error), "{error:?}");
        refusals.hear(&said("Permissions Violation for Subscription to \"_INBOX.x.*\""));
        let error = other.now_or_never().expect("no answer can reach it");
        assert!(!is_not_taken(&error), "what it asked for may be done: {error:?}");
        assert!(refusals.of(api).now_or_never().is_none(), "what came before is not of this call");
    }
}

//! Why a scenario is not passed, and the small words that say so.

use std::{fmt, time::Duration};

use crate::{
    client::{Response, WireError},
    error::{SignalError, StartError},
};

/// Why a scenario is not passed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Flaw {
    /// An expectation that was not met.
    #[error("{0}")]
    Seen(String),
    /// There is nothing to judge.
    #[error("{0}")]
    Skip(String),
    #[error("{} (the signal was to go to a running process)", .0)]
    Signal(#[from] SignalError),
    #[error("cannot start: {}", chain(.0))]
    Start(#[from] StartError),
    /// This machine has kept the clients from their part.
    #[error("{0}")]
    Unjudged(String),
    #[error("{doing}: {}", chain(source))]
    Wire { doing: &'static str, source: WireError },
}

impl Flaw {
    /// Why a second process was not judged, which is not to hide what was seen of the first.
    pub(crate) fn or_rather(self, earlier: Self) -> Self {
        match self {
            Self::Start(_) | Self::Unjudged(_) => earlier,
            later => later,
        }
    }
}

/// Says what a client was doing when it failed.
pub(crate) trait During<T> {
    fn during(self, doing: &'static str) -> Result<T, Flaw>;
}

impl<T> During<T> for Result<T, WireError> {
    fn during(self, doing: &'static str) -> Result<T, Flaw> {
        self.map_err(|source| match source.fate {
            fate if fate.is_of_this_machine() => {
                Flaw::Unjudged(format!("{doing}: {fate} on this machine"))
            }
            _ => Flaw::Wire { doing, source },
        })
    }
}

/// An expectation; `seen` says what was there instead.
pub(crate) fn ensure(met: bool, seen: impl FnOnce() -> String) -> Result<(), Flaw> {
    if met { Ok(()) } else { Err(Flaw::Seen(seen())) }
}

/// A whole 200, nothing asked of its headers.
pub(crate) fn ok(response: &Response, what: &str) -> Result<(), Flaw> {
    ensure(response.status() == 200, || format!("{what}: answered {}", response.status()))
}

/// The answer must tell the client to go.
pub(crate) fn closes(response: &Response, what: &str) -> Result<(), Flaw> {
    ensure(response.closes(), || {
        format!("{what}: answered {} without `Connection: close`", response.status())
    })
}

/// Milliseconds for a message.
pub(crate) fn ms(time: Duration) -> String {
    format!("{} ms", time.as_millis())
}

/// The error with its sources, in one line.
fn chain(error: &(impl std::error::Error + 'static)) -> impl fmt::Display {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text = format!("{text}: {inner}");
        source = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_this_machine_lacks_is_no_flaw_of_the_service() {
        for fate in [crate::Fate::NoDescriptor, crate::Fate::NoLocalPort] {
            let failed: Result<(), _> = Err(WireError::new(fate));
            let flaw = failed.during("connecting").unwrap_err();
            assert!(matches!(flaw, Flaw::Unjudged(_)), "{flaw}");
        }
    }

    #[test]
    fn a_flaw_shows_its_sources() {
        let error = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
        let failed: Result<(), _> = Err(WireError::talking(error, 1, false));
        let text = failed.during("asking").unwrap_err().to_string();
        assert_eq!(text, "asking: reset after sent: connection reset");
    }
}

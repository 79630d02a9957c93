//! The routes that the service under test offers, as templates.
//!
//! Each is optional: a scenario whose route is missing is skipped, and says which.

use std::time::Duration;

/// What the service can be asked for. Every route is optional; none is assumed.
///
/// `{ms}` and `{bytes}` in a template are replaced by a number.
///
/// # Examples
/// ```
/// let routes = lifecycle_drill::Routes::new().work("/sleep/{ms}").echo("/upload");
/// ```
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct Routes {
    pub(crate) big: Option<String>,
    pub(crate) block: Option<String>,
    pub(crate) echo: Option<String>,
    pub(crate) events: Option<String>,
    pub(crate) panic: Option<String>,
    pub(crate) pool: Option<String>,
    pub(crate) quick: Option<String>,
    pub(crate) work: Option<String>,
    pub(crate) ws: Option<String>,
}

impl Routes {
    /// No routes: only what needs none of them can be played.
    pub fn new() -> Self {
        Self::default()
    }

    /// Every route under the names that our own `target` example uses:
    /// `/work?ms={ms}`, `/echo`, `/big?bytes={bytes}`, `/events`, `/ws`,
    /// `/block?ms={ms}`, `/pool?ms={ms}`, `/panic`.
    pub fn conventional() -> Self {
        Self::new()
            .work("/work?ms={ms}")
            .echo("/echo")
            .big("/big?bytes={bytes}")
            .events("/events")
            .ws("/ws")
            .block("/block?ms={ms}")
            .pool("/pool?ms={ms}")
            .panic("/panic")
    }

    /// A GET answered at once with any status below 500, after the signal as before it.
    /// Without it [`work`](Self::work) with 0 ms is used, and without that `/`.
    pub fn quick(mut self, path: impl Into<String>) -> Self {
        self.quick = Some(path.into());
        self
    }

    /// A GET that answers 200 after `{ms}` milliseconds, waiting without blocking a thread.
    pub fn work(mut self, template: impl Into<String>) -> Self {
        self.work = Some(template.into());
        self
    }

    /// A POST that reads its whole body and answers 200 with it.
    pub fn echo(mut self, path: impl Into<String>) -> Self {
        self.echo = Some(path.into());
        self
    }

    /// A GET that answers 200 with `{bytes}` bytes, in chunks (no `Content-Length`).
    pub fn big(mut self, template: impl Into<String>) -> Self {
        self.big = Some(template.into());
        self
    }

    /// A GET answered by an endless stream of server-sent events, several each second.
    pub fn events(mut self, path: impl Into<String>) -> Self {
        self.events = Some(path.into());
        self
    }

    /// A WebSocket that sends every message back.
    pub fn ws(mut self, path: impl Into<String>) -> Self {
        self.ws = Some(path.into());
        self
    }

    /// A GET whose handler blocks its event-loop thread for `{ms}` milliseconds.
    pub fn block(mut self, template: impl Into<String>) -> Self {
        self.block = Some(template.into());
        self
    }

    /// A GET whose handler waits for a pool thread that blocks for `{ms}` milliseconds.
    pub fn pool(mut self, template: impl Into<String>) -> Self {
        self.pool = Some(template.into());
        self
    }

    /// A GET whose handler panics, or throws.
    pub fn panic(mut self, path: impl Into<String>) -> Self {
        self.panic = Some(path.into());
        self
    }

    pub(crate) fn quick_path(&self) -> String {
        match (&self.quick, &self.work) {
            (Some(path), _) => path.clone(),
            (None, Some(template)) => fill(template, "{ms}", 0),
            (None, None) => "/".to_owned(),
        }
    }
}

/// The template with its milliseconds filled in.
pub(crate) fn lasting(template: &str, time: Duration) -> String {
    fill(template, "{ms}", time.as_millis())
}

/// The template with its size filled in.
pub(crate) fn sized(template: &str, bytes: u64) -> String {
    fill(template, "{bytes}", u128::from(bytes))
}

/// The path without its query: what a report would name.
pub(crate) fn path_only(path: &str) -> &str {
    path.split(['?', '{']).next().unwrap_or(path)
}

fn fill(template: &str, hole: &str, number: u128) -> String {
    template.replace(hole, &number.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fills_the_holes_of_templates() {
        assert_eq!(lasting("/work?ms={ms}", Duration::from_millis(1500)), "/work?ms=1500");
        assert_eq!(sized("/big/{bytes}/x", 7), "/big/7/x");
        assert_eq!(path_only("/work?ms={ms}"), "/work");
        assert_eq!(path_only("/sleep/{ms}"), "/sleep/");
    }

    #[test]
    fn the_quick_path_falls_back_to_work_then_to_the_root() {
        assert_eq!(Routes::new().quick_path(), "/");
        assert_eq!(Routes::conventional().quick_path(), "/work?ms=0");
        assert_eq!(Routes::conventional().quick("/ping").quick_path(), "/ping");
    }
}

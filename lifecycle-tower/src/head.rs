//! What a response's head becomes during a shutdown.
//!
//! Pure.

use http::{HeaderMap, HeaderValue, Method, StatusCode, Version, header};
use lifecycle::Phase;

/// What of a request has to be known when its response comes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    pub(crate) version: Version,
    pub(crate) connect: bool,
}

impl Asked {
    #[inline]
    pub(crate) fn of<B>(request: &http::Request<B>) -> Self {
        Self { version: request.version(), connect: request.method() == Method::CONNECT }
    }

    /// Whether this answer hands the connection over to another protocol.
    pub(crate) fn is_upgraded_by(self, status: StatusCode) -> bool {
        status == StatusCode::SWITCHING_PROTOCOLS || (self.connect && status.is_success())
    }

    /// From the cause on, tells an HTTP/1 client to go elsewhere with its next request:
    /// HTTP/1 has no other way to say so. Not on an upgrade, where the header means
    /// something else; not on HTTP/2, which has GOAWAY.
    pub(crate) fn close(self, phase: Phase, status: StatusCode, headers: &mut HeaderMap) {
        if phase.is_shutting_down() {
            self.leave(status, headers);
        }
    }

    /// The same, for whatever reason.
    pub(crate) fn leave(self, status: StatusCode, headers: &mut HeaderMap) {
        let http1 = self.version <= Version::HTTP_11;
        if http1 && !self.is_upgraded_by(status) {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_close_on_http1_from_the_cause_on_but_not_on_upgrades() {
        let (ok, switching) = (StatusCode::OK, StatusCode::SWITCHING_PROTOCOLS);
        let (get, connect) = (false, true);
        for (phase, version, connect, status, closes) in [
            (Phase::Running, Version::HTTP_11, get, ok, false),
            (Phase::LameDuck, Version::HTTP_11, get, ok, true),
            (Phase::LameDuck, Version::HTTP_10, get, ok, true),
            (Phase::Draining, Version::HTTP_11, get, ok, true),
            (Phase::Cancelling, Version::HTTP_11, get, ok, true),
            (Phase::LameDuck, Version::HTTP_2, get, ok, false),
            (Phase::LameDuck, Version::HTTP_11, get, switching, false),
            (Phase::LameDuck, Version::HTTP_11, connect, ok, false),
            (Phase::LameDuck, Version::HTTP_11, connect, StatusCode::FORBIDDEN, true),
        ] {
            let mut headers = HeaderMap::new();
            Asked { version, connect }.close(phase, status, &mut headers);
            let said = headers.get(header::CONNECTION).is_some();
            assert_eq!(said, closes, "{phase} {version:?} {connect} {status}");
        }
    }

    #[test]
    fn replaces_a_keep_alive() {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONNECTION, HeaderValue::from_static("keep-alive"));
        let asked = Asked { version: Version::HTTP_10, connect: false };
        asked.close(Phase::LameDuck, StatusCode::OK, &mut headers);
        assert_eq!(headers[header::CONNECTION], "close");
    }
}

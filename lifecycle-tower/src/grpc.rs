//! What of gRPC a server has to know to end a call in words that its clients understand.
//!
//! Pure: headers and times in, headers and times out. gRPC over HTTP/2 alone: gRPC-Web
//! carries its status in the body, where nobody but its translator can put one.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Version, header};

/// Why a call is ended by the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// Its stream was to end at the drain.
    AtDrain,
    /// The hard stop has come.
    AtHardStop,
}

impl Ended {
    /// What a call that ends so ends with: status UNAVAILABLE, at which clients look for
    /// another server.
    pub(crate) fn trailers(self) -> HeaderMap {
        let message = match self {
            Self::AtDrain => DRAIN,
            Self::AtHardStop => HARD_STOP,
        };
        let mut trailers = HeaderMap::with_capacity(2);
        trailers.insert(STATUS, HeaderValue::from_static(UNAVAILABLE));
        trailers.insert(MESSAGE, HeaderValue::from_static(message));
        trailers
    }
}

/// Whether that is the head of a gRPC request or response.
pub(crate) fn is_grpc(version: Version, headers: &HeaderMap) -> bool {
    version == Version::HTTP_2
        && headers.get(header::CONTENT_TYPE).is_some_and(|value| {
            let value = value.as_bytes();
            // `application/grpc-web` is another protocol.
            value.len() >= GRPC.len()
                && value[..GRPC.len()].eq_ignore_ascii_case(GRPC.as_bytes())
                && matches!(value.get(GRPC.len()), None | Some(b'+' | b';'))
        })
}

/// How long after the hard stop a call may end by itself. The rest of the cancel window is
/// for the status to reach the socket, past other tasks and what is sent before it: a
/// quarter; of a short one 100 ms, but never more than half.
pub(crate) fn time_to_end(cancel_window: Duration) -> Duration {
    let status = (cancel_window / 4).max(STATUS_LEAST).min(cancel_window / 2);
    cancel_window - status
}

const STATUS_LEAST: Duration = Duration::from_millis(100);
/// The content type of gRPC, to which a suffix may name the codec.
pub(crate) const GRPC: &str = "application/grpc";
const STATUS: HeaderName = HeaderName::from_static("grpc-status");
const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
/// <https://grpc.github.io/grpc/core/md_doc_statuscodes.html>
const UNAVAILABLE: &str = "14";
// Neither has a character that would have to be percent-encoded: those below the space, the
// percent sign and those above the tilde.
const DRAIN: &str = "shutdown: drain";
const HARD_STOP: &str = "shutdown: hard stop";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grpc_is_told_by_version_and_content_type() {
        let is = |version, kind: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
            is_grpc(version, &headers)
        };
        for kind in ["application/grpc", "application/grpc+proto", "Application/gRPC; a=b"] {
            assert!(is(Version::HTTP_2, kind), "{kind}");
            assert!(!is(Version::HTTP_11, kind), "HTTP/1 has no gRPC: {kind}");
        }
        for kind in ["application/grpc-web", "application/grpc-web+proto", "application/grp", ""] {
            assert!(!is(Version::HTTP_2, kind), "{kind}");
        }
        assert!(!is_grpc(Version::HTTP_2, &HeaderMap::new()));
    }

    #[test]
    fn messages_need_no_percent_encoding() {
        for ended in [Ended::AtDrain, Ended::AtHardStop] {
            let trailers = ended.trailers();
            let message = trailers[MESSAGE].as_bytes();
            assert!(message.iter().all(|byte| (b' '..=b'~').contains(byte) && *byte != b'%'));
            assert_eq!(trailers[STATUS], UNAVAILABLE);
        }
    }

    #[test]
    fn a_part_of_the_window_is_left_for_the_status() {
        // The longest, of 30 s and of 10 s of grace, of a forced stop, the shortest.
        for (window, until) in
            [(2_000, 1_500), (1_500, 1_125), (500, 375), (250, 150), (100, 50), (0, 0)]
        {
            let [window, until] = [window, until].map(Duration::from_millis);
            assert_eq!(time_to_end(window), until, "{window:?}");
        }
    }
}

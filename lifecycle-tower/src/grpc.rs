//! What of gRPC a server has to know to end a call in words that its clients understand.
//!
//! Pure: headers in, headers out. gRPC over HTTP/2 alone: gRPC-Web carries its status in the
//! body, where nobody but its translator can put one.

use http::{HeaderMap, HeaderName, HeaderValue, Version, header};

/// What a call that the server ends has for trailers: status UNAVAILABLE, at which clients
/// look for another server. `message` is plain ASCII without a percent sign, which would have
/// to be encoded.
pub(crate) fn unavailable(message: &'static str) -> HeaderMap {
    debug_assert!(message.bytes().all(|byte| (b' '..=b'~').contains(&byte) && byte != b'%'));
    let mut trailers = HeaderMap::with_capacity(2);
    trailers.insert(STATUS, HeaderValue::from_static(UNAVAILABLE));
    trailers.insert(MESSAGE, HeaderValue::from_static(message));
    trailers
}

/// Whether that is the head of a gRPC request or response.
pub(crate) fn is_grpc(version: Version, headers: &HeaderMap) -> bool {
    if version != Version::HTTP_2 {
        return false;
    }
    // `application/grpc-web` is another protocol.
    let kind = headers.get(header::CONTENT_TYPE);
    kind.is_some_and(|kind| matches!(after_name(kind), Some(None | Some(b'+' | b';'))))
}

/// The byte behind gRPC's name in a content type that begins with it, if there is one.
pub(crate) fn after_name(kind: &HeaderValue) -> Option<Option<u8>> {
    let kind = kind.as_bytes();
    let name = kind.get(..GRPC.len())?;
    name.eq_ignore_ascii_case(GRPC.as_bytes()).then(|| kind.get(GRPC.len()).copied())
}

/// The content type of gRPC, to which a suffix may name the codec.
pub(crate) const GRPC: &str = "application/grpc";
const STATUS: HeaderName = HeaderName::from_static("grpc-status");
const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
/// <https://grpc.github.io/grpc/core/md_doc_statuscodes.html>
const UNAVAILABLE: &str = "14";
/// The message of a stream that its policy ends.
pub(crate) const DRAIN: &str = "shutdown: drain";

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
    fn trailers_say_unavailable_and_why() {
        let trailers = unavailable(DRAIN);
        assert_eq!(trailers["grpc-status"], "14");
        assert_eq!(trailers["grpc-message"], "shutdown: drain");
    }
}

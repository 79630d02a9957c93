//! HTTP/2 frames as they pass by. Pure: no socket, no clock.
//!
//! The `h2` crate hides what we must judge: the last stream id of each GOAWAY.

/// Reads frame headers out of a byte stream, and the payload of GOAWAY.
#[derive(Debug, Default)]
pub(crate) struct Scan {
    header: Vec<u8>,
    payload: Vec<u8>,
    /// Payload bytes of the current frame still to come.
    left: usize,
    in_payload: bool,
    seen: Seen,
}

/// What has passed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// The last stream id of each GOAWAY, in order.
    pub(crate) goaways: Vec<u32>,
    /// Streams that the peer has ended (END_STREAM).
    pub(crate) ended: Vec<u32>,
    /// Streams that the peer has torn (RST_STREAM).
    pub(crate) reset: Vec<u32>,
    /// Whether the peer's SETTINGS came.
    pub(crate) settings: bool,
    /// PINGs that ask for an answer.
    pub(crate) pings: u32,
}

impl Scan {
    pub(crate) fn seen(&self) -> &Seen {
        &self.seen
    }

    pub(crate) fn push(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let want = if self.in_payload { self.left } else { HEADER - self.header.len() };
            let (now, later) = bytes.split_at(want.min(bytes.len()));
            bytes = later;
            if self.in_payload {
                self.left -= now.len();
                let room = PAYLOAD_KEPT.saturating_sub(self.payload.len());
                self.payload.extend_from_slice(now.get(..room).unwrap_or(now));
            } else {
                self.header.extend_from_slice(now);
                let &[a, b, c, ..] = self.header.as_slice() else {
                    continue;
                };
                if self.header.len() < HEADER {
                    continue;
                }
                self.left = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
                self.in_payload = true;
            }
            if self.left == 0 {
                self.frame();
            }
        }
    }

    fn frame(&mut self) {
        if let &[_, _, _, kind, flags, a, b, c, d] = self.header.as_slice() {
            let stream = u32::from_be_bytes([a, b, c, d]) & LAST_ID_MAX;
            match (kind, self.payload.as_slice()) {
                (DATA | HEADERS, _) if flags & END_STREAM != 0 => self.seen.ended.push(stream),
                (RST_STREAM, _) => self.seen.reset.push(stream),
                (SETTINGS, _) if flags & ACK == 0 => self.seen.settings = true,
                (PING, _) if flags & ACK == 0 => self.seen.pings += 1,
                (GOAWAY, &[a, b, c, d, ..]) => {
                    self.seen.goaways.push(u32::from_be_bytes([a, b, c, d]) & LAST_ID_MAX);
                }
                _ => {}
            }
        }
        self.header.clear();
        self.payload.clear();
        self.in_payload = false;
    }
}

/// Bytes of a client that speaks HTTP/2 by hand, to leave things out.
pub(crate) mod raw {
    /// The connection preface of RFC 9113, 3.4.
    pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

    /// An empty SETTINGS frame.
    pub(crate) const SETTINGS: &[u8] = &[0, 0, 0, super::SETTINGS, 0, 0, 0, 0, 0];

    /// SETTINGS with the largest window for each stream (INITIAL_WINDOW_SIZE, RFC 9113, 6.5.2), and
    /// as much for the connection, so that no answer waits for more.
    #[rustfmt::skip]
    pub(crate) const WIDE_SETTINGS: &[u8] = &[
        0, 0, 6, super::SETTINGS, 0, 0, 0, 0, 0, 0, 4, 0x7f, 0xff, 0xff, 0xff,
        // All but the 65 535 that there are at first.
        0, 0, 4, super::WINDOW_UPDATE, 0, 0, 0, 0, 0, 0x7f, 0xff, 0, 0,
    ];

    /// The acknowledgement of the peer's SETTINGS.
    pub(crate) const SETTINGS_ACK: &[u8] = &[0, 0, 0, super::SETTINGS, super::ACK, 0, 0, 0, 0];

    /// Whether there is TLS beneath.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) enum Scheme {
        Http,
        Https,
    }

    /// A GET on this stream, complete. Not for more headers than one frame holds, 16 KiB.
    pub(crate) fn request(
        stream: u32,
        (scheme, authority): (Scheme, &str),
        path: &str,
        headers: &[(String, String)],
    ) -> Vec<u8> {
        // HPACK, RFC 7541: indexed :method GET and :scheme; literals without indexing for :path
        // (index 4), :authority (index 1) and the rest, without Huffman coding.
        let scheme = match scheme {
            Scheme::Http => 0x86,
            Scheme::Https => 0x87,
        };
        let mut block = vec![0x82, scheme, 0x04];
        string(&mut block, path);
        block.push(0x01);
        string(&mut block, authority);
        for (name, value) in headers {
            block.push(0);
            string(&mut block, &name.to_ascii_lowercase());
            string(&mut block, value);
        }
        let [.., a, b, c] = block.len().to_be_bytes();
        let flags = super::END_STREAM | super::END_HEADERS;
        [&[a, b, c, super::HEADERS, flags], &stream.to_be_bytes()[..], &block].concat()
    }

    /// A literal: its length with a prefix of seven bits, and its bytes.
    fn string(block: &mut Vec<u8>, text: &str) {
        match u8::try_from(text.len()) {
            Ok(length @ ..127) => block.push(length),
            _ => {
                block.push(127);
                let mut rest = text.len().saturating_sub(127);
                while rest >= 128 {
                    block.push(u8::try_from(rest % 128).unwrap_or_default() | 128);
                    rest /= 128;
                }
                block.push(u8::try_from(rest).unwrap_or_default());
            }
        }
        block.extend_from_slice(text.as_bytes());
    }
}

const HEADER: usize = 9;
const PAYLOAD_KEPT: usize = 8;
const LAST_ID_MAX: u32 = 0x7fff_ffff;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;

const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

    use super::*;

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = u8::try_from(payload.len()).unwrap();
        [&[0, 0, length, kind, flags], &stream.to_be_bytes()[..], payload].concat()
    }

    #[test]
    fn sees_frames_over_any_border_between_reads() {
        let bytes = [
            raw::SETTINGS.to_vec(),
            raw::SETTINGS_ACK.to_vec(),
            frame(DATA, 0, 1, b"abc"),
            frame(DATA, END_STREAM, 3, b""),
            frame(RST_STREAM, 0, 5, &[0, 0, 0, 2]),
            frame(PING, 0, 0, &[0; 8]),
            frame(PING, ACK, 0, &[0; 8]),
            frame(GOAWAY, 0, 0, &[0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0, b'x']),
            frame(GOAWAY, 0, 0, &[0, 0, 0, 5, 0, 0, 0, 0]),
        ]
        .concat();
        let seen = Seen {
            goaways: vec![LAST_ID_MAX, 5],
            ended: vec![3],
            reset: vec![5],
            settings: true,
            pings: 1,
        };
        for size in [1, 2, 7, 9, 10, bytes.len()] {
            let mut scan = Scan::default();
            bytes.chunks(size).for_each(|chunk| scan.push(chunk));
            assert_eq!(*scan.seen(), seen, "in pieces of {size}");
        }
    }

    #[tokio::test]
    async fn the_handmade_request_is_understood_by_a_real_server() {
        let long = format!("/x?y={}", "1".repeat(500));
        let headers = [("X-Key".to_owned(), "v".repeat(127))];
        for (scheme, name) in [(raw::Scheme::Http, "http"), (raw::Scheme::Https, "https")] {
            let (mut client, server) = tokio::io::duplex(1024 * 1024);
            let ask = raw::request(1, (scheme, "drill:80"), &long, &headers);
            let bytes = [raw::PREFACE, raw::WIDE_SETTINGS, &ask].concat();
            tokio::io::AsyncWriteExt::write_all(&mut client, &bytes).await.unwrap();
            let mut connection = h2::server::handshake(server).await.unwrap();
            let (request, mut respond) = connection.accept().await.unwrap().unwrap();
            assert_eq!(request.uri().to_string(), format!("{name}://drill:80{long}"));
            assert_eq!(request.headers()["x-key"], headers[0].1);
            // More than the first window of a stream, and of a connection.
            let mut body = respond.send_response(http::Response::new(()), false).unwrap();
            body.send_data(vec![b'x'; 200_000].into(), true).unwrap();
            let mut scan = Scan::default();
            let read = async {
                while !scan.seen().ended.contains(&1) {
                    let mut chunk = [0; 4096];
                    let count = client.read(&mut chunk).await.unwrap();
                    scan.push(&chunk[..count]);
                }
            };
            tokio::select! {
                () = read => {}
                over = connection.accept() => panic!("{over:?}"),
            }
        }
    }
}

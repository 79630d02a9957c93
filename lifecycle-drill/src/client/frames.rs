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

    /// The acknowledgement of the peer's SETTINGS.
    pub(crate) const SETTINGS_ACK: &[u8] = &[0, 0, 0, super::SETTINGS, super::ACK, 0, 0, 0, 0];

    /// A GET on this stream, complete. Paths longer than 126 bytes are cut.
    pub(crate) fn get(stream: u32, path: &str) -> Vec<u8> {
        // HPACK, RFC 7541: indexed :method GET and :scheme http; literals without indexing for
        // :path (index 4) and :authority (index 1), without Huffman coding.
        let path = path.as_bytes();
        let path = path.get(..126).unwrap_or(path);
        let path_length = u8::try_from(path.len()).unwrap_or(126);
        let block = [&[0x82, 0x86, 0x04, path_length], path, b"\x01\x05drill"].concat();
        let length = u8::try_from(block.len()).unwrap_or(u8::MAX);
        let flags = super::END_STREAM | super::END_HEADERS;
        [&[0, 0, length, super::HEADERS, flags], &stream.to_be_bytes()[..], &block].concat()
    }
}

const HEADER: usize = 9;
const PAYLOAD_KEPT: usize = 8;
const LAST_ID_MAX: u32 = 0x7fff_ffff;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;

const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

#[cfg(test)]
mod tests {
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
            frame(PING, 0, 0, &[0; 8]),
            frame(PING, ACK, 0, &[0; 8]),
            frame(GOAWAY, 0, 0, &[0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0, b'x']),
            frame(GOAWAY, 0, 0, &[0, 0, 0, 5, 0, 0, 0, 0]),
        ]
        .concat();
        let seen = Seen { goaways: vec![LAST_ID_MAX, 5], ended: vec![3], settings: true, pings: 1 };
        for size in [1, 2, 7, 9, 10, bytes.len()] {
            let mut scan = Scan::default();
            bytes.chunks(size).for_each(|chunk| scan.push(chunk));
            assert_eq!(*scan.seen(), seen, "in pieces of {size}");
        }
    }

    #[tokio::test]
    async fn the_handmade_request_is_understood_by_a_real_server() {
        let (client, server) = tokio::io::duplex(4096);
        let bytes = [raw::PREFACE, raw::SETTINGS, &raw::get(1, "/x?y=1")].concat();
        let (mut client, mut connection) = {
            let mut client = client;
            tokio::io::AsyncWriteExt::write_all(&mut client, &bytes).await.unwrap();
            (client, h2::server::handshake(server).await.unwrap())
        };
        let (request, _) = connection.accept().await.unwrap().unwrap();
        assert_eq!(request.uri().to_string(), "http://drill/x?y=1");
        tokio::io::AsyncWriteExt::shutdown(&mut client).await.unwrap();
    }
}

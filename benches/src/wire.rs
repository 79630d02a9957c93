//! HTTP/1 and HTTP/2 as bytes, for a client that costs far less than a server: what goes out
//! is always the same, and of what comes in it looks for ends of responses alone.
//!
//! # Invariants
//! 1. Every response is a 200, or it panics.

use std::mem;

/// Which protocol is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "not published")]
pub enum Protocol {
    /// HTTP/1.1, keep-alive.
    Http1,
    /// HTTP/2 with prior knowledge (h2c).
    Http2,
}

/// What is asked for, time and again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "not published")]
pub enum Ask {
    /// `GET /`.
    Get,
    /// `POST /echo` with 256 bytes.
    Post,
}

/// One connection's side of the protocol.
#[derive(Debug)]
pub struct Wire(Speaks);

#[derive(Debug)]
enum Speaks {
    Http1(Http1),
    Http2(Http2),
}

#[derive(Debug)]
struct Http1 {
    request: Vec<u8>,
    /// Of a response, once the first has come: its date is as long on every day.
    len: Option<usize>,
    /// Of the first response.
    first: Vec<u8>,
    /// Of the one that is being received.
    got: usize,
}

#[derive(Debug)]
struct Http2 {
    ask: Ask,
    next_stream: u32,
    /// A frame that has not wholly come.
    rest: Vec<u8>,
}

impl Protocol {
    /// In the tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Http1 => "h1",
            Self::Http2 => "h2",
        }
    }

    /// That of this name.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        [Self::Http1, Self::Http2].into_iter().find(|protocol| protocol.name() == name)
    }
}

impl Ask {
    /// In the tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
        }
    }
}

impl Wire {
    /// A new connection; `out` gets what comes before its first request.
    pub fn new(protocol: Protocol, ask: Ask, out: &mut Vec<u8>) -> Self {
        Self(match protocol {
            Protocol::Http1 => Speaks::Http1(Http1::new(ask)),
            Protocol::Http2 => Speaks::Http2(Http2::new(ask, out)),
        })
    }

    /// Adds a request to `out`.
    pub fn ask(&mut self, out: &mut Vec<u8>) {
        match &mut self.0 {
            Speaks::Http1(http1) => out.extend_from_slice(&http1.request),
            Speaks::Http2(http2) => http2.request(out),
        }
    }

    /// How many responses have ended with these bytes; `out` gets what the protocol answers.
    ///
    /// # Panics
    /// When one is no success.
    #[must_use]
    pub fn take(&mut self, received: &[u8], out: &mut Vec<u8>) -> usize {
        match &mut self.0 {
            Speaks::Http1(http1) => http1.take(received),
            Speaks::Http2(http2) => http2.take(received, out),
        }
    }
}

impl Http1 {
    fn new(ask: Ask) -> Self {
        let request = match ask {
            Ask::Get => b"GET / HTTP/1.1\r\nhost: bench\r\n\r\n".to_vec(),
            Ask::Post => {
                let head = format!(
                    "POST /echo HTTP/1.1\r\nhost: bench\r\ncontent-length: {}\r\n\r\n",
                    BODY.len()
                );
                [head.as_bytes(), &BODY].concat()
            }
        };
        Self { request, len: None, first: Vec::new(), got: 0 }
    }

    fn take(&mut self, received: &[u8]) -> usize {
        let Some(len) = self.len else {
            self.first.extend_from_slice(received);
            let Some(len) = response_len(&self.first) else { return 0 };
            self.len = Some(len);
            let first = mem::take(&mut self.first);
            return self.take(&first);
        };
        let next = (len - self.got) % len;
        if let Some(next) = received.get(next..next + OK.len()) {
            assert_eq!(next, OK, "{}", String::from_utf8_lossy(received));
        }
        let got = self.got + received.len();
        self.got = got % len;
        got / len
    }
}

/// How long the response is of which these are the first bytes, when its head is there.
fn response_len(bytes: &[u8]) -> Option<usize> {
    let head = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let lines = String::from_utf8_lossy(&bytes[..head]).to_lowercase();
    let body = lines.lines().find_map(|line| line.strip_prefix("content-length:"));
    let body: usize = body.and_then(|len| len.trim().parse().ok()).expect("it says its length");
    Some(head + body)
}

impl Http2 {
    fn new(ask: Ask, out: &mut Vec<u8>) -> Self {
        out.extend_from_slice(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        frame(out, SETTINGS, 0, 0, &[]);
        // As much as there can be: no response waits for us to say that it may be sent.
        frame(out, WINDOW_UPDATE, 0, 0, &(WINDOW_MOST - WINDOW_FIRST).to_be_bytes());
        Self { ask, next_stream: 1, rest: Vec::new() }
    }

    fn request(&mut self, out: &mut Vec<u8>) {
        let stream = self.next_stream;
        self.next_stream += 2;
        // HPACK by the static table and literals alone: always the same bytes.
        match self.ask {
            Ask::Get => {
                // GET, http, "/", and "bench" for the authority.
                let head = b"\x82\x86\x84\x01\x05bench";
                frame(out, HEADERS, END_HEADERS | END_STREAM, stream, head);
            }
            Ask::Post => {
                // POST, http, "/echo", the authority, "256" for the content-length.
                let head = b"\x83\x86\x04\x05/echo\x01\x05bench\x0f\x0d\x03256";
                frame(out, HEADERS, END_HEADERS, stream, head);
                // The server gives its window back long before a few of these have used it up.
                frame(out, DATA, END_STREAM, stream, &BODY);
            }
        }
    }

    fn take(&mut self, received: &[u8], out: &mut Vec<u8>) -> usize {
        let joined;
        let mut bytes = received;
        if !self.rest.is_empty() {
            joined = [&self.rest, received].concat();
            bytes = &joined;
        }
        let mut ended = 0;
        while let Some((head, more)) = bytes.split_first_chunk::<FRAME_HEAD>() {
            let len = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            let Some((payload, more)) = more.split_at_checked(len) else { break };
            bytes = more;
            ended += usize::from(self.frame_ends(head[3], head[4], payload, out));
        }
        self.rest = bytes.to_vec();
        ended
    }

    /// Whether a response ends with this frame.
    fn frame_ends(&self, kind: u8, flags: u8, payload: &[u8], out: &mut Vec<u8>) -> bool {
        match kind {
            HEADERS => assert_eq!(payload.first(), Some(&STATUS_200), "a response: {payload:x?}"),
            SETTINGS if flags & ACK == 0 => frame(out, SETTINGS, ACK, 0, &[]),
            PING if flags & ACK == 0 => frame(out, PING, ACK, 0, payload),
            RST_STREAM | GOAWAY => panic!("frame {kind} before {}: {payload:x?}", self.next_stream),
            _ => {}
        }
        matches!(kind, HEADERS | DATA) && flags & END_STREAM != 0
    }
}

fn frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    let len = u32::try_from(payload.len()).expect("a short one").to_be_bytes();
    out.extend_from_slice(&len[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}

const OK: &[u8] = b"HTTP/1.1 200 OK\r\n";
const BODY: [u8; 256] = [b'x'; 256];

// RFC 9113, 4.1 and 6.
const FRAME_HEAD: usize = 9;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
const WINDOW_FIRST: u32 = 65_535;
const WINDOW_MOST: u32 = (1 << 31) - 1;
/// The static table's `:status: 200`.
const STATUS_200: u8 = 0x88;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn http1_responses_end_where_the_first_did_however_they_are_cut() {
        let response = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
        let three = response.repeat(3);
        for cut in 0..three.len() {
            let mut wire = Http1::new(Ask::Get);
            let (first, rest) = three.split_at(cut);
            assert_eq!(wire.take(first), cut / response.len(), "cut at {cut}");
            assert_eq!(wire.take(rest), 3 - cut / response.len(), "cut at {cut}");
        }
    }

    #[test]
    #[should_panic(expected = "503")]
    fn http1_another_status_is_found() {
        let mut wire = Http1::new(Ask::Get);
        assert_eq!(wire.take(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"), 1);
        assert_eq!(wire.take(b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n"), 1);
    }

    #[test]
    fn http2_responses_end_with_their_streams_however_they_are_cut() {
        let mut answer = Vec::new();
        frame(&mut answer, SETTINGS, 0, 0, &[]);
        for stream in [1, 3] {
            frame(&mut answer, HEADERS, END_HEADERS, stream, &[STATUS_200]);
            frame(&mut answer, DATA, END_STREAM, stream, b"hello\n");
        }
        for cut in 0..answer.len() {
            let (mut hello, mut said) = (Vec::new(), Vec::new());
            let mut wire = Http2::new(Ask::Get, &mut hello);
            let (first, rest) = answer.split_at(cut);
            assert_eq!(wire.take(first, &mut said) + wire.take(rest, &mut said), 2, "cut at {cut}");
            let mut ack = Vec::new();
            frame(&mut ack, SETTINGS, ACK, 0, &[]);
            assert_eq!(said, ack);
        }
    }
}

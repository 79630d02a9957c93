//! Reading one HTTP/1 response from a growing buffer. Pure: no socket, no clock.
//!
//! Not a general client: just enough of RFC 9112 to tell a whole response from a part of one.

use bytes::{Buf as _, BytesMut};

/// A response that arrived whole.
#[derive(Clone, Debug)]
#[must_use]
pub struct Response {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    body_length: u64,
    framing: Framing,
    closes: bool,
}

/// How the end of a body is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    Chunked,
    Eof,
    Length(u64),
}

/// The bytes that came are not an HTTP/1 response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an HTTP/1 response: {0}")]
pub(crate) struct Garbled(&'static str);

/// Reads one response.
#[derive(Debug)]
pub(crate) struct Reader {
    part: Part,
    response: Option<Response>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    ChunkData(u64),
    ChunkEnd,
    ChunkSize,
    Done,
    Head,
    Length(u64),
    Trailers,
    UntilEof,
}

impl Response {
    /// The status code.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The first header of this name, in any case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// Whether the client must not use the connection again: by `Connection: close`, by
    /// HTTP/1.0 without `keep-alive`, or as only the connection's end ends the body.
    #[must_use]
    pub fn closes(&self) -> bool {
        self.closes
    }

    /// The body, its first MiB at most; see [`body_length`](Self::body_length).
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// How many bytes of body came.
    #[must_use]
    pub fn body_length(&self) -> u64 {
        self.body_length
    }

    pub(crate) fn framing(&self) -> Framing {
        self.framing
    }

    fn has_connection_option(&self, option: &str) -> bool {
        let mut connection =
            self.headers.iter().filter(|(key, _)| key.eq_ignore_ascii_case("connection"));
        connection
            .any(|(_, value)| value.split(',').any(|one| one.trim().eq_ignore_ascii_case(option)))
    }

    fn take(&mut self, bytes: &[u8]) {
        self.body_length += bytes.len() as u64;
        let room = BODY_KEPT.saturating_sub(self.body.len());
        self.body.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
    }
}

impl Reader {
    pub(crate) fn new() -> Self {
        Self { part: Part::Head, response: None }
    }

    /// Takes what it can from the buffer. Call again when it has grown.
    pub(crate) fn feed(&mut self, buffer: &mut BytesMut) -> Result<(), Garbled> {
        while self.step(buffer)? {}
        Ok(())
    }

    /// The connection ended. Whether that completes the response.
    pub(crate) fn eof(&mut self) -> bool {
        if self.part == Part::UntilEof {
            self.part = Part::Done;
        }
        self.is_done()
    }

    pub(crate) fn is_done(&self) -> bool {
        self.part == Part::Done
    }

    /// The response so far, from the end of its head on.
    pub(crate) fn so_far(&self) -> Option<&Response> {
        self.response.as_ref()
    }

    pub(crate) fn into_response(self) -> Option<Response> {
        self.response.filter(|_| self.part == Part::Done)
    }

    /// One step; `false` when more bytes are needed or it is done.
    fn step(&mut self, buffer: &mut BytesMut) -> Result<bool, Garbled> {
        match self.part {
            Part::Done => return Ok(false),
            Part::Head => return self.head(buffer),
            Part::UntilEof => {
                let all = buffer.len() as u64;
                return Ok(self.body(buffer, all) > 0);
            }
            Part::Length(left) => {
                let left = left - self.body(buffer, left);
                self.part = if left == 0 { Part::Done } else { Part::Length(left) };
                return Ok(left == 0);
            }
            Part::ChunkData(left) => {
                let left = left - self.body(buffer, left);
                self.part = if left == 0 { Part::ChunkEnd } else { Part::ChunkData(left) };
                return Ok(left == 0);
            }
            Part::ChunkEnd | Part::ChunkSize | Part::Trailers => {}
        }
        let Some(line) = line(buffer)? else {
            return Ok(false);
        };
        self.part = match self.part {
            Part::ChunkEnd if line.is_empty() => Part::ChunkSize,
            Part::ChunkEnd => return Err(Garbled("no line end after a chunk")),
            Part::ChunkSize => match chunk_size(&line)? {
                0 => Part::Trailers,
                size => Part::ChunkData(size),
            },
            Part::Trailers if line.is_empty() => Part::Done,
            same => same,
        };
        Ok(true)
    }

    fn body(&mut self, buffer: &mut BytesMut, limit: u64) -> u64 {
        let count = usize::try_from(limit).unwrap_or(usize::MAX).min(buffer.len());
        if let (Some(response), Some(bytes)) = (&mut self.response, buffer.get(..count)) {
            response.take(bytes);
        }
        buffer.advance(count);
        count as u64
    }

    fn head(&mut self, buffer: &mut BytesMut) -> Result<bool, Garbled> {
        let (mut few, mut many);
        few = [httparse::EMPTY_HEADER; HEADERS_USUAL];
        let mut parsed = httparse::Response::new(&mut few);
        let mut status = parsed.parse(buffer);
        if matches!(status, Err(httparse::Error::TooManyHeaders)) {
            many = vec![httparse::EMPTY_HEADER; HEADERS_MAX];
            parsed = httparse::Response::new(&mut many);
            status = parsed.parse(buffer);
        }
        let length = match status {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) => return Ok(false),
            Err(_) => return Err(Garbled("bad head")),
        };
        let status = parsed.code.ok_or(Garbled("no status"))?;
        let text = |header: &httparse::Header<'_>| {
            (header.name.to_owned(), String::from_utf8_lossy(header.value).into_owned())
        };
        let headers = parsed.headers.iter().map(text).collect();
        let parsed_version = parsed.version;
        buffer.advance(length);
        if (100..200).contains(&status) && status != 101 {
            return Ok(true); // Interim (100 Continue): the real one follows.
        }
        let old = parsed_version == Some(0);
        let framing = Framing::Eof;
        let mut response =
            Response { status, headers, body: Vec::new(), body_length: 0, framing, closes: old };
        response.framing = self::framing(&response)?;
        response.closes = response.has_connection_option("close")
            || (old && !response.has_connection_option("keep-alive"))
            || response.framing == Framing::Eof;
        self.part = match response.framing {
            Framing::Chunked => Part::ChunkSize,
            Framing::Eof => Part::UntilEof,
            Framing::Length(0) => Part::Done,
            Framing::Length(length) => Part::Length(length),
        };
        self.response = Some(response);
        Ok(true)
    }
}

fn framing(response: &Response) -> Result<Framing, Garbled> {
    let bodyless = matches!(response.status, 101 | 204 | 304);
    match (response.header("transfer-encoding"), response.header("content-length")) {
        _ if bodyless => Ok(Framing::Length(0)),
        (Some(coding), _) if coding.to_ascii_lowercase().ends_with("chunked") => {
            Ok(Framing::Chunked)
        }
        (Some(_), _) | (None, None) => Ok(Framing::Eof),
        (None, Some(length)) => {
            length.trim().parse().map(Framing::Length).map_err(|_| Garbled("bad content-length"))
        }
    }
}

/// Takes one line off the buffer, without its end.
fn line(buffer: &mut BytesMut) -> Result<Option<BytesMut>, Garbled> {
    match buffer.iter().position(|byte| *byte == b'\n') {
        Some(end) => {
            let mut line = buffer.split_to(end + 1);
            line.truncate(if line.ends_with(b"\r\n") { end - 1 } else { end });
            Ok(Some(line))
        }
        None if buffer.len() > LINE_MAX => Err(Garbled("endless line")),
        None => Ok(None),
    }
}

fn chunk_size(line: &[u8]) -> Result<u64, Garbled> {
    let digits = line.split(|byte| *byte == b';').next().unwrap_or_default();
    let digits = std::str::from_utf8(digits).map_err(|_| Garbled("bad chunk size"))?.trim();
    u64::from_str_radix(digits, 16).map_err(|_| Garbled("bad chunk size"))
}

const BODY_KEPT: usize = 1024 * 1024;
const HEADERS_USUAL: usize = 64;
/// More than any server or client of note takes.
const HEADERS_MAX: usize = 1024;
const LINE_MAX: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds the bytes one by one: every border between two reads is met.
    fn read(bytes: &[u8]) -> (Reader, BytesMut) {
        let (mut reader, mut buffer) = (Reader::new(), BytesMut::new());
        for byte in bytes {
            buffer.extend_from_slice(&[*byte]);
            reader.feed(&mut buffer).unwrap();
        }
        (reader, buffer)
    }

    #[test]
    fn reads_a_length_and_leaves_what_follows() {
        let (reader, rest) =
            read(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: Foo, Close\r\n\r\nabcHTTP");
        assert_eq!(&rest[..], b"HTTP");
        let response = reader.into_response().unwrap();
        assert_eq!((response.status(), response.body()), (200, &b"abc"[..]));
        assert!(response.closes());
        assert_eq!(response.header("content-length"), Some("3"));
    }

    #[test]
    fn reads_chunks_with_extensions_and_trailers() {
        let head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
        let whole = [&head[..], b"3;x=1\r\nabc\r\nA\r\n0123456789\r\n0\r\nt: v\r\n\r\n"].concat();
        let (reader, rest) = read(&whole);
        assert!(rest.is_empty() && reader.is_done());
        assert_eq!(reader.into_response().unwrap().body(), b"abc0123456789");
    }

    #[test]
    fn chunks_without_the_last_are_not_whole_at_the_end() {
        let (mut reader, _) =
            read(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n");
        assert_eq!(reader.so_far().unwrap().body_length(), 3);
        assert!(!reader.eof());
        assert!(reader.into_response().is_none());
    }

    #[test]
    fn without_a_length_the_end_of_the_connection_completes_it() {
        let (mut reader, _) = read(b"HTTP/1.0 200 OK\r\n\r\nabc");
        assert!(!reader.is_done());
        assert!(reader.eof());
        let response = reader.into_response().unwrap();
        assert_eq!(response.framing(), Framing::Eof);
        assert!(response.closes());
    }

    #[test]
    fn the_old_version_closes_unless_it_says_keep_alive() {
        for (head, closes) in [
            ("HTTP/1.0 200 OK\r\ncontent-length: 0\r\n\r\n", true),
            ("HTTP/1.0 200 OK\r\ncontent-length: 0\r\nconnection: keep-alive\r\n\r\n", false),
            ("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", false),
        ] {
            let (reader, _) = read(head.as_bytes());
            assert_eq!(reader.into_response().unwrap().closes(), closes, "{head}");
        }
    }

    #[test]
    fn many_headers_are_no_nonsense() {
        let many: String = (0..500).map(|number| format!("x-{number}: v\r\n")).collect();
        let whole = format!("HTTP/1.1 204 No Content\r\n{many}\r\n");
        let mut reader = Reader::new();
        reader.feed(&mut BytesMut::from(whole.as_bytes())).unwrap();
        let response = reader.into_response().unwrap();
        assert_eq!((response.status(), response.header("x-499")), (204, Some("v")));
    }

    #[test]
    fn interim_responses_are_passed_over_and_101_is_final() {
        let (reader, _) = read(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n");
        assert_eq!(reader.into_response().unwrap().status(), 204);
        let (reader, _) = read(b"HTTP/1.1 101 Switching Protocols\r\n\r\n");
        assert_eq!(reader.into_response().unwrap().status(), 101);
    }

    #[test]
    fn refuses_what_is_not_http() {
        for bytes in [
            &b"SSH-2.0-OpenSSH\r\n"[..],
            b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n",
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\naX\r\n",
        ] {
            assert!(Reader::new().feed(&mut BytesMut::from(bytes)).is_err());
        }
    }
}

/// For any bytes, however they are cut.
#[cfg(test)]
mod properties {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// Bytes that look like a response, or like nothing.
    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        let head = "HTTP/1\\.[01] [1-5][0-9]{2} OK\r\n\
                    (content-length: [0-9]{1,20}\r\n)?(transfer-encoding: (chunked|x)\r\n)?\r\n";
        let body = prop_oneof![
            "([0-9a-f]{1,17}(;x)?\r\n[a-z]{0,9}\r\n){0,3}(0\r\n\r\n)?",
            "[ -~\r\n]{0,40}",
        ];
        prop_oneof![
            (head, body).prop_map(|(head, body)| (head + &body).into_bytes()),
            vec(any::<u8>(), 0..80),
        ]
    }

    /// What a reader makes of these pieces.
    #[derive(Debug, PartialEq, Eq)]
    enum Outcome {
        Garbled,
        Read { status: Option<u16>, body: Vec<u8>, left: Vec<u8>, done: bool },
    }

    fn outcome(pieces: &[&[u8]]) -> Outcome {
        let (mut reader, mut buffer) = (Reader::new(), BytesMut::new());
        for piece in pieces {
            buffer.extend_from_slice(piece);
            if reader.feed(&mut buffer).is_err() {
                return Outcome::Garbled;
            }
        }
        let body = reader.so_far().map(|response| response.body.clone()).unwrap_or_default();
        let status = reader.so_far().map(Response::status);
        Outcome::Read { status, body, left: buffer.to_vec(), done: reader.is_done() }
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: 2_000, failure_persistence: None, ..ProptestConfig::default()
        })]

        #[test]
        fn how_the_bytes_are_cut_makes_no_difference(bytes in bytes(), cut in 0..200_usize) {
            let whole = outcome(&[&bytes]);
            let (front, back) = bytes.split_at(cut.min(bytes.len()));
            let singly: Vec<_> = bytes.chunks(1).collect();
            prop_assert_eq!(&outcome(&[front, back]), &whole);
            prop_assert_eq!(&outcome(&singly), &whole);
        }

        #[test]
        fn what_is_written_in_chunks_or_with_a_length_is_read_back(
            chunks in vec(vec(any::<u8>(), 1..50), 0..6), status in 200..600_u16, after in "[a-z]{0,9}",
        ) {
            prop_assume!(![204, 304].contains(&status));
            let body = chunks.concat();
            let mut chunked = format!("HTTP/1.1 {status} X\r\ntransfer-encoding: chunked\r\n\r\n").into_bytes();
            for chunk in &chunks {
                chunked.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                chunked.extend_from_slice(chunk);
                chunked.extend_from_slice(b"\r\n");
            }
            chunked.extend_from_slice(b"0\r\n\r\n");
            let length = body.len();
            let mut sized = format!("HTTP/1.1 {status} X\r\ncontent-length: {length}\r\n\r\n").into_bytes();
            sized.extend_from_slice(&body);
            for mut bytes in [chunked, sized] {
                bytes.extend_from_slice(after.as_bytes());
                let mut reader = Reader::new();
                let mut buffer = BytesMut::from(&bytes[..]);
                reader.feed(&mut buffer).expect("well formed");
                prop_assert_eq!(&buffer[..], after.as_bytes(), "the next response is left alone");
                let response = reader.into_response().expect("whole");
                prop_assert_eq!((response.status(), response.body()), (status, &body[..]));
            }
        }
    }
}

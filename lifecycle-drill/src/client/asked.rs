//! Which requests are on their way on a connection. Pure: no socket, no clock.
//!
//! The caller sends bytes as it likes, several requests in one packet or half of one: what was
//! sent tells how many requests there are.

/// Counts the requests of which bytes have gone out.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    part: Part,
    unanswered: u32,
    answered: u32,
}

/// Where in a request the bytes sent so far end.
#[derive(Debug, Default)]
enum Part {
    #[default]
    Between,
    Body(u64),
    Head(Vec<u8>),
    /// Not HTTP/1: the border between two requests is not known.
    Opaque,
}

impl Asked {
    /// These bytes were sent.
    pub(crate) fn push(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            match &mut self.part {
                Part::Between => {
                    self.unanswered += 1;
                    self.part = Part::Head(Vec::new());
                }
                Part::Head(head) => {
                    let before = head.len();
                    head.extend_from_slice(bytes);
                    let (part, length) = match parse(head) {
                        Parsed::Part => return,
                        Parsed::Whole { length, body: 0 } => (Part::Between, length),
                        Parsed::Whole { length, body } => (Part::Body(body), length),
                        Parsed::Other => (Part::Opaque, before),
                    };
                    self.part = part;
                    bytes = bytes.get(length.saturating_sub(before)..).unwrap_or_default();
                }
                Part::Body(left) => {
                    let count = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                    *left -= count as u64;
                    if *left == 0 {
                        self.part = Part::Between;
                    }
                    bytes = bytes.get(count..).unwrap_or_default();
                }
                Part::Opaque => {
                    self.unanswered = self.unanswered.max(1);
                    return;
                }
            }
        }
    }

    /// The rest of a body was sent by another way, or will not be.
    pub(crate) fn body_is_over(&mut self) {
        self.part = Part::Between;
    }

    /// A whole response has come.
    pub(crate) fn answered(&mut self) {
        self.unanswered = self.unanswered.saturating_sub(1);
        self.answered = self.answered.saturating_add(1);
    }

    /// The requests of which a byte was sent, and that have no whole response.
    pub(crate) fn unanswered(&self) -> u32 {
        self.unanswered
    }

    /// Whether it is a connection that was kept after an answer, and nothing is under way.
    pub(crate) fn is_idle(&self) -> bool {
        self.unanswered == 0 && self.answered > 0
    }
}

enum Parsed {
    Other,
    Part,
    Whole { length: usize, body: u64 },
}

fn parse(head: &[u8]) -> Parsed {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(head) {
        Ok(httparse::Status::Partial) if head.len() <= HEAD_MAX => Parsed::Part,
        Ok(httparse::Status::Partial) | Err(_) => Parsed::Other,
        Ok(httparse::Status::Complete(length)) => {
            let named = |name: &str| {
                let found = request.headers.iter().find(|one| one.name.eq_ignore_ascii_case(name));
                found.map(|header| header.value)
            };
            let text =
                |value| std::str::from_utf8(value).ok().and_then(|text| text.trim().parse().ok());
            match (named("transfer-encoding"), named("content-length").map(text)) {
                (None, None) => Parsed::Whole { length, body: 0 },
                (None, Some(Some(body))) => Parsed::Whole { length, body },
                (Some(_), _) | (None, Some(None)) => Parsed::Other,
            }
        }
    }
}

const HEADERS_MAX: usize = 64;
const HEAD_MAX: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    const GET: &str = "GET / HTTP/1.1\r\nhost: x\r\n\r\n";
    const POST: &str = "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\n\r\n\r\n\r\n";

    #[test]
    fn counts_requests_over_any_border_between_sends() {
        let bytes = [GET, POST, GET, POST].concat();
        for size in [1, 2, 7, 30, 31, bytes.len()] {
            let mut asked = Asked::default();
            bytes.as_bytes().chunks(size).for_each(|chunk| asked.push(chunk));
            assert_eq!(asked.unanswered(), 4, "in pieces of {size}");
            for left in (0..4).rev() {
                assert!(!asked.is_idle());
                asked.answered();
                assert_eq!(asked.unanswered(), left);
            }
            assert!(asked.is_idle());
        }
    }

    #[test]
    fn a_byte_makes_a_request() {
        let mut asked = Asked::default();
        assert!(asked.unanswered() == 0 && !asked.is_idle());
        asked.push(b"G");
        assert_eq!(asked.unanswered(), 1);
        asked.push(&GET.as_bytes()[1..]);
        assert_eq!(asked.unanswered(), 1);
        // The rest of one that was answered early is none.
        let (head, body) = POST.split_at(POST.len() - 4);
        asked.push(head.as_bytes());
        asked.answered();
        asked.answered();
        asked.push(body.as_bytes());
        assert!(asked.is_idle());
    }

    #[test]
    fn what_is_not_http_is_one_request_until_it_is_answered() {
        for other in ["PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "\0\0\0", "GET / HTTP/1.1\r\na b\r\n\r\n"]
        {
            let mut asked = Asked::default();
            asked.push(other.as_bytes());
            asked.push(other.as_bytes());
            assert_eq!(asked.unanswered(), 1, "{other:?}");
            asked.answered();
            assert!(asked.is_idle());
            asked.push(other.as_bytes());
            assert_eq!(asked.unanswered(), 1, "{other:?}");
        }
        let mut chunked = Asked::default();
        chunked.push(b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n");
        assert_eq!(chunked.unanswered(), 1);
    }
}

//! What every request says besides its method and path: whom it is for, and headers of the
//! user's. The one place where heads of requests are made.

use std::{net::SocketAddr, sync::Arc};

use tokio_rustls::rustls::pki_types::ServerName;

use super::frames::raw;

/// The constant part of the heads for one address.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    /// `Host`, or `:authority`.
    authority: String,
    /// What TLS asks for.
    server_name: ServerName<'static>,
    headers: Headers,
}

/// Further headers, in their order.
pub(crate) type Headers = Arc<[(String, String)]>;

impl Head {
    /// For this address: under the name (and port, if it has one) if there is one.
    pub(crate) fn new(address: SocketAddr, host: Option<&str>, headers: Headers) -> Self {
        let ip = ServerName::from(address.ip());
        let Some(host) = host else {
            return Self { authority: address.to_string(), server_name: ip, headers };
        };
        let name = host.rsplit_once(':').map_or(host, |(name, _port)| name);
        // An address is no name for TLS, nor is what cannot be one.
        let server_name = ServerName::try_from(name.to_owned()).unwrap_or(ip);
        Self { authority: host.to_owned(), server_name, headers }
    }

    /// A request of HTTP/1.1, with a length when there is a body.
    pub(crate) fn http1(&self, method: &str, path: &str, body_length: Option<u64>) -> String {
        let mut text = format!("{method} {path} HTTP/1.1\r\nhost: {}\r\n", self.authority);
        for (name, value) in self.headers.iter() {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        if let Some(length) = body_length {
            text.push_str(&format!("content-type: text/plain\r\ncontent-length: {length}\r\n"));
        }
        text.push_str("\r\n");
        text
    }

    /// A GET for a library; the scheme is that of the URL.
    pub(crate) fn get(&self, scheme: &str, path: &str) -> Result<http::Request<()>, http::Error> {
        let mut request = http::Request::get(format!("{scheme}://{}{path}", self.authority));
        for (name, value) in self.headers.iter() {
            request = request.header(name, value);
        }
        request.body(())
    }

    /// A GET of HTTP/2 as bytes.
    pub(crate) fn frame(&self, scheme: raw::Scheme, stream: u32, path: &str) -> Vec<u8> {
        raw::request(stream, (scheme, &self.authority), path, &self.headers)
    }

    /// Whom TLS asks for (SNI, if it is a name).
    pub(crate) fn server_name(&self) -> ServerName<'static> {
        self.server_name.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named() -> Head {
        let headers = [("X-Key".to_owned(), "a b".to_owned())];
        let address = ([127, 0, 0, 1], 80).into();
        Head::new(address, Some("shop.example:8443"), headers.into())
    }

    #[test]
    fn a_head_says_host_headers_and_length() {
        let address = ([127, 0, 0, 1], 8080).into();
        let plain = Head::new(address, None, Headers::default());
        let get = plain.http1("GET", "/x", None);
        assert_eq!(get, "GET /x HTTP/1.1\r\nhost: 127.0.0.1:8080\r\n\r\n");
        assert!(matches!(plain.server_name(), ServerName::IpAddress(_)));
        let post = named().http1("POST", "/x", Some(3));
        assert!(post.contains("\r\nhost: shop.example:8443\r\nX-Key: a b\r\n"), "{post}");
        assert!(post.contains("content-length: 3\r\n"), "{post}");
    }

    #[test]
    fn http2_says_the_same_and_tls_the_name_without_its_port() {
        let request = named().get("https", "/x?y").unwrap();
        assert_eq!(request.uri(), "https://shop.example:8443/x?y");
        assert_eq!(request.headers()["x-key"], "a b");
        assert_eq!(named().server_name().to_str(), "shop.example");
    }
}

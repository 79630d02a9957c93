//! Connecting, with TLS or without: what all clients stand on.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client, rustls};

use rustls::{
    ClientConfig, DigitallySignedStruct, SignatureScheme,
    client::Resumption,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{self, WebPkiSupportedAlgorithms},
    pki_types::{CertificateDer, ServerName, UnixTime},
};

use super::{
    fate::{Fate, WireError},
    head::{Head, Headers},
};
use crate::events::Tracer;

/// Where to connect, and whether TLS is spoken there.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
    pub(crate) tls: Option<Tls>,
    /// By what it is asked where the question is not about one of them.
    pub(crate) speaks: Alpn,
    /// What requests to it say.
    pub(crate) head: Arc<Head>,
    /// Who writes down what is done there, if anyone.
    pub(crate) tracer: Option<Tracer>,
}

/// TLS as a client that accepts any certificate: it drills a process of our own.
#[derive(Clone, Debug)]
pub(crate) struct Tls {
    http1: Arc<ClientConfig>,
    http2: Arc<ClientConfig>,
}

/// What a client offers by ALPN; nobody asks without TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Alpn {
    Http1,
    Http2,
}

/// A connection that has been made.
#[derive(Debug)]
pub(crate) enum Stream {
    Plain(TcpStream),
    Tls(Box<client::TlsStream<TcpStream>>),
}

impl Peer {
    /// Connects, and shakes hands if need be. Nothing of a request is sent by it.
    pub(crate) async fn dial(&self, alpn: Alpn, limit: Duration) -> Result<Stream, WireError> {
        let pending = self.tracer.as_ref().map(|tracer| tracer.request("connect".to_owned()));
        let dialled = self.dial_untold(alpn, limit).await;
        match (&dialled, pending) {
            (Err(error), Some(pending)) => pending.end(error.fate),
            (_, Some(pending)) => pending.forget(),
            (_, None) => {}
        }
        dialled
    }

    async fn dial_untold(&self, alpn: Alpn, limit: Duration) -> Result<Stream, WireError> {
        let connecting = timeout(limit.min(CONNECT_LIMIT), TcpStream::connect(self.address));
        let stream = match connecting.await {
            Ok(connected) => connected.map_err(WireError::connecting)?,
            Err(_) => return Err(WireError::new(Fate::ConnectTimedOut)),
        };
        // Each send is to be a packet of its own; without this a half head could be held back.
        stream.set_nodelay(true).map_err(WireError::connecting)?;
        let Some(tls) = &self.tls else {
            return Ok(Stream::Plain(stream));
        };
        let config = match alpn {
            Alpn::Http1 => &tls.http1,
            Alpn::Http2 => &tls.http2,
        };
        let name = self.head.server_name();
        // Boxed: it holds the whole session.
        let shaking = Box::pin(TlsConnector::from(Arc::clone(config)).connect(name, stream));
        match timeout(limit, shaking).await {
            Ok(Ok(stream)) if alpn == Alpn::Http2 && stream.get_ref().1.alpn_protocol() != H2 => {
                let source = io::Error::other("TLS has not chosen `h2` (ALPN)");
                Err(WireError::caused(Fate::ResetInConnect, source))
            }
            Ok(Ok(stream)) => Ok(Stream::Tls(Box::new(stream))),
            Ok(Err(error)) => Err(WireError::caused(Fate::ResetInConnect, error)),
            Err(_) => Err(WireError::new(Fate::ConnectTimedOut)),
        }
    }

    /// The same address for one of many clients, told apart from the others.
    pub(crate) fn one_of_many(mut self) -> Self {
        self.tracer = self.tracer.map(|tracer| tracer.one_of_many());
        self
    }

    /// The scheme of its URLs.
    pub(crate) fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }
}

impl From<SocketAddr> for Peer {
    /// Without TLS, and by its address.
    fn from(address: SocketAddr) -> Self {
        let head = Arc::new(Head::new(address, None, Headers::default()));
        Self { address, tls: None, speaks: Alpn::Http1, head, tracer: None }
    }
}

impl Tls {
    pub(crate) fn new() -> Self {
        let provider = Arc::new(crypto::ring::default_provider());
        let config = |protocol: &[u8]| {
            let verifier = AnyCertificate(provider.signature_verification_algorithms);
            let mut config = ClientConfig::builder_with_provider(Arc::clone(&provider))
                .with_safe_default_protocol_versions()
                .expect("invariant: the provider can do TLS 1.2 and 1.3")
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(verifier))
                .with_no_client_auth();
            config.alpn_protocols = vec![protocol.to_vec()];
            // Every connection does the whole handshake, as a new client's does.
            config.resumption = Resumption::disabled();
            Arc::new(config)
        };
        Self { http1: config(b"http/1.1"), http2: config(b"h2") }
    }
}

/// Whoever answers is whom we have started.
#[derive(Debug)]
struct AnyCertificate(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        crypto::verify_tls12_signature(message, cert, signed, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        crypto::verify_tls13_signature(message, cert, signed, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, into),
            Self::Tls(stream) => match Pin::new(stream).poll_read(cx, into) {
                // A FIN without `close_notify`, as many servers have it: an end. What it
                // truncates shows by its framing.
                Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    Poll::Ready(Ok(()))
                }
                read => read,
            },
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

const H2: Option<&[u8]> = Some(b"h2");
/// The kernel drops a SYN that meets a full or closing backlog and repeats it after 1 s: longer
/// than that, so that a refusal is seen as one.
const CONNECT_LIMIT: Duration = Duration::from_secs(3);

#[cfg(test)]
mod tests {
    use rustls::{ServerConfig, pki_types::PrivateKeyDer};
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(20);

    /// Shakes hands with a server that speaks these protocols. What the client comes to, and the
    /// name that the server was asked for.
    async fn shake(
        host: Option<&str>,
        protocols: &[&str],
    ) -> (Result<Stream, WireError>, Option<String>) {
        let made = rcgen::generate_simple_self_signed(["any".to_owned()]).unwrap();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let provider = Arc::new(crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let head = Arc::new(Head::new(address, host, Headers::default()));
        let peer = Peer { tls: Some(Tls::new()), head, ..address.into() };
        let serve = async {
            let (stream, _) = listener.accept().await.unwrap();
            let stream = Box::pin(acceptor.accept(stream)).await.unwrap();
            stream.get_ref().1.server_name().map(str::to_owned)
        };
        tokio::join!(Box::pin(peer.dial(Alpn::Http2, LIMIT)), Box::pin(serve))
    }

    #[tokio::test]
    async fn tls_asks_for_the_host_by_its_name_and_for_an_address_by_none() {
        let (stream, name) = shake(Some("shop.example:443"), &["h2"]).await;
        assert_eq!((stream.is_ok(), name.as_deref()), (true, Some("shop.example")));
        let (stream, name) = shake(None, &["h2"]).await;
        assert_eq!((stream.is_ok(), name), (true, None));
    }

    #[tokio::test]
    async fn tls_that_does_not_choose_http2_is_no_connection_of_http2() {
        let (stream, _) = shake(None, &[]).await;
        let error = stream.unwrap_err();
        assert_eq!(error.fate, Fate::ResetInConnect);
        assert!(error.source.unwrap().to_string().contains("ALPN"));
    }
}

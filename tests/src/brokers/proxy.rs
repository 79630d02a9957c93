//! A proxy for one TCP port, to put between a client and its server: it forwards, and can be
//! frozen (sockets stay open, nothing passes: a half-open link) and cut (connections are reset).

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// A proxy on a port of 127.0.0.1, gone on drop with all its connections.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    mode: watch::Sender<Mode>,
    accepting: JoinHandle<()>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Mode {
    frozen: bool,
    cuts: u64,
}

impl Proxy {
    /// Forwards to that port of 127.0.0.1.
    ///
    /// # Panics
    /// When no port is free.
    ///
    /// # Cancel safety
    /// Cancel safe: nothing listens yet.
    pub async fn start(to: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let (mode, told) = watch::channel(Mode::default());
        let accepting = tokio::spawn(accept(listener, (Ipv4Addr::LOCALHOST, to).into(), told));
        Self { port, mode, accepting }
    }

    /// The port it listens on.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// From now on nothing passes, in either direction; connections, also new ones, stay open.
    pub fn freeze(&self) {
        self.mode.send_modify(|mode| mode.frozen = true);
    }

    /// What was held back passes, and all that comes after it.
    pub fn thaw(&self) {
        self.mode.send_modify(|mode| mode.frozen = false);
    }

    /// Resets all connections of this moment; new ones are forwarded.
    pub fn cut(&self) {
        self.mode.send_modify(|mode| mode.cuts += 1);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.cut();
    }
}

async fn accept(listener: TcpListener, to: SocketAddr, told: watch::Receiver<Mode>) {
    while let Ok((client, _)) = listener.accept().await {
        let told = told.clone();
        tokio::spawn(async move {
            // A server that is not there looks like one that closes at once.
            let Ok(server) = TcpStream::connect(to).await else { return };
            forward(client, server, told).await;
        });
    }
}

async fn forward(mut client: TcpStream, mut server: TcpStream, mut told: watch::Receiver<Mode>) {
    let cuts = told.borrow().cuts;
    let was_cut = {
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        let (up, down) = (told.clone(), told.clone());
        tokio::select! {
            _ = told.wait_for(|mode| mode.cuts > cuts) => true,
            _ = pump(from_client, to_server, up) => false,
            _ = pump(from_server, to_client, down) => false,
        }
    };
    if was_cut {
        // Unsent bytes are dropped and the other end is told by a reset.
        for stream in [&client, &server] {
            stream.set_zero_linger().expect("an open socket");
        }
    }
}

async fn pump(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    mut told: watch::Receiver<Mode>,
) -> io::Result<()> {
    let mut bytes = vec![0; 64 << 10];
    loop {
        let count = from.read(&mut bytes).await?;
        if count == 0 {
            return Ok(());
        }
        if told.wait_for(|mode| !mode.frozen).await.is_err() {
            return Ok(());
        }
        to.write_all(&bytes[..count]).await?;
    }
}

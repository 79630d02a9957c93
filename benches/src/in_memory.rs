//! Requests without a kernel: server and client on one thread, with a pipe in memory between
//! them, so that what is counted is what they do.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::runtime::Builder;
use tokio::sync::mpsc;

use crate::servers::{Stack, app};
use crate::wire::{Ask, Protocol, Wire};

/// A listener in memory. Nobody else will connect once its sender is gone.
#[derive(Debug)]
struct InMemory(mpsc::Receiver<DuplexStream>);

/// So many requests, one after the other on one connection; `then` is called with the server
/// still there, idle.
///
/// # Panics
/// When one fails.
pub fn requests<T>(
    stack: Stack,
    protocol: Protocol,
    ask: Ask,
    times: u64,
    then: impl FnOnce() -> T,
) -> T {
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let (connect, connections) = mpsc::channel(1);
        let serving = stack.start(InMemory(connections), app());
        let (mut stream, accepted) = duplex(PIPE);
        connect.send(accepted).await.expect("it accepts");
        let (mut out, mut buffer) = (Vec::new(), vec![0; PIPE]);
        let mut wire = Wire::new(protocol, ask, &mut out);
        for _ in 0..times {
            wire.ask(&mut out);
            let mut ended = 0;
            while ended == 0 {
                stream.write_all(&out).await.expect("it takes a request");
                out.clear();
                let len = stream.read(&mut buffer).await.expect("it answers");
                assert_ne!(len, 0, "it is not closed");
                ended = wire.take(&buffer[..len], &mut out);
            }
        }
        let result = then();
        drop(stream);
        serving.stopped().await;
        result
    })
}

impl lifecycle_tower::Listener for InMemory {
    type Io = DuplexStream;
    type Addr = ();

    async fn accept(&mut self) -> io::Result<(DuplexStream, ())> {
        match self.0.recv().await {
            Some(connection) => Ok((connection, ())),
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<()> {
        Ok(())
    }
}

impl axum::serve::Listener for InMemory {
    type Io = DuplexStream;
    type Addr = ();

    async fn accept(&mut self) -> (DuplexStream, ()) {
        match self.0.recv().await {
            Some(connection) => (connection, ()),
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<()> {
        Ok(())
    }
}

const PIPE: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_server_answers_on_every_protocol() {
        for stack in [Stack::Ours, Stack::Axum, Stack::Hyper] {
            for protocol in [Protocol::Http1, Protocol::Http2] {
                for ask in [Ask::Get, Ask::Post] {
                    // Past the window that HTTP/2 begins with.
                    assert_eq!(requests(stack, protocol, ask, 1_000, || 7), 7);
                }
            }
        }
    }
}

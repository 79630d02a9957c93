//! A listener whose connections are made by the test.

use std::io;

use lifecycle_tower::Listener;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;

pub(crate) struct InMemory<I>(pub(crate) mpsc::Receiver<I>);

impl<I: AsyncRead + AsyncWrite + Unpin + Send + 'static> Listener for InMemory<I> {
    type Io = I;
    type Addr = ();

    async fn accept(&mut self) -> io::Result<(I, ())> {
        match self.0.recv().await {
            Some(connection) => Ok((connection, ())),
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<()> {
        Ok(())
    }
}

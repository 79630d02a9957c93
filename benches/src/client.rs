//! A client on a blocking socket.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::wire::{Ask, Protocol, Wire};

/// One connection.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    wire: Wire,
    out: Vec<u8>,
    buffer: Vec<u8>,
}

impl Client {
    /// Connects.
    ///
    /// # Panics
    /// When it cannot.
    #[must_use]
    pub fn connect(addr: SocketAddr, protocol: Protocol, ask: Ask) -> Self {
        let stream = TcpStream::connect(addr).expect("it is accepted");
        stream.set_nodelay(true).expect("it can be set");
        stream.set_read_timeout(Some(LIMIT)).expect("it can be set");
        stream.set_write_timeout(Some(LIMIT)).expect("it can be set");
        let mut out = Vec::new();
        let wire = Wire::new(protocol, ask, &mut out);
        Self { stream, wire, out, buffer: Vec::new() }
    }

    /// Sends so many requests at once.
    ///
    /// # Panics
    /// When the connection fails.
    pub fn send(&mut self, requests: usize) {
        for _ in 0..requests {
            self.wire.ask(&mut self.out);
        }
        if !self.out.is_empty() {
            self.stream.write_all(&self.out).expect("it takes requests");
            self.out.clear();
        }
    }

    /// Waits for something, and says how many responses ended with it.
    ///
    /// # Panics
    /// When nothing comes, or what comes is no success.
    #[must_use]
    pub fn receive(&mut self) -> usize {
        self.buffer.resize(BUFFER, 0);
        let len = self.stream.read(&mut self.buffer).expect("it answers");
        assert_ne!(len, 0, "it is not closed");
        self.wire.take(&self.buffer[..len], &mut self.out)
    }

    /// One request and its response. What the buffers took is given back.
    ///
    /// # Panics
    /// As [`send`](Self::send) and [`receive`](Self::receive).
    pub fn request(&mut self) {
        self.send(1);
        while self.receive() == 0 {}
        // What the protocol has to say of it.
        self.send(0);
        self.buffer = Vec::new();
        self.out = Vec::new();
    }

    /// Waits for the end of the connection; false if it was reset.
    ///
    /// # Panics
    /// When it does not end.
    #[must_use]
    pub fn is_closed_in_order(mut self) -> bool {
        let mut buffer = [0; 1024];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return false,
                Err(error) => panic!("it was not closed: {error}"),
            }
        }
    }
}

const LIMIT: Duration = Duration::from_secs(10);
const BUFFER: usize = 16 * 1024;

//! Free ports on the loopback interface.
//!
//! Taken from below the range that Linux gives to outgoing connections (32768 and up): a load
//! scenario makes thousands of those, and one of them could take the port between our look and
//! the bind of the process under test. Chosen at random, so that test processes that run side
//! by side do not walk the same ports.

use std::{
    hash::{BuildHasher, RandomState},
    net::{Ipv4Addr, SocketAddr, TcpListener},
};

/// An address on 127.0.0.1 whose port is free now. Not kept: the caller retries if it loses it.
pub(crate) fn free() -> Option<SocketAddr> {
    let random = RandomState::new();
    (0..TRIES).find_map(|number| {
        let port = FIRST + random.hash_one(number) % SPAN;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, u16::try_from(port).ok()?));
        TcpListener::bind(address).is_ok().then_some(address)
    })
}

const FIRST: u64 = 12_000;
const SPAN: u64 = 20_000;
const TRIES: u32 = 1_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_ports_that_can_be_bound_and_skips_those_that_cannot() {
        let mut held = Vec::new();
        for _ in 0..50 {
            let address = free().unwrap();
            assert!((12_000..32_000).contains(&address.port()));
            held.push(TcpListener::bind(address).unwrap());
        }
    }
}

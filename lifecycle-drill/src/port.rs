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

/// Two addresses on 127.0.0.1 whose ports are free now, never one and the same. Not kept: the
/// caller retries if it loses them.
pub(crate) fn two_free() -> Option<(SocketAddr, SocketAddr)> {
    // Held while the second is drawn.
    let (first, second) = (held()?, held()?);
    Some((first.local_addr().ok()?, second.local_addr().ok()?))
}

fn held() -> Option<TcpListener> {
    let random = RandomState::new();
    (0..TRIES).find_map(|number| {
        let port = FIRST + random.hash_one(number) % SPAN;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, u16::try_from(port).ok()?));
        TcpListener::bind(address).ok()
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
        for _ in 0..25 {
            let (first, second) = two_free().unwrap();
            for address in [first, second] {
                assert!((12_000..32_000).contains(&address.port()));
                held.push(TcpListener::bind(address).unwrap());
            }
        }
    }
}

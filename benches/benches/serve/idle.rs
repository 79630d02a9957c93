//! From a server's being told to stop to its return, with nothing but idle keep-alive
//! connections: the server is a process of its own, or half as many would use up its
//! descriptors.

use std::env;
use std::time::Duration;

use benches::{Ask, Bound, Child, Client, Comparison, Protocol, Stack, Stopped, interleaved};

use crate::Size;

pub(crate) fn compare(size: &Size) -> Vec<Comparison> {
    let mut stacks = [Stack::Ours, Stack::Hyper, Stack::Axum];
    let took = interleaved(
        size.rounds,
        &mut stacks,
        |stack| stack.name(),
        |stack| stop(*stack, size.connections),
    );
    let row = |side: usize, what, figure: fn(&Stopped) -> Duration, bound| {
        let name = format!("{what} / {}", stacks[side].name());
        let ms = |stopped: &Stopped| figure(stopped).as_secs_f64() * 1e3;
        Comparison::of(name, "ms", [&took[0], &took[side]], ms, bound)
    };
    vec![
        row(1, TOLD, |stopped| stopped.wall, Bound::RatioAtMost(1.0)),
        row(1, USED, |stopped| stopped.used, Bound::None),
        row(2, TOLD, |stopped| stopped.wall, Bound::None),
        row(2, USED, |stopped| stopped.used, Bound::None),
    ]
}

fn stop(stack: Stack, connections: usize) -> Stopped {
    let child = Child::start(&env::current_exe().expect("its own path"), stack);
    let client = |_| {
        let mut client = Client::connect(child.addr(), Protocol::Http1, Ask::Get);
        client.request();
        client
    };
    let clients: Vec<_> = (0..connections).map(client).collect();
    be_idle();
    let took = child.stop();
    assert!(clients.into_iter().all(Client::is_closed_in_order), "one was reset");
    took
}

#[allow(clippy::disallowed_methods, reason = "being idle is to let time pass")]
fn be_idle() {
    std::thread::sleep(IDLE);
}

const TOLD: &str = "told to returned";
const USED: &str = "processor meanwhile";
/// A connection that was silent for less than a second has what is left of that at our drain.
const IDLE: Duration = Duration::from_millis(1_100);

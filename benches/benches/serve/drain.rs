//! From the end of the last handler, before its response is even sent, to the server's return
//! (ours: to that of `run`, with the control thread, as in production).

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::get;
use benches::{Bound, Comparison, Stack, interleaved};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;
use tokio::sync::Notify;
use tokio::time::timeout;

pub(crate) fn compare(stops: usize) -> Vec<Comparison> {
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime");
    let mut stacks = [Stack::Ours, Stack::Axum];
    let took = interleaved(
        stops,
        &mut stacks,
        |stack| stack.name(),
        |stack| runtime.block_on(stop(*stack)).as_secs_f64() * 1e3,
    );
    let name = "last response sent to `run` returned";
    vec![Comparison::of(name, "ms", [&took[0], &took[1]], |took| *took, Bound::AtMost(1.0))]
}

/// One stop with one request in flight.
async fn stop(stack: Stack) -> Duration {
    let (entered, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let ended = Arc::new(OnceLock::new());
    let handler = {
        let (entered, go, ended) = (entered.clone(), go.clone(), ended.clone());
        move || async move {
            entered.notify_one();
            go.notified().await;
            ended.get_or_init(Instant::now);
            "hello\n"
        }
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let addr = listener.local_addr().expect("it has an address");
    let serving = stack.start(listener, Router::new().route("/", get(handler)));
    let client = tokio::spawn(async move {
        let mut stream = TcpStream::connect(addr).await.expect("it is accepted");
        stream.write_all(b"GET / HTTP/1.1\r\nhost: bench\r\n\r\n").await.expect("it is taken");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("it is answered");
        assert!(answer.ends_with("hello\n"), "{answer}");
    });
    limited(entered.notified()).await;
    let stopped = tokio::spawn(serving.stopped());
    // Longer than the listener takes to close, so that the response is what is last.
    tokio::time::sleep(WORK).await;
    go.notify_one();
    let returned = limited(stopped).await.expect("it does not panic");
    limited(client).await.expect("it does not panic");
    returned - *ended.get().expect("the handler has ended")
}

async fn limited<T>(what: impl Future<Output = T>) -> T {
    timeout(LIMIT, what).await.expect("it comes in time")
}

const WORK: Duration = Duration::from_millis(30);
const LIMIT: Duration = Duration::from_secs(10);

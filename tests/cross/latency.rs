//! From the last response to the return of `run`: events, no polling anywhere.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use lifecycle::Lifecycle;
use tokio::net::TcpListener;
use tokio::time::Instant;

use crate::wire::limited;

/// Design, section 6: 1 ms at most, the median.
const REACH: Duration = Duration::from_millis(1);
/// How many hand-overs there and back a stop may take on a machine that is slow at them.
const HAND_OVERS: u32 = 5;

/// One stop; from the end of the last handler (before its response is even sent) to the
/// return of `run`. With the control thread, as in production.
async fn one() -> Duration {
    let mut life = Lifecycle::builder()
        .grace_period(Duration::from_secs(5))
        .lame_duck_period(Duration::ZERO)
        .forced_exit(lifecycle::ForcedExit::Never)
        .build()
        .unwrap();
    let handle = life.handle();
    let ended = Arc::new(Mutex::new(None));
    let app = Router::new().route(
        "/",
        get({
            let (handle, ended) = (handle.clone(), ended.clone());
            move || async move {
                handle.shutdown("test");
                handle.draining().await;
                // Longer than the sweep takes, so that the response is what is last.
                // Sleeps: the work that a handler does.
                tokio::time::sleep(Duration::from_millis(30)).await;
                *ended.lock().unwrap() = Some(Instant::now());
                "hello"
            }
        }),
    );
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    life.spawn("http", lifecycle_tower::serve(listener, app));
    let client = tokio::spawn(async move {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut stream = tokio::net::TcpStream::connect(addr).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.ends_with("hello"));
    });
    let report = limited(life.run()).await.unwrap();
    let returned = Instant::now();
    assert_eq!(report.exit_code(), 0);
    limited(client).await.unwrap();
    returned - ended.lock().unwrap().unwrap()
}

/// What this machine takes, after as long a rest, to hand something to another thread's runtime
/// and back: a stop is a few of these, and nothing else that takes time.
async fn handed_over() -> Duration {
    let (there, mut asked) = tokio::sync::mpsc::channel::<Instant>(1);
    let (back, mut answered) = tokio::sync::mpsc::channel(1);
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let asked = asked.recv().await.unwrap();
            back.send(asked).await.unwrap();
        });
    });
    // Sleeps: as the handler does.
    tokio::time::sleep(Duration::from_millis(30)).await;
    there.send(Instant::now()).await.unwrap();
    let took = limited(answered.recv()).await.unwrap().elapsed();
    thread.join().unwrap();
    took
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn run_returns_within_a_millisecond_of_the_last_response() {
    let mut medians = Vec::new();
    // Other tests may hold both cores for a moment: the best of three medians counts.
    let mut controls = Vec::new();
    for _ in 0..3 {
        let (mut all, mut control) = (Vec::new(), Vec::new());
        for _ in 0..21 {
            all.push(Box::pin(one()).await);
            control.push(handed_over().await);
        }
        all.sort();
        control.sort();
        println!("control, there and back: median {:?}", control[10]);
        controls.push(control[10]);
        println!(
            "last response to run returned, 21 stops: min {:?}, median {:?}, max {:?}",
            all[0], all[10], all[20]
        );
        medians.push(all[10]);
        if all[10] <= REACH {
            break;
        }
    }
    // Where a mere hand-over takes as long as here a whole stop should, that is the measure.
    let reached = medians
        .iter()
        .zip(&controls)
        .any(|(median, control)| *median <= REACH.max(*control * HAND_OVERS));
    assert!(reached, "{medians:?}, controls {controls:?}");
}

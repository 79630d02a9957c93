//! A test of one's own drain, in milliseconds and without a process: what the service
//! registers is a function, and the test kit runs it under virtual signals and paused time.
//!
//! Run with `cargo test -p examples --test 07_test_kit`.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use lifecycle::test_kit::{Script, TestKit};
use lifecycle::{End, Handle, Lifecycle, Phase, Signal, component_fn};

/// Part of the service: events are buffered and written every ten seconds, and what is left
/// is written when those who produce them have ended.
#[derive(Clone, Default)]
struct Events {
    buffered: Arc<Mutex<Vec<&'static str>>>,
    written: Arc<Mutex<Vec<&'static str>>>,
}

impl Events {
    fn push(&self, event: &'static str) {
        self.buffered.lock().expect("no panic").push(event);
    }

    async fn write(&self) {
        tokio::time::sleep(Duration::from_millis(300)).await; // the database
        let events = std::mem::take(&mut *self.buffered.lock().expect("no panic"));
        self.written.lock().expect("no panic").extend(events);
    }

    async fn run(self, handle: Handle) {
        while handle.phase() < Phase::Draining {
            tokio::select! {
                () = handle.draining() => {}
                () = tokio::time::sleep(Duration::from_secs(10)) => {}
            }
            self.write().await;
        }
    }
}

/// What `main` would call too, with the real server in place of the script.
fn register(life: &mut Lifecycle, events: &Events) {
    let (writer, last) = (events.clone(), events.clone());
    life.spawn("events", component_fn(|handle| writer.run(handle))).after("http");
    life.on_close("database", async move {
        last.buffered.lock().expect("no panic").is_empty().then_some(()).ok_or("events left")
    });
}

fn kit() -> TestKit {
    TestKit::new(Lifecycle::builder().grace_period(Duration::from_secs(30)))
}

#[tokio::test(start_paused = true)]
async fn what_the_last_request_has_produced_is_written() {
    let (mut kit, events) = (kit(), Events::default());
    register(kit.life(), &events);
    let producer = events.clone();
    let http = component_fn(|handle: Handle| async move {
        handle.draining().await;
        tokio::time::sleep(Duration::from_secs(4)).await; // the last request
        producer.push("paid");
    });
    kit.life().spawn("http", http);
    kit.start().await;
    kit.signal(Signal::Terminate);
    let report = kit.report().await;
    report.is_clean().ended_in_order(&["http", "events", "database"]);
    report.took(Phase::Draining, Duration::from_millis(4_300));
    assert_eq!(*events.written.lock().expect("no panic"), ["paid"]);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_hangs_is_cut_and_the_events_are_written_all_the_same() {
    let (mut kit, events) = (kit(), Events::default());
    register(kit.life(), &events);
    kit.life().spawn("http", Script::server().deaf());
    kit.start().await;
    events.push("paid");
    kit.signal(Signal::Terminate);
    let report = kit.report().await;
    report.exit_code(3).cut(Phase::Closing, "http").ended("database", &End::Finished);
    assert_eq!(*events.written.lock().expect("no panic"), ["paid"]);
}

#[tokio::test(start_paused = true)]
async fn a_second_signal_leaves_a_quarter_of_a_second() {
    let (mut kit, events) = (kit(), Events::default());
    register(kit.life(), &events);
    kit.life().spawn("http", Script::server().drains_for(Duration::from_secs(9)));
    kit.start().await;
    kit.signal(Signal::Terminate);
    kit.reaches(Phase::Draining).await;
    kit.signal(Signal::Terminate);
    let report = kit.report().await;
    report.exit_code(143).took(Phase::Cancelling, Duration::from_millis(250));
}

//! A process that waits for its cause does nothing meanwhile.
#![cfg(all(target_os = "linux", feature = "signal", not(lifecycle_loom)))]

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use lifecycle::{ForcedExit, Handle, Lifecycle, Phase, component_fn};

/// How often all threads but this one have waited for something.
fn waits() -> u64 {
    let own = std::fs::read_link("/proc/thread-self").expect("Linux has it");
    let tasks = std::fs::read_dir("/proc/self/task").expect("as above");
    let others = tasks.flatten().filter(|task| own.file_name() != Some(&task.file_name()));
    let counts = others.filter_map(|task| {
        let status = std::fs::read_to_string(task.path().join("status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?;
        line.trim().parse::<u64>().ok()
    });
    counts.sum()
}

#[test]
fn reload_hooks_and_an_order_of_draining_wake_nobody_in_an_idle_process() {
    let (give, taken) = mpsc::channel();
    let running = thread::spawn(move || {
        let life = Lifecycle::builder().probe_addr(None).forced_exit(ForcedExit::Never);
        let mut life = life.build().expect("builds");
        let waits = || component_fn(|handle: Handle| async move { handle.draining().await });
        life.on_reload("nothing", || async {});
        life.spawn("a", waits()).spawn("b", waits()).after("a").spawn("c", waits()).after("b");
        life.spawn("gone", async {}).optional();
        give.send(life.handle()).expect("waited for");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(life.run()).expect("runs").exit_code()
    });
    let handle = taken.recv_timeout(Duration::from_secs(10)).expect("starts");
    tokio_test::block_on(handle.reached(Phase::Running));
    // Sleeps: what settles after the start, then the time in which nothing is to happen.
    thread::park_timeout(Duration::from_secs(1));
    let before = waits();
    thread::park_timeout(Duration::from_secs(2));
    let woken = waits() - before;
    assert!(woken <= 1, "woken {woken} times in two seconds");
    handle.shutdown("test");
    assert_eq!(running.join().expect("no panic"), 0);
}

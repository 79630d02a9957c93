//! SIGHUP with reload hooks, on real processes.
#![cfg(all(unix, feature = "signal", not(lifecycle_loom)))]
#![allow(clippy::print_stdout, reason = "the child tells its parent")]

mod parts;

use std::io::Read;
use std::time::Duration;

use lifecycle::Lifecycle;
use parts::{part, plays};

const LIMIT: Duration = Duration::from_secs(10);

fn run(life: Lifecycle) -> ! {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let report = runtime.block_on(life.run()).expect("runs");
    eprintln!("{report}");
    #[expect(clippy::exit, clippy::disallowed_methods, reason = "the part ends with its code")]
    std::process::exit(report.exit_code().into())
}

fn build() -> Lifecycle {
    Lifecycle::builder().grace_period(Duration::from_secs(5)).build().expect("builds")
}

#[test]
fn part_reloads() {
    if plays("part_reloads") {
        let mut life = build();
        let handle = life.handle();
        let mut count = 0;
        life.on_reload("config", move || {
            count += 1;
            async move {
                println!("reload {count}");
                if count == 2 { Err("no such file") } else { Ok(()) }
            }
        });
        life.on_reload("panicking", || async {
            println!("second hook");
            assert!(!plays("part_reloads"), "on purpose");
        });
        life.spawn("service", async move {
            println!("ready");
            handle.draining().await;
            println!("drains");
            // Sleeps: the work that is left for the drain.
            tokio::time::sleep(Duration::from_millis(500)).await;
        });
        run(life);
    }
}

#[test]
fn a_hangup_reloads_and_the_process_goes_on_whatever_the_hooks_do() {
    let mut part = part("part_reloads");
    for n in 1..=3 {
        part.signal("HUP");
        part.says(&format!("reload {n}"));
        part.says("second hook");
    }
    part.signal("TERM");
    part.says("drains");
    part.signal("HUP"); // no second signal that would force the stop
    let ended = part.ends(LIMIT);
    assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
}

#[test]
fn part_reloads_slowly() {
    if plays("part_reloads_slowly") {
        let mut life = build();
        let handle = life.handle();
        let mut count = 0;
        life.on_reload("slow", move || {
            count += 1;
            async move {
                println!("begins {count}");
                // A line from the parent lets it end.
                let read = || std::io::stdin().read_exact(&mut [0]);
                tokio::task::spawn_blocking(read).await.expect("no panic")
            }
        });
        life.spawn("service", async move {
            println!("ready");
            handle.draining().await;
        });
        run(life);
    }
}

#[test]
fn however_many_hangups_during_a_reload_are_one_more() {
    use std::io::Write;
    let mut part = part("part_reloads_slowly");
    part.signal("HUP");
    part.says("begins 1");
    for _ in 0..3 {
        part.signal("HUP");
        // Two that are not told apart would be one in any case.
        part.lives_on(Duration::from_millis(100));
    }
    let mut stdin = part.child.stdin.take().expect("piped");
    stdin.write_all(b"x").expect("reads");
    part.says("begins 2");
    stdin.write_all(b"x").expect("reads");
    part.lives_on(Duration::from_millis(200));
    part.signal("TERM");
    let ended = part.ends(LIMIT);
    assert_eq!(ended.status.code(), Some(0), "a third reload would be cut: {}", ended.stderr);
    // Until now: its end would let a third reload finish.
    drop(stdin);
}

#[test]
fn a_reload_that_hangs_is_named_and_cut_with_the_rest() {
    let mut part = part("part_reloads_slowly");
    part.signal("HUP");
    part.says("begins 1");
    let ended = part.terminate(LIMIT);
    assert_eq!(ended.status.code(), Some(3), "{}", ended.stderr);
    assert!(ended.stderr.contains("work reload slow"), "{}", ended.stderr);
}

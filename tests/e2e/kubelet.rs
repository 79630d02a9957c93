//! What Kubernetes does to a process and what comes of it, played by the small kubelet.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use lifecycle_drill::kubelet::{Endpoint, Endpoints, Event, Kubelet, PreStop, Probe, Spec, Which};
use lifecycle_drill::{Ended, Process, ReadyWhen, Setting, Subject};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::probed::{LIMIT, post, start_ready};
use crate::target::target;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Probes often enough for a test.
fn spec() -> Spec {
    Spec::new().probes(ms(100)).grace(Duration::from_secs(6))
}

async fn pod(subject: &Subject, spec: &Spec, endpoints: &Endpoints) -> Kubelet {
    let process = Process::start(subject, Setting::Plain).await.unwrap();
    Kubelet::adopt(process, spec.clone(), endpoints)
}

/// Waits until the balancer has heard of so many.
async fn has_targets(endpoints: &Endpoints, count: usize) {
    let told = timeout(LIMIT, async {
        while endpoints.targets().len() < count {
            sleep(ms(10)).await;
        }
    });
    told.await.unwrap_or_else(|_| panic!("not {count} targets: {endpoints:?}"));
}

/// What the balancer and its client have seen.
#[derive(Debug, Default)]
struct Tally {
    next: AtomicUsize,
    refused: AtomicUsize,
    answered: AtomicUsize,
    lost: AtomicUsize,
}

/// A balancer for connections: each goes to the next target that it has heard of. It never
/// tries a second one, so that nothing is hidden.
async fn balance(listener: TcpListener, endpoints: Endpoints, tally: Arc<Tally>) {
    let mut relays = JoinSet::new();
    while let Ok((mut client, _)) = listener.accept().await {
        let (endpoints, tally) = (endpoints.clone(), Arc::clone(&tally));
        relays.spawn(async move {
            let targets = endpoints.targets();
            let next = tally.next.fetch_add(1, Relaxed);
            let Some(target) = targets.get(next % targets.len().max(1)) else {
                tally.refused.fetch_add(1, Relaxed);
                return;
            };
            match TcpStream::connect(target).await {
                Ok(mut server) => drop(copy_bidirectional(&mut client, &mut server).await),
                Err(_) => _ = tally.refused.fetch_add(1, Relaxed),
            }
        });
        while relays.try_join_next().is_some() {}
    }
}

/// One request after the other, each on a connection of its own, until told to end.
async fn load(balancer: SocketAddr, tally: Arc<Tally>, path: &'static str) {
    loop {
        let exchange = async {
            let mut stream = TcpStream::connect(balancer).await?;
            let head = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
            stream.write_all(head.as_bytes()).await?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await?;
            Ok::<_, std::io::Error>(answer)
        };
        let whole = match timeout(LIMIT, exchange).await {
            Ok(Ok(answer)) => answer.starts_with("HTTP/1.1 200") && answer.ends_with(" ms\n"),
            _ => false,
        };
        let count = if whole { &tally.answered } else { &tally.lost };
        count.fetch_add(1, Relaxed);
        sleep(ms(2)).await;
    }
}

#[tokio::test]
async fn a_rolling_deletion_under_load_loses_nothing_though_the_balancer_lags() {
    let (endpoints, tally) = (Endpoints::new(), Arc::new(Tally::default()));
    // The lame duck is longer than the balancer's lag: the one thing that it takes.
    let subject = target().env("LIFECYCLE_LAME_DUCK", "1.5s");
    let spec = spec().removal_lag(ms(500));
    let (one, two) =
        tokio::join!(pod(&subject, &spec, &endpoints), pod(&subject, &spec, &endpoints));
    has_targets(&endpoints, 2).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let balancer = listener.local_addr().unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(balance(listener, endpoints.clone(), Arc::clone(&tally)));
    for path in ["/work?ms=0", "/work?ms=1", "/work?ms=20", "/work?ms=200"].repeat(3) {
        tasks.spawn(load(balancer, Arc::clone(&tally), path));
    }
    // The rollout: a new one is up before an old one goes.
    let (mut pods, mut exits) = (vec![one], Vec::new());
    for old in [two] {
        let fresh = pod(&subject, &spec, &endpoints).await;
        pods.push(fresh);
        has_targets(&endpoints, 3).await;
        exits.push(old.delete().await.0);
    }
    exits.push(pods.remove(0).delete().await.0);
    tasks.shutdown().await;
    for record in exits {
        assert_eq!(record.exit().expect("ended").ended, Ended::Code(0), "{record:?}");
        assert!(record.at(&Event::Killed).is_none(), "{record:?}");
    }
    let [answered, lost, refused] =
        [&tally.answered, &tally.lost, &tally.refused].map(|count| count.load(Relaxed));
    println!("rolling deletion: {answered} answered, {lost} lost, {refused} refused");
    assert_eq!((lost, refused), (0, 0), "beside {answered} answered");
    assert!(answered > 500, "{answered}");
}

#[tokio::test]
async fn a_process_whose_liveness_fails_is_said_to_be_restarted() {
    let process = start_ready(&[("PROBED_WATCHDOG_MS", "300")]).await;
    let kubelet = Kubelet::adopt(process, spec(), &Endpoints::new());
    assert!(kubelet.sees(&Event::Probed(Which::Readiness, true), LIMIT).await);
    post(kubelet.process().address(), "/break?check=loop").await;
    let restart = Event::WouldRestart(Which::Liveness);
    assert!(kubelet.sees(&restart, LIMIT).await, "{:?}", kubelet.record());
    post(kubelet.process().address(), "/mend?check=loop").await;
    assert!(kubelet.sees(&Event::Probed(Which::Liveness, true), LIMIT).await);
    let (record, _) = kubelet.delete().await;
    assert_eq!(record.events().filter(|event| **event == restart).count(), 1, "{record:?}");
    assert_eq!(record.exit().expect("ended").ended, Ended::Code(0));
}

#[tokio::test]
async fn a_process_that_ignores_sigterm_is_killed_at_the_end_of_the_grace() {
    let script = "trap '' TERM; echo ready; while :; do sleep 0.1; done";
    let deaf = Subject::new("/bin/sh").args(["-c", script]);
    let deaf = deaf.ready_when(ReadyWhen::Line("ready".into()));
    let spec = Spec::new().grace(ms(3_500)).pre_stop(PreStop::Sleep(ms(1_500)));
    let kubelet = pod(&deaf, &spec, &Endpoints::new()).await;
    let (record, _) = kubelet.delete().await;
    assert_eq!(record.exit().expect("ended").ended, Ended::Signal(9), "{record:?}");
    let killed = record.between(&Event::Deleted, &Event::Killed).expect("killed");
    // The deadline is a little older than its first event; without preStop it would be at 5 s.
    assert!(killed >= ms(3_300) && killed < ms(4_900), "preStop counts into it: {killed:?}");
}

#[tokio::test]
async fn at_drain_keeps_the_endpoint_serving_while_it_terminates() {
    let endpoints = Endpoints::new();
    let spec = spec().removal_lag(ms(50));
    let (holds, falls) = tokio::join!(
        async {
            let subject = target().env("LIFECYCLE_READINESS", "at-drain");
            pod(&subject.env("LIFECYCLE_LAME_DUCK", "1.5s"), &spec, &endpoints).await
        },
        async { pod(&target().env("LIFECYCLE_LAME_DUCK", "1.5s"), &spec, &endpoints).await },
    );
    for pod in [&holds, &falls] {
        assert!(pod.sees(&Event::Probed(Which::Readiness, true), LIMIT).await);
    }
    let (holds_at, falls_at) = (holds.process().address(), falls.process().address());
    let began = Instant::now();
    let find = |seen: &[Endpoint], address| {
        *seen.iter().find(|one| one.address == address).expect("listed")
    };
    let watch = async {
        // Three failures in 100 ms each, and the lag; all the lame duck at most.
        loop {
            let (seen, targets) = (endpoints.now(), endpoints.targets());
            let told = targets == [holds_at] && !find(&seen, falls_at).serving;
            if told || began.elapsed() > ms(1_500) {
                return (seen, targets);
            }
            sleep(ms(10)).await;
        }
    };
    let (holds, falls, (seen, targets)) = tokio::join!(holds.delete(), falls.delete(), watch);
    let of = |address| find(&seen, address);
    assert!(of(holds_at).serving && of(holds_at).terminating && !of(holds_at).ready, "{seen:?}");
    assert!(!of(falls_at).serving && of(falls_at).terminating, "{seen:?}");
    // The last resort of kube-proxy: without it traffic to this node is black-holed.
    assert_eq!(targets, [holds_at]);
    for (record, _) in [holds, falls] {
        assert_eq!(record.exit().expect("ended").ended, Ended::Code(0), "{record:?}");
    }
}

#[tokio::test]
async fn a_start_is_waited_for_and_a_pre_stop_command_runs_before_sigterm() {
    let process = crate::probed::start(&[("PROBED_WARM_UP", "1")]).await;
    let (main, probes) = (process.address(), process.probe_address());
    // What a sidecar's preStop does: our own SIGTERM comes only after it.
    let wait = format!("http://{probes}/drainz?wait=300ms");
    let pre_stop = PreStop::Exec(["curl", "-s", "-f", &wait].map(str::to_owned).into());
    let spec = spec()
        .startup(Probe::get("/startupz").period(ms(50)).failure_threshold(5))
        .readiness(Probe::get("/readyz").period(ms(50)).success_threshold(2))
        .pre_stop(pre_stop);
    let kubelet = Kubelet::adopt(process, spec, &Endpoints::new());
    let late = Event::WouldRestart(Which::Startup);
    assert!(kubelet.sees(&late, LIMIT).await, "a start that takes too long");
    let early = kubelet.record();
    assert!(early.at(&Event::Probed(Which::Readiness, true)).is_none(), "{early:?}");
    post(main, "/startup-done").await;
    assert!(kubelet.sees(&Event::Probed(Which::Readiness, true), LIMIT).await);
    let (record, _) = kubelet.delete().await;
    // The drain had not begun: 503, so curl says that it has failed.
    let pre_stopped = record.between(&Event::Deleted, &Event::PreStopped(false)).expect("ran");
    assert!(pre_stopped >= ms(300), "{pre_stopped:?}");
    assert!(record.at(&Event::PreStopped(false)) <= record.at(&Event::Terminated), "{record:?}");
    let startup = record.at(&Event::Probed(Which::Startup, true)).expect("passed");
    assert!(record.at(&Event::Probed(Which::Readiness, true)).expect("passed") >= startup);
    assert_eq!(record.exit().expect("ended").ended, Ended::Code(0));
}

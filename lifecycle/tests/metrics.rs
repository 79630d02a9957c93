//! Every metric as a recorder sees it through a whole shutdown, and `/metrics` as a scraper does.
#![cfg(all(feature = "metrics", feature = "test-kit", feature = "probes", not(lifecycle_loom)))]

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use lifecycle::test_kit::{Script, TestKit};
use lifecycle::{Check, ForcedExit, Kind, Lifecycle, Phase, Signal};
use metrics::Unit;
use metrics_exporter_prometheus::PrometheusBuilder;
use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// What was written since the last look, by `name{label=value}`. Looking sets all to zero.
fn seen(snapshotter: &Snapshotter) -> BTreeMap<String, Vec<f64>> {
    let all = snapshotter.snapshot().into_vec();
    all.into_iter()
        .map(|(key, _, _, value)| {
            let (name, labels) = key.key().clone().into_parts();
            let labels: Vec<_> =
                labels.iter().map(|label| format!("{}={}", label.key(), label.value())).collect();
            let values = match value {
                DebugValue::Counter(count) => vec![count as f64],
                DebugValue::Gauge(value) => vec![value.into_inner()],
                DebugValue::Histogram(values) => values.into_iter().map(Into::into).collect(),
            };
            (format!("{}{{{}}}", name.as_str(), labels.join(",")), values)
        })
        .collect()
}

/// The phases whose gauge is 1.
fn phases(seen: &BTreeMap<String, Vec<f64>>) -> Vec<&str> {
    let of_phase = seen.iter().filter(|(_, values)| **values == [1.0]);
    of_phase
        .filter_map(|(key, _)| key.strip_prefix("lifecycle_phase{phase=")?.strip_suffix('}'))
        .collect()
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_is_measured_from_its_start_to_its_report() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let _local = metrics::set_default_local_recorder(&recorder);
    let mut kit = TestKit::new(Lifecycle::builder().grace_period(secs(30)));
    kit.life().spawn("http", Script::server().drains_for(secs(3)));
    let jobs = kit.handle().gate(Kind::Job);
    let more_jobs = kit.handle().gate(Kind::Job);
    kit.start().await;
    let start = seen(&snapshotter);
    assert_eq!(phases(&start), ["running"]);
    assert_eq!(start["lifecycle_shutdowns_initiated_total{}"], [0.0], "shown before it counts");
    assert_eq!(start["lifecycle_shutdowns_completed_total{}"], [0.0]);
    assert_eq!(start["lifecycle_in_flight{kind=job}"], [0.0]);
    let (job, another) = (jobs.enter("a", "job"), more_jobs.enter_unnamed());
    let work = kit.handle().enter("work");
    kit.handle().record_metrics();
    let busy = seen(&snapshotter);
    assert_eq!(busy["lifecycle_in_flight{kind=job}"], [2.0], "all gates of a kind together");
    assert_eq!(busy["lifecycle_in_flight{kind=work}"], [1.0]);

    kit.signal(Signal::Terminate);
    kit.reaches(Phase::LameDuck).await;
    let lame = seen(&snapshotter);
    assert_eq!(phases(&lame), ["lame_duck"]);
    assert_eq!(lame["lifecycle_shutdowns_initiated_total{}"], [1.0]);
    assert_eq!(lame["lifecycle_in_flight{kind=job}"], [2.0], "as it was at the cause");
    drop((job, another, work));
    kit.reaches(Phase::Draining).await;
    let drain = seen(&snapshotter);
    assert_eq!(phases(&drain), ["draining"]);
    assert_eq!(drain["lifecycle_drain_duration_seconds{phase=lame_duck}"], [5.0]);
    assert_eq!(drain["lifecycle_shutdowns_completed_total{}"], [0.0]);
    kit.report().await.is_clean();
    let end = seen(&snapshotter);
    assert_eq!(phases(&end), ["stopped"]);
    assert_eq!(end["lifecycle_drain_duration_seconds{phase=draining}"], [3.0]);
    assert_eq!(end["lifecycle_shutdowns_initiated_total{}"], [0.0], "not again");
    assert_eq!(end["lifecycle_shutdowns_completed_total{}"], [1.0]);
}

#[tokio::test(start_paused = true)]
async fn a_check_is_1_while_it_passes() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let _local = metrics::set_default_local_recorder(&recorder);
    let mut kit = TestKit::new(Lifecycle::builder().grace_period(secs(30)));
    let passes = Arc::new(AtomicBool::new(false));
    let looked_at = Arc::clone(&passes);
    let check = Check::readiness("db", move || {
        let passes = looked_at.load(Relaxed);
        async move { if passes { Ok(()) } else { Err("down") } }
    });
    kit.life().check(check.interval(secs(5)));
    kit.life().spawn("it", Script::server());
    kit.start().await;
    kit.passes(secs(1)).await;
    let key = "lifecycle_health_check{name=db,kind=readiness}";
    assert_eq!(seen(&snapshotter)[key], [0.0]);
    passes.store(true, Relaxed);
    kit.passes(secs(6)).await;
    assert_eq!(seen(&snapshotter)[key], [1.0], "told by the change alone");
    kit.passes(secs(60)).await;
    assert_eq!(seen(&snapshotter)[key], [0.0], "nothing writes it again: looking has reset it");
}

#[tokio::test(start_paused = true)]
async fn every_metric_has_a_unit_and_a_description() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let _local = metrics::set_default_local_recorder(&recorder);
    let mut kit = TestKit::new(Lifecycle::builder().grace_period(secs(30)));
    kit.life().check(Check::liveness("it", || async {}));
    kit.life().spawn("it", Script::server());
    kit.start().await;
    kit.signal(Signal::Terminate);
    kit.report().await.is_clean();
    let all = snapshotter.snapshot().into_vec();
    let mut names: Vec<_> = all.iter().map(|(key, ..)| key.key().name().to_owned()).collect();
    names.sort_unstable();
    names.dedup();
    let promised = [
        "lifecycle_drain_duration_seconds",
        "lifecycle_health_check",
        "lifecycle_in_flight",
        "lifecycle_phase",
        "lifecycle_shutdowns_completed_total",
        "lifecycle_shutdowns_initiated_total",
    ];
    assert_eq!(names, promised);
    for (key, unit, description, _) in &all {
        let seconds = key.key().name().ends_with("_seconds");
        let expected = if seconds { Unit::Seconds } else { Unit::Count };
        assert_eq!(*unit, Some(expected), "{key:?}");
        assert!(description.as_ref().is_some_and(|text| !text.is_empty()), "{key:?}");
    }
}

/// The head of an answer, and its body.
fn split(answer: &str) -> (&str, &str) {
    answer.split_once("\r\n\r\n").expect("a head and a body")
}

async fn scrape(addr: SocketAddr) -> String {
    let mut stream = TcpStream::connect(addr).await.expect("listens");
    let request = b"GET /metrics HTTP/1.1\r\nhost: probe\r\nconnection: close\r\n\r\n";
    stream.write_all(request).await.expect("takes it");
    let mut answer = String::new();
    let read = stream.read_to_string(&mut answer);
    tokio::time::timeout(secs(10), read).await.expect("in time").expect("text");
    answer
}

/// The samples of a page, as Prometheus reads them.
fn samples(page: &str) -> BTreeMap<String, f64> {
    let lines = page.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let (series, value) = line.rsplit_once(' ').expect("a series and its value");
            (series.to_owned(), value.parse().expect("a number"))
        })
        .collect()
}

#[tokio::test]
async fn a_scraper_sees_the_drain_as_it_stands() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let exporter = recorder.handle();
    let _local = metrics::set_default_local_recorder(&recorder);
    let builder = Lifecycle::builder().grace_period(secs(30)).lame_duck_period(Duration::ZERO);
    let mut life = builder.probe_addr(any_port()).build_local().expect("builds");
    life.export_metrics(move || exporter.render());
    let addr = life.serve_probes().await.expect("binds").expect("not off");
    life.spawn("http", Script::server());
    let handle = life.handle();
    let run = tokio::spawn(life.run());
    handle.reached(Phase::Running).await;
    let answer = scrape(addr).await;
    let (head, page) = split(&answer);
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert!(head.contains("content-type: text/plain; version=0.0.4; charset=utf-8"), "{head}");
    assert!(page.contains("# TYPE lifecycle_phase gauge"), "{page}");
    assert!(page.contains("# TYPE lifecycle_shutdowns_initiated_total counter"), "{page}");
    assert_eq!(samples(page)["lifecycle_shutdowns_initiated_total"], 0.0);
    assert_eq!(samples(page)[r#"lifecycle_phase{phase="running"}"#], 1.0);

    let work: Vec<_> = (0..3).map(|_| handle.enter("slow")).collect();
    handle.shutdown("test");
    handle.draining().await;
    let mut work = work.into_iter();
    drop(work.next());
    let answer = scrape(addr).await;
    let drain = samples(split(&answer).1);
    assert_eq!(drain[r#"lifecycle_phase{phase="draining"}"#], 1.0);
    assert_eq!(drain[r#"lifecycle_phase{phase="running"}"#], 0.0);
    assert_eq!(drain[r#"lifecycle_in_flight{kind="work"}"#], 2.0, "as it is, not as it was");
    assert_eq!(drain["lifecycle_shutdowns_initiated_total"], 1.0);
    assert_eq!(drain["lifecycle_shutdowns_completed_total"], 0.0);
    drop(work);
    let report = tokio::time::timeout(secs(10), run).await.expect("in time");
    assert_eq!(report.expect("no panic").expect("runs").exit_code(), 0);
}

#[tokio::test]
async fn without_an_exporter_there_is_no_page() {
    let builder = Lifecycle::builder().probe_addr(any_port());
    let mut life = builder.build_local().expect("builds");
    let addr = life.serve_probes().await.expect("binds").expect("not off");
    assert!(scrape(addr).await.starts_with("HTTP/1.1 404"));
}

/// The runtime's only thread is this one, and it blocks from the request to the answer.
#[tokio::test]
async fn a_blocked_runtime_does_not_blind_the_scraper() {
    let builder = Lifecycle::builder().forced_exit(ForcedExit::Never).probe_addr(any_port());
    let mut life = builder.build().expect("builds");
    life.export_metrics(|| "up 1\n".to_owned());
    let addr = life.serve_probes().await.expect("binds").expect("not off");
    let mut stream = std::net::TcpStream::connect(addr).expect("listens");
    stream.set_read_timeout(Some(secs(10))).expect("sets it");
    let request = b"GET /metrics HTTP/1.1\r\nhost: probe\r\nconnection: close\r\n\r\n";
    stream.write_all(request).expect("takes it");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("text, in time");
    assert_eq!(split(&answer).1, "up 1\n");
}

fn any_port() -> SocketAddr {
    ([127, 0, 0, 1], 0).into()
}

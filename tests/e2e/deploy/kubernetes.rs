//! The manifests' budgets by the library's own arithmetic, and their commands as real processes
//! on a real PostgreSQL.

use std::time::Duration;

use lifecycle_drill::{Ended, Process, ReadyWhen, Setting, Signal, Subject, Wire};
use tests::brokers::PrivatePostgres;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::manifest::{Manifest, Pod};
use super::{MANIFESTS, read};

fn manifest(process: &str) -> (String, Manifest) {
    let text = read(&format!("kubernetes/{process}.yaml"));
    let manifest = Manifest::parse(&text);
    (text, manifest)
}

#[tokio::test(start_paused = true)]
async fn every_manifest_agrees_with_itself_and_with_the_library() {
    for process in MANIFESTS {
        let (_, manifest) = manifest(process);
        assert_eq!(manifest.pod().argument(), process);
        assert_eq!(manifest.flaws().await, Vec::<String>::new(), "{process}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_does_not_agree_is_found() {
    for (process, as_it_is, changed, flaw) in [
        ("web", "value: 40s", "value: 60s", "another grace"),
        ("web", "PeriodSeconds: 40", "PeriodSeconds: 30", "another grace"),
        ("web", "value: 10s", "value: 34s", "the library refuses it"),
        ("web", "value: 10s", "value: 9s", "the lame duck is too short"),
        ("web", "minReadySeconds: 6", "minReadySeconds: 5", "before its successor"),
        ("web", "periodSeconds: 2", "periodSeconds: 10", "the lame duck is too short"),
        ("web", "          args:", "          command: [sh]\n          args:", "ENTRYPOINT"),
        ("web", "path: /livez", "path: /readyz", "does not ask /livez"),
        ("web", "containerPort: 9090", "containerPort: 8081", "port 9090"),
        ("web", "targetPort: http", "targetPort: web", "none of the pod's"),
        ("worker", "replicas: 2", "replicas: 1", "a single pod"),
        ("worker", "maxUnavailable: 1", "maxUnavailable: 2", "none or all"),
        ("worker", "          args:", SLEEP, "another preStop time"),
        ("clock", "runAsNonRoot: true", "runAsNonRoot: false", "as root"),
        (
            "migrate",
            "valueFrom: {secretKeyRef: {name: orders, key: queue-url}}",
            "value: x",
            "Secret",
        ),
    ] {
        let (text, _) = manifest(process);
        assert!(text.contains(as_it_is), "{as_it_is}");
        let flaws = Manifest::parse(&text.replacen(as_it_is, changed, 1)).flaws().await;
        assert!(flaws.iter().any(|one| one.contains(flaw)), "{changed}: {flaws:?}");
    }
}

/// The table in each comment is what the library makes of the numbers below it.
#[tokio::test(start_paused = true)]
async fn the_comments_tell_the_budget_that_the_library_has() {
    for process in ["web", "worker"] {
        let (text, manifest) = manifest(process);
        let budget = manifest.pod().budget().await.unwrap();
        let mut phases = vec![
            (Duration::ZERO, budget.lame_duck_ends),
            (budget.lame_duck_ends, budget.drain_ends),
            (budget.drain_ends, budget.cancel_ends),
            (budget.cancel_ends, budget.exit_by),
        ];
        phases.retain(|(from, to)| from < to);
        for (from, to) in phases {
            let line = format!("{} .. {} s  ", from.as_secs_f64(), to.as_secs_f64());
            assert!(text.contains(&line), "{process}: no line {line:?}");
        }
        let gone = format!("{} s: the process is gone", budget.exit_by.as_secs_f64());
        assert!(text.contains(&gone), "{process}: {gone}");
    }
    let (text, manifest) = manifest("web");
    let budget = manifest.pod().budget().await.unwrap();
    let served = (budget.drain_ends - budget.lame_duck_ends).as_secs();
    assert!(text.contains(&format!("a request may take {served} s")), "{served}");
}

/// Each with the arguments and variables of its manifest; only the addresses are ours.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_commands_of_the_manifests_are_a_shop_on_postgres() {
    let postgres = PrivatePostgres::start().await;
    let url = format!("{}?queue=orders", postgres.url());
    let (_, migrate) = manifest("migrate");
    let mut migrated = started(&migrate.pod(), &url).await;
    assert_eq!(migrated.wait(LIMIT).await.expect("ends").ended, Ended::Code(0));
    let manifests = ["web", "worker", "clock"].map(|process| manifest(process).1);
    let mut processes = Vec::new();
    for manifest in &manifests {
        let pod = manifest.pod();
        let process = started(&pod, &url).await;
        for probe in ["startupProbe", "readinessProbe", "livenessProbe"] {
            passes(&process, pod.probe(probe)).await;
        }
        // The process reads the same numbers out of these variables as the tests above.
        let budget = pod.budget().await.unwrap();
        for (field, time) in [
            ("grace_ms", budget.grace),
            ("drain_until_ms", budget.drain_ends),
            ("exit_by_ms", budget.exit_by),
        ] {
            let read = format!("\"{field}\":{},", time.as_millis());
            assert!(process.tail().contains(&read), "{read} in {}", process.tail());
        }
        processes.push(process);
    }
    let web = processes[0].address();
    let body = r#"{"item":"tea","ms":300}"#;
    let order = format!(
        "POST /orders HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut placing = TcpStream::connect(web).await.unwrap();
    placing.write_all(order.as_bytes()).await.unwrap();
    let mut placed = String::new();
    placing.read_to_string(&mut placed).await.unwrap();
    assert!(placed.starts_with("HTTP/1.1 202"), "{placed}");
    let done = async {
        loop {
            let asked = Wire::connect(web, LIMIT).await.unwrap().get("/orders/1").await.unwrap();
            if String::from_utf8_lossy(asked.body()).contains("\"state\":\"done\"") {
                return;
            }
            tokio::time::sleep(POLL).await;
        }
    };
    tokio::time::timeout(LIMIT, done).await.expect("the order is prepared");
    for process in &mut processes {
        process.signal(Signal::Term).unwrap();
    }
    for (mut process, manifest) in processes.into_iter().zip(&manifests) {
        let grace = manifest.pod().grace();
        let exit = process.wait(grace).await.expect("ends within its grace");
        let log = process.tail();
        assert_eq!(exit.ended, Ended::Code(0), "{log}");
        assert!(log.contains(&format!("of {} grace", humantime::format_duration(grace))), "{log}");
    }
}

async fn started(pod: &Pod<'_>, url: &str) -> Process {
    let mut subject = Subject::new(tests::example("orders"))
        .arg(pod.argument())
        .port_env("PORT")
        .host_env("HOST")
        .probe_addr_env("LIFECYCLE_PROBE_ADDR")
        .env("QUEUE_URL", url)
        .ready_when(ReadyWhen::Line("ready".into()));
    for (name, value) in pod.variables() {
        subject = subject.env(name, value);
    }
    Process::start(&subject, Setting::Plain).await.unwrap()
}

/// As the kubelet asks: until it passes.
async fn passes(process: &Process, path: &str) {
    let asked = async {
        loop {
            let wire = Wire::connect(process.probe_address(), LIMIT).await;
            if let Ok(answer) = wire.expect("probes are served").get(path).await
                && answer.status() == 200
            {
                return;
            }
            tokio::time::sleep(POLL).await;
        }
    };
    tokio::time::timeout(LIMIT, asked).await.expect(path);
}

const LIMIT: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(20);
const SLEEP: &str = "          lifecycle: {preStop: {sleep: {seconds: 5}}}\n          args:";

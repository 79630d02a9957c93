//! The command itself: its arguments, its file, its reports, its exit codes.

use std::{
    path::Path,
    process::{Output, Stdio},
    time::Duration,
};

use lifecycle_drill::{Theme, scenarios};
use serde_json::Value;
use tempfile::TempDir;
use tokio::{process::Command, time::timeout};

const SERVICE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/service.py");
const LIMIT: Duration = Duration::from_secs(120);

/// The fixture as options; what is told behind them wins.
const FIXTURE: &[&str] = &[
    "--port-env=PORT",
    "--probe-addr-env=PROBE_ADDR",
    "--env=GRACE=6",
    "--env=LAME_DUCK=1",
    "--ready=/readyz",
    "--ready-line=ready",
    "--live=/livez",
    "--startup=/startupz",
    "--conventional-routes",
    "--grace=8s",
    "--lame-duck=1s",
    // Of the machine, not of the service.
    "--slack=3s",
    "--start-timeout=30s",
    "--blocker-report=named",
    "--stops=2",
];

fn tool(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lifecycle-drill"));
    command.current_dir(folder).stdin(Stdio::null()).kill_on_drop(true);
    command
}

async fn ended(mut command: Command) -> Output {
    timeout(LIMIT, command.output()).await.expect("the tool ends").expect("the tool runs")
}

async fn drill(folder: &TempDir, options: &[&str]) -> Output {
    let mut command = tool(folder.path());
    command.args(options);
    ended(command).await
}

async fn drill_fixture(folder: &TempDir, options: &[&str]) -> Output {
    let command = ["--", "python3", SERVICE];
    drill(folder, &[&["run"], FIXTURE, options, &command].concat()).await
}

/// As it must end; once more if it has not, as a busy machine is late now and then.
async fn passing_fixture(folder: &TempDir, options: &[&str]) -> Output {
    let output = Box::pin(drill_fixture(folder, options)).await;
    if code(&output) == 0 {
        return output;
    }
    eprintln!("once more: {output:?}");
    Box::pin(drill_fixture(folder, options)).await
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder for the test")
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("UTF-8")
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap_or_else(|| panic!("{output:?}"))
}

/// Ended with 2, and the message has all of these.
async fn is_usage(folder: &TempDir, options: &[&str], parts: &[&str]) {
    let output = drill(folder, options).await;
    let said = text(&output.stderr);
    assert_eq!(code(&output), 2, "{said}");
    for part in parts {
        assert!(said.contains(part), "no {part} in {said}");
    }
}

/// What Python says about the file by a script of its own parsers.
async fn python(script: &str, file: &Path) -> String {
    let mut command = Command::new("python3");
    command.args(["-c", script]).arg(file).kill_on_drop(true);
    let output = ended(command).await;
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout).trim().to_owned()
}

#[tokio::test]
async fn the_list_names_every_scenario_and_what_it_needs() {
    let folder = folder();
    let listed = drill(&folder, &["list"]).await;
    assert_eq!(code(&listed), 0);
    for scenario in scenarios() {
        assert!(text(&listed.stdout).contains(scenario.name()), "{}", text(&listed.stdout));
    }
    let listed = drill(&folder, &["list", "--theme", "websocket", "--json"]).await;
    let list: Value = serde_json::from_slice(&listed.stdout).unwrap();
    assert_eq!(list.as_array().unwrap().len(), 1);
    assert_eq!(list[0]["needs"][0], "the route `ws` (a WebSocket echo)");
    let long = drill(&folder, &["list", "--theme", "websocket", "--long"]).await;
    assert!(text(&long.stdout).contains("mended by: count upgraded"), "{}", text(&long.stdout));
}

#[tokio::test]
async fn a_good_service_passes_and_every_scenario_says_so_on_stderr() {
    let options = ["--theme=probes,streams,websocket", "--skip=probes-startup-holds"];
    let output = passing_fixture(&folder(), &options).await;
    let (told, progress) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(code(&output), 0, "{told}{progress}");
    assert!(told.contains("5 passed, 0 failed, 1 skipped in "), "{told}");
    assert!(told.contains("skipped, needs HTTP/2:\n  streams-sse-http2"), "{told}");
    assert_eq!(progress.lines().count(), 6, "{progress}");
    assert!(progress.contains("[6/6] ") || progress.contains("[ 6/6] "), "{progress}");
    assert!(!progress.contains("probes-startup-holds"), "{progress}");
}

#[tokio::test]
async fn a_failure_is_told_with_why_it_matters_and_how_it_is_mended() {
    let options = ["--env=BAD=liveness-fails", "--only=probes-liveness-holds,signals-sighup"];
    let output = drill_fixture(&folder(), &options).await;
    let told = text(&output.stdout);
    assert_eq!(code(&output), 1, "{told}");
    for part in
        ["seen: GET /livez", "why it matters: a failing", "usually mended by: let", "| ready"]
    {
        assert!(told.contains(part), "no {part} in {told}");
    }
    assert!(told.contains("1 passed, 1 failed, 0 skipped"), "{told}");
}

#[tokio::test]
async fn the_json_has_all_events_in_their_order() {
    let options = ["--only=http1-in-flight", "--json=-", "--env=LAME_DUCK=2", "--lame-duck=2s"];
    let output = passing_fixture(&folder(), &options).await;
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("1 passed"), "the text goes where it is in nobody's way");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&report["passed"], &report["lame_duck_ms"]), (&1.into(), &2000.0.into()));
    let scenario = &report["scenarios"][0];
    assert_eq!(scenario["outcome"], "pass");
    assert_eq!(scenario["exit"]["code"], 0);
    let events = scenario["events"].as_array().unwrap();
    let at = |what: &str| {
        let event = events.iter().find(|event| event["what"] == what);
        event.unwrap_or_else(|| panic!("no {what} in {events:#?}"))["at_ms"].as_f64().unwrap()
    };
    assert_eq!(at("signal"), 0.0);
    assert!(at("ready") < at("request") && at("request") < 0.0);
    assert!(at("readiness_fell") > 0.0 && at("readiness_fell") < at("listener_closed"));
    assert!(at("listener_closed") > 1800.0 && at("exited") >= 1900.0);
    let request = events.iter().find(|event| event["what"] == "request").unwrap();
    assert_eq!(request["fate"], "answered 200 with close");
    assert_eq!(request["lost"], false);
    assert!(request["name"].as_str().unwrap().starts_with("GET /work?ms="), "{request}");
    let times = events.iter().map(|event| event["at_ms"].as_f64().unwrap());
    assert!(times.is_sorted());
}

/// One that ends at once leaves no time to look between the end of its listener and its own.
#[tokio::test]
async fn a_listener_that_closes_with_the_process_is_told_no_later_than_its_end() {
    let options = ["--env=BAD=exits-at-once", "--only=signals-sigterm-idle", "--json=-"];
    let output = drill_fixture(&folder(), &options).await;
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let events = report["scenarios"][0]["events"].as_array().unwrap();
    let at = |what: &str| events.iter().find(|event| event["what"] == what).cloned();
    let (closed, exited) = (at("listener_closed"), at("exited"));
    let (Some(closed), Some(exited)) = (closed, exited) else { panic!("{events:#?}") };
    assert!(closed["at_ms"].as_f64() <= exited["at_ms"].as_f64(), "{events:#?}");
}

#[tokio::test]
async fn a_load_is_recorded_client_by_client_and_its_losses_are_not_left_out() {
    let options = ["--env=BAD=exits-at-once", "--only=load-keep-alive", "--json=-"];
    let output = drill_fixture(&folder(), &options).await;
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let scenario = &report["scenarios"][0];
    assert!(scenario["requests"]["lost"].as_u64().unwrap() > 0, "{scenario}");
    let requests = scenario["events"].as_array().unwrap().iter();
    let requests: Vec<_> = requests.filter(|event| event["what"] == "request").collect();
    assert!(requests.iter().any(|event| event["lost"] == true));
    let clients: std::collections::BTreeSet<_> =
        requests.iter().map(|event| event["client"].as_u64().unwrap()).collect();
    assert_eq!(clients.len(), 64);
    let count: u64 = requests.iter().map(|event| event["count"].as_u64().unwrap()).sum();
    assert!(count > 64 && requests.len() < 4_200, "{count} in {}", requests.len());
}

/// What the service prints is hostile to XML: marks, and a control character.
#[tokio::test]
async fn the_junit_file_is_xml_whatever_the_service_prints() {
    let folder = folder();
    let file = folder.path().join("out.xml");
    let script = format!("printf '<&\"]]>\\033[31m\\n'; exec python3 {SERVICE}");
    let options = [
        "--env=BAD=readiness-holds",
        "--theme=probes,websocket,http2",
        "--junit=out.xml",
        "--",
        "sh",
        "-c",
        &script,
    ];
    let output = drill(&folder, &[&["run"], FIXTURE, &options].concat()).await;
    assert_eq!(code(&output), 1, "{}", text(&output.stderr));
    let seen = python(
        "import sys, xml.etree.ElementTree as E\n\
         root = E.parse(sys.argv[1]).getroot()\n\
         cases = root.findall('testsuite/testcase')\n\
         failed = [c for c in cases if c.find('failure') is not None]\n\
         skipped = [c for c in cases if c.find('skipped') is not None]\n\
         assert int(root.get('tests')) == len(cases) and int(root.get('skipped')) == len(skipped)\n\
         text = failed[0].find('failure').text\n\
         assert '<&\"]]>\\ufffd[31m' in text and 'why it matters' in text, text\n\
         print([s.get('name') for s in root], [c.get('name') for c in failed], len(skipped))",
        &file,
    )
    .await;
    let failed = "['probes-readiness-falls-first', 'probes-answer-to-the-end']";
    assert_eq!(seen, format!("['probes', 'http2', 'websocket'] {failed} 7"));
}

#[tokio::test]
async fn the_page_has_a_picture_for_every_scenario_and_loads_nothing() {
    let folder = folder();
    let file = folder.path().join("out.html");
    // A Ctrl-C on a terminal has to be quicker than the lame duck: a long one leaves it time.
    let duck = ["--env=LAME_DUCK=2", "--lame-duck=2s", "--env=GRACE=8", "--grace=10s"];
    let options = ["--theme=signals,streams", "--html=out.html", "--jobs=2"];
    let output = passing_fixture(&folder, &[&duck[..], &options].concat()).await;
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    let page = std::fs::read_to_string(&file).unwrap();
    for scenario in scenarios().iter().filter(|one| one.theme() == Theme::Signals) {
        let svg = format!("data-scenario=\"{}\"", scenario.name());
        assert_eq!(page.matches(&svg).count(), 1, "{}", scenario.name());
    }
    // Skipped, so without a picture.
    assert!(
        page.contains("id=\"streams-sse-http2\"") && !page.contains("\"streams-sse-http2\" font")
    );
    for part in [" src=", "<script", "<link", " style=", "@import", "url(", "href=\"http", " on"] {
        let found = page
            .match_indices(part)
            .find(|(at, _)| !page[..*at].ends_with(char::is_alphanumeric) || part != " on");
        let tags = found.is_some_and(|(at, _)| page[..at].rfind('<') > page[..at].rfind('>'));
        assert!(!tags, "{part} in the page");
    }
    let hashes = python(
        "import sys, re, base64, hashlib\n\
         page = open(sys.argv[1]).read()\n\
         style = re.search('<style>(.*)</style>', page, re.S).group(1)\n\
         is_hash = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()\n\
         print(\"'sha256-\" + is_hash + \"'\" in page, is_hash)",
        &file,
    )
    .await;
    assert!(hashes.starts_with("True"), "the style's hash is {hashes}");
}

#[tokio::test]
async fn the_file_gives_what_the_command_line_leaves_out() {
    let folder = folder();
    let file = format!(
        "command = ['python3', '{SERVICE}']\nprobe-addr-env = 'PROBE_ADDR'\nready = '/readyz'\n\
         ready-text = 'read'\ngrace = '8s'\nlame-duck = 0.6\ntheme = ['websocket']\n\
         json = '-'\nexit-clean = 7\nslack = '3s'\n[routes]\nws = '/nowhere'\n[env]\nGRACE = 6\n\
         LAME_DUCK = '0.6'\n"
    );
    std::fs::write(folder.path().join("drill.toml"), file).unwrap();
    // Its own route is wrong, its exit code too: those of the command line win.
    let output = drill(&folder, &["--route=ws=/ws", "--exit-clean=0", "--ready-line=ready"]).await;
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["scenarios"][0]["name"], "websocket-closed-1001");
    assert_eq!((&report["grace_ms"], &report["passed"]), (&8000.0.into(), &1.into()));
    let output = drill(&folder, &["--route=ws=/ws"]).await;
    assert_eq!(code(&output), 1, "exit code 7 was expected");
}

/// As one with a list of hosts, and a key.
#[tokio::test]
async fn a_service_is_asked_by_the_name_and_with_the_headers_that_it_wants() {
    let folder = folder();
    let server = "import http.server, os, signal\n\
                  class App(http.server.BaseHTTPRequestHandler):\n\
                  \x20   def do_GET(self):\n\
                  \x20       asked = self.headers['Host'], self.headers.get_all('X-Key')\n\
                  \x20       ok = asked == ('shop.example', ['right'])\n\
                  \x20       self.send_response(200 if ok else 400)\n\
                  \x20       self.end_headers()\n\
                  signal.signal(signal.SIGTERM, lambda *_: os._exit(0))\n\
                  address = ('127.0.0.1', int(os.environ['PORT']))\n\
                  http.server.ThreadingHTTPServer(address, App).serve_forever()\n";
    let command = ["--only=signals-sigterm-idle", "--ready=/", "--", "python3", "-c", server];
    let output = drill(&folder, &[&["--start-timeout=2s"], &command[..]].concat()).await;
    assert_eq!(code(&output), 3, "{}", text(&output.stderr));
    let file = "host = 'shop.example'\n[headers]\nx-key = 'wrong'\n";
    std::fs::write(folder.path().join("drill.toml"), file).unwrap();
    let output = drill(&folder, &[&["--header=X-Key: right"], &command[..]].concat()).await;
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
}

#[tokio::test]
async fn a_file_that_cannot_be_understood_is_an_error_that_names_it_and_the_key() {
    let folder = folder();
    let write = |text: &str| std::fs::write(folder.path().join("drill.toml"), text).unwrap();
    for (file, parts) in [
        ("lame-duk = '2s'", ["drill.toml", "unknown field `lame-duk`"]),
        ("[routes]\nwalk = '/w'", ["drill.toml", "walk"]),
        ("grace = 'ten'", ["drill.toml", "expected a duration"]),
        ("ready = 'readyz'", ["drill.toml", "begins with `/`"]),
        ("[routes]\nwork = 'work'", ["drill.toml", "begins with `/`"]),
        ("host = 'http://x'", ["drill.toml", "expected a host"]),
        ("[headers]\nhost = 'x'", ["drill.toml", "--host"]),
        ("exit-clean = 'term'", ["drill.toml", "an exit code, or `signal`"]),
        ("theme = ['http3']", ["drill.toml", "expected a theme"]),
        ("command = python", ["drill.toml", "line 1"]),
    ] {
        write(file);
        is_usage(&folder, &["--", "true"], &parts).await;
    }
    is_usage(&folder, &["--config=other.toml"], &["other.toml", "No such file"]).await;
}

#[tokio::test]
async fn bad_options_end_with_2_and_say_what_is_wrong() {
    let folder = folder();
    is_usage(&folder, &[], &["no command"]).await;
    is_usage(&folder, &["run", "--theme=http3", "--", "true"], &["expected a theme"]).await;
    is_usage(&folder, &["--only=no-such", "--", "true"], &["`no-such`", "list"]).await;
    is_usage(&folder, &["--route=walk=/", "--", "true"], &["quick, work"]).await;
    is_usage(&folder, &["--route=quick=ping", "--", "true"], &["begins with `/`"]).await;
    is_usage(&folder, &["--ready=ready", "--", "true"], &["begins with `/`"]).await;
    is_usage(&folder, &["rollout", "--get=x", "--", "true"], &["begins with `/`"]).await;
    is_usage(&folder, &["--lame-duck=10s", "--", "true"], &["leaves nothing of a grace of 10s"])
        .await;
    is_usage(&folder, &["--exit-clean=term", "--", "true"], &["an exit code, or `signal`"]).await;
    is_usage(&folder, &["--grace=soon", "--", "true"], &["expected a duration"]).await;
    is_usage(&folder, &["--no-such-option"], &["--no-such-option"]).await;
    is_usage(&folder, &["--ready-line=a", "--ready-text=b", "--", "true"], &["cannot be used"])
        .await;
    let both = ["--json=-", "--junit=-", "--", "true"];
    is_usage(&folder, &both, &["`--json` and `--junit`", "stdout"]).await;
    let both = ["rollout", "--json=-", "--html=-", "--", "true"];
    is_usage(&folder, &both, &["`--json` and `--html`", "stdout"]).await;
    // Everything that was chosen is skipped: that is no pass.
    let port = [
        "-c",
        "import socket,time; s=socket.create_server(('',int(__import__('os').environ['PORT']))); time.sleep(60)",
    ];
    let options = [&["--theme=websocket", "--", "python3"], &port[..]].concat();
    is_usage(&folder, &options, &["every scenario was skipped"]).await;
}

/// As one that takes a fixed port is: two at once are one too many.
#[tokio::test]
async fn what_cannot_be_started_beside_itself_is_no_failure_to_stop() {
    let folder = folder();
    // Once to see whether it runs, once for a scenario, and no more.
    let script = format!(
        "mkdir 1 2>&1 || mkdir 2 2>&1 || {{ echo already in use; exit 9; }}; exec python3 {SERVICE}"
    );
    let options = ["--only=signals-sigterm-idle,http1-in-flight", "--jobs=2"];
    let files = ["--junit=out.xml", "--json=out.json"];
    let command = ["--", "sh", "-c", &script];
    let output = drill(&folder, &[FIXTURE, &options, &files, &command].concat()).await;
    let told = text(&output.stdout);
    assert_eq!(code(&output), 3, "{told}");
    for part in ["1 passed, 0 failed, 0 skipped, 1 not started", "--jobs 1", "already in use"] {
        assert!(told.contains(part), "no {part} in {told}");
    }
    assert!(!told.contains("why it matters"), "{told}");
    let read = |name| std::fs::read_to_string(folder.path().join(name)).unwrap();
    let (junit, json) = (read("out.xml"), read("out.json"));
    assert_eq!(junit.matches("<error type=\"start\"").count(), 1, "{junit}");
    assert!(junit.contains("failures=\"0\" errors=\"1\""), "{junit}");
    assert!(json.contains("\"outcome\": \"not_started\""), "{json}");
}

/// As a file with a process id is, which only an orderly end removes.
#[tokio::test]
async fn the_first_start_leaves_nothing_in_the_way_of_the_next() {
    let folder = folder();
    let lock = format!("--env=LOCK={}", folder.path().join("lock").display());
    let options = ["--only=signals-sigterm-idle", &lock];
    let output = passing_fixture(&folder, &options).await;
    assert_eq!(code(&output), 0, "{output:?}");
}

/// On the command line and in the file alike.
#[tokio::test]
async fn a_clean_end_may_be_by_the_signal() {
    let folder = folder();
    let options = ["--env=BAD=raises-signal", "--only=signals-sigterm-idle"];
    let said = passing_fixture(&folder, &[&options[..], &["--exit-clean=signal"]].concat()).await;
    assert_eq!(code(&said), 0, "{said:?}");
    std::fs::write(folder.path().join("drill.toml"), "exit-clean = 'signal'").unwrap();
    let read = passing_fixture(&folder, &options).await;
    assert_eq!(code(&read), 0, "{read:?}");
}

#[tokio::test]
async fn a_comparison_fails_when_ours_does() {
    let folder = folder();
    let ours = folder.path().join("ours");
    let script = format!(
        "#!/bin/sh\nPROBE_ADDR=$LIFECYCLE_PROBE_ADDR GRACE=6 LAME_DUCK=0 BAD=exits-at-once \\\n\
         exec python3 {SERVICE}\n"
    );
    std::fs::write(&ours, script).unwrap();
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&ours, executable).unwrap();
    let options = ["compare", "--server=lifecycle", "--theme=websocket", "--ours=./ours"];
    let output = drill(&folder, &options).await;
    let table = text(&output.stdout);
    assert!(table.contains("| `websocket-closed-1001` | **fail** |"), "{output:?}");
    assert_eq!(code(&output), 1, "{output:?}");
}

/// As with `2>&1 | head -1`.
#[tokio::test]
async fn a_reader_that_has_gone_changes_no_exit_code() {
    let folder = folder();
    let ready = ["--ready-line=ready", "--theme=websocket", "--", "sh", "-c"];
    let sleep = [&ready[..], &["echo ready; exec sleep 60"]].concat();
    for (options, expected) in [(&["--only=no-such"][..], 2), (&["--", "/none"], 3), (&sleep, 2)] {
        let mut command = tool(folder.path());
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        command.args(options).stdout(writer.try_clone().unwrap()).stderr(writer);
        let status = timeout(LIMIT, command.status()).await.unwrap().unwrap();
        assert_eq!(status.code(), Some(expected), "{options:?}");
    }
}

#[tokio::test]
async fn a_command_that_cannot_be_started_ends_with_3() {
    let folder = folder();
    let output = drill(&folder, &["--", "/nonexistent/command"]).await;
    assert_eq!(code(&output), 3);
    assert!(text(&output.stderr).contains("cannot run /nonexistent/command"), "{output:?}");
    let output = drill(&folder, &["--", "sh", "-c", "echo no database; exit 9"]).await;
    assert_eq!(code(&output), 3);
    assert!(text(&output.stderr).contains("no database"), "{output:?}");
    let output = drill(&folder, &["--start-timeout=300ms", "--", "sleep", "60"]).await;
    assert_eq!(code(&output), 3);
    assert!(text(&output.stderr).contains("not ready within 300ms"), "{output:?}");
}

#[tokio::test]
async fn pid_1_is_what_the_command_becomes_and_signals_reach_it() {
    let folder = folder();
    let script = format!("test $$ = 1 || exit 9; exec python3 {SERVICE}");
    let options = ["--pid-1", "--only=signals-sigterm-idle,http1-in-flight,signals-sigquit"];
    let command = ["--", "sh", "-c", &script];
    let output = drill(&folder, &[&["run"], FIXTURE, &options, &command].concat()).await;
    assert_eq!(code(&output), 0, "{}{}", text(&output.stdout), text(&output.stderr));
    // What dies of the signal elsewhere does not notice it there.
    let server = ["--", "python3", "-m", "http.server", "--bind", "127.0.0.1", "{port}"];
    let options = ["--only=signals-sigterm-idle,signals-sigterm-at-start", "--grace=1s"];
    let output = drill(&folder, &[&options[..], &["--pid-1"], &server].concat()).await;
    let told = text(&output.stdout);
    assert_eq!(code(&output), 1, "{told}");
    assert!(told.contains("seen: still running after"), "{told}");
    assert!(told.contains("needs not to be PID 1"), "{told}");
}

#[tokio::test]
async fn a_system_without_such_namespaces_says_what_it_takes() {
    let folder = folder();
    let mut command = tool(folder.path());
    command.args(["--pid-1", "--", "/bin/sleep", "60"]).env("PATH", folder.path());
    let output = ended(command).await;
    let said = text(&output.stderr);
    assert_eq!(code(&output), 3, "{said}");
    for part in ["no PID namespace: unshare: No such file", "CAP_SYS_ADMIN", "user namespaces"] {
        assert!(said.contains(part), "no {part} in {said}");
    }
}

#[tokio::test]
async fn the_command_does_not_outlive_a_tool_that_is_told_to_stop() {
    let folder = folder();
    let pids = folder.path().join("pids");
    let script = format!("echo $$ >> {}; exec python3 {SERVICE}", pids.display());
    let mut command = tool(folder.path());
    command.arg("run").args(FIXTURE);
    command.args(["--env=BAD=ignores-sigterm", "--grace=5s", "--only=signals-sigterm-idle"]);
    command.args(["--", "sh", "-c", &script]).stdout(Stdio::null()).stderr(Stdio::null());
    let mut running = command.spawn().unwrap();
    let started = async {
        // Once to see whether it runs at all, which ends at the grace, once for the scenario.
        while std::fs::read_to_string(&pids).unwrap_or_default().lines().count() < 2 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(LIMIT, started).await.unwrap();
    let pid = rustix::process::Pid::from_raw(running.id().unwrap().cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let status = timeout(LIMIT, running.wait()).await.unwrap().unwrap();
    assert_eq!(status.code(), Some(143));
    for pid in std::fs::read_to_string(&pids).unwrap().lines() {
        let gone = async {
            while alive(pid) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(LIMIT, gone).await.unwrap();
    }
}

/// Whether it runs: a zombie does not.
fn alive(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| !rest.trim().is_empty() && !rest.starts_with(" Z"))
}

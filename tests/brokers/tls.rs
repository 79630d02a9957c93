//! TLS to each broker that has it, as a program meets it: by its URL, with the system's
//! certificates (`SSL_CERT_FILE` names them here).

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use tests::brokers::{PrivateNats, PrivateRabbit, PrivateRedis, free_port};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::time::{Instant, sleep, timeout};

/// A certificate of `localhost` that only those trust who are given it.
struct Identity {
    folder: TempDir,
}

impl Identity {
    fn new() -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let this = Self { folder: TempDir::new().unwrap() };
        std::fs::write(this.certificate(), made.cert.pem()).unwrap();
        std::fs::write(this.key(), made.signing_key.serialize_pem()).unwrap();
        this
    }

    fn certificate(&self) -> PathBuf {
        self.folder.path().join("certificate.pem")
    }

    fn key(&self) -> PathBuf {
        self.folder.path().join("key.pem")
    }
}

/// `jobs push --count 3` where those certificates are trusted.
async fn push(url: &str, trusted: &Path) -> Output {
    let folder = TempDir::new().unwrap();
    let mut command = Command::new(tests::example("jobs"));
    command
        .args(["push", "--count", "3"])
        .current_dir(folder.path())
        .env("QUEUE_URL", url)
        .env("SSL_CERT_FILE", trusted)
        .env_remove("SSL_CERT_DIR")
        .env_remove("RUST_BACKTRACE")
        .stdin(Stdio::null())
        .kill_on_drop(true);
    timeout(LIMIT, command.output()).await.expect("it ends in time").unwrap()
}

/// It works with the certificate, and not without.
async fn is_checked(url: &str, identity: &Identity) {
    let output = push(url, &identity.certificate()).await;
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{url}: {said}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "{\"pushed\":3}\n", "{url}");
    let other = Identity::new();
    let output = push(url, &other.certificate()).await;
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{url}: {said}");
    assert!(said.to_lowercase().contains("certificate"), "{url}: {said}");
    println!("{}", said.trim());
}

/// A server is started when its plain port listens; the other one may come later.
async fn listens(port: u16) {
    let limit = Instant::now() + LIMIT;
    while let Err(error) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await {
        assert!(Instant::now() < limit, "nobody listens on {port}: {error}");
        // Sleeps: a port tells nobody when it opens.
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_is_reached_by_tls() {
    let (identity, port) = (Identity::new(), free_port());
    let (certificate, key) = (identity.certificate(), identity.key());
    let options = [
        ("--tls-port", &*port.to_string()),
        ("--tls-cert-file", certificate.to_str().unwrap()),
        ("--tls-key-file", key.to_str().unwrap()),
        ("--tls-ca-cert-file", certificate.to_str().unwrap()),
        ("--tls-auth-clients", "no"),
    ];
    let options: Vec<_> = options.into_iter().flat_map(|(name, value)| [name, value]).collect();
    let _redis = PrivateRedis::with(&options, None).await;
    listens(port).await;
    is_checked(&format!("rediss://localhost:{port}"), &identity).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rabbitmq_is_reached_by_tls() {
    let (identity, port) = (Identity::new(), free_port());
    let (certificate, key) = (identity.certificate(), identity.key());
    let configuration = format!(
        "listeners.ssl.1 = 127.0.0.1:{port}\n\
         ssl_options.cacertfile = {0}\n\
         ssl_options.certfile = {0}\n\
         ssl_options.keyfile = {1}\n\
         ssl_options.verify = verify_none\n\
         ssl_options.fail_if_no_peer_cert = false\n",
        certificate.display(),
        key.display(),
    );
    let _rabbit = PrivateRabbit::with(&configuration).await;
    listens(port).await;
    is_checked(&format!("amqps://guest:guest@localhost:{port}"), &identity).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nats_is_reached_by_tls() {
    let identity = Identity::new();
    let configuration = format!(
        "jetstream: enabled\ntls {{ cert_file: {:?}, key_file: {:?} }}\n",
        identity.certificate(),
        identity.key(),
    );
    let nats = PrivateNats::with(&configuration).await;
    is_checked(&format!("tls://localhost:{}", nats.port()), &identity).await;
}

const LIMIT: Duration = Duration::from_secs(60);

//! TLS, by the feature `redis-tls`.

use std::time::Duration;

use lifecycle_worker::{Queue, QueueError, RedisQueue};
use redis::{Client, TlsCertificates};
use tests::brokers::{PrivateRedis, free_port};

use super::{jobs, most, work_off};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_is_reached_by_tls_and_its_certificate_is_checked() {
    // The program's choice; another test of this process may have made it.
    drop(tokio_rustls::rustls::crypto::ring::default_provider().install_default());
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: String| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let certificate = file("certificate.pem", made.cert.pem());
    let key = file("key.pem", made.signing_key.serialize_pem());
    let port = free_port();
    let tls_port = port.to_string();
    let options = ["--tls-port", &tls_port, "--tls-cert-file", &certificate, "--tls-key-file"];
    let more = [&key[..], "--tls-ca-cert-file", &certificate, "--tls-auth-clients", "no"];
    let options: Vec<_> = options.into_iter().chain(more).collect();
    let _redis = PrivateRedis::with(&options, None).await;
    let url = format!("rediss://localhost:{port}");

    let certificates =
        TlsCertificates { client_tls: None, root_cert: Some(made.cert.pem().into_bytes()) };
    let client = Client::build_with_tls(url.as_str(), certificates).unwrap();
    let queue = RedisQueue::from_client(client, "mail").await.unwrap();
    queue.push(&jobs(3)).await.unwrap();
    assert_eq!(work_off(&queue).await, 3);
    assert!(queue.claim(most(1), Duration::from_millis(20)).await.unwrap().is_empty());

    // The system knows nobody who has signed it.
    let error = RedisQueue::connect(&url, "mail").await.unwrap_err();
    assert!(matches!(error, QueueError::Unavailable(_)), "{error:?}");
}

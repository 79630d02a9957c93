//! TLS in front of everything: HTTP/1 and HTTP/2 by ALPN, drained as without it.
//!
//! Run with `cargo run -p examples --bin 06_tls`, ask with `curl -k https://localhost:8080/`.
//! The certificate is made at the start, for localhost, unless the files that `CERT` and
//! `KEY` name have one (PEM).

use std::env;
use std::error::Error;
use std::sync::Arc;

use lifecycle::{Lifecycle, Report};
use lifecycle_tower::{TlsListener, serve};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

#[tokio::main]
async fn main() -> Result<Report, Box<dyn Error>> {
    let mut life = Lifecycle::from_env()?;
    examples::init_logs();
    life.serve_probes().await?;
    let listener = TlsListener::new(examples::listen().await?, config()?);
    life.spawn("https", serve(listener, examples::routes::routes()));
    examples::say_ready();
    Ok(life.run().await?)
}

/// TLS 1.2 and 1.3. ALPN is left to the listener: h2 and http/1.1.
fn config() -> Result<Arc<ServerConfig>, Box<dyn Error>> {
    let (certificates, key) = match (env::var_os("CERT"), env::var_os("KEY")) {
        (Some(certificates), Some(key)) => (
            CertificateDer::pem_file_iter(certificates)?.collect::<Result<_, _>>()?,
            PrivateKeyDer::from_pem_file(key)?,
        ),
        (None, None) => self_signed()?,
        _ => return Err("CERT and KEY go together: one is set, the other is not".into()),
    };
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(certificates, key)?;
    Ok(Arc::new(config))
}

fn self_signed() -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), Box<dyn Error>> {
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
    let made = rcgen::generate_simple_self_signed(names)?;
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der())?;
    Ok((vec![made.cert.into()], key))
}

//! The same without axum: any tower service of http requests.
//!
//! Run with `cargo run -p examples --bin 02_hyper`; stop with Ctrl-C or SIGTERM. It answers
//! `GET /work?ms=N` after N milliseconds and echoes the body of a POST.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use lifecycle::{Lifecycle, Report};
use lifecycle_tower::serve;

async fn answer<B>(request: Request<B>) -> Result<Response<Full<Bytes>>, Infallible>
where
    B: BodyExt,
{
    let query = request.uri().query().unwrap_or_default();
    let ms = query.strip_prefix("ms=").and_then(|ms| ms.parse().ok());
    match (request.method(), request.uri().path()) {
        (&Method::GET, "/work") => {
            tokio::time::sleep(Duration::from_millis(ms.unwrap_or(100))).await;
            Ok(Response::new(Full::from("done")))
        }
        (&Method::POST, "/echo") => match request.into_body().collect().await {
            Ok(body) => Ok(Response::new(Full::new(body.to_bytes()))),
            Err(_) => Ok(with_status(StatusCode::BAD_REQUEST)),
        },
        _ => Ok(with_status(StatusCode::NOT_FOUND)),
    }
}

fn with_status(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = status;
    response
}

#[tokio::main]
async fn main() -> Result<Report, Box<dyn std::error::Error>> {
    examples::init_logs();
    let mut life = Lifecycle::from_env()?;
    life.serve_probes().await?;
    life.spawn("http", serve(examples::listen().await?, tower::service_fn(answer)));
    examples::say_ready();
    Ok(life.run().await?)
}

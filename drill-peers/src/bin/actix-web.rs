//! actix-web, which catches the signals itself, with its `shutdown_timeout`.

use std::time::Duration;

use actix_web::web::{Bytes, Payload, Query, get, post};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, Result, rt};
use drill_peers::{DEADLINE, Number, address, chunks};
use futures_util::stream;

#[actix_web::main]
async fn main() -> std::io::Result<()> {
    let app = || {
        App::new()
            .route("/readyz", get().to(|| async { "ok" }))
            .route("/livez", get().to(|| async { "ok" }))
            .route("/work", get().to(work))
            .route("/echo", post().to(|body: Bytes| async { body }))
            .route(
                "/big",
                get().to(|n: Query<Number>| async move {
                    HttpResponse::Ok().streaming(chunks(n.bytes))
                }),
            )
            .route("/events", get().to(events))
            .route("/ws", get().to(websocket))
            .route("/block", get().to(block))
            .route("/panic", get().to(|| async { if true { panic!("asked to") } else { "" } }))
    };
    let server =
        HttpServer::new(app).bind_auto_h2c(address())?.shutdown_timeout(DEADLINE.as_secs());
    println!("ready");
    server.run().await
}

async fn work(time: Query<Number>) -> &'static str {
    rt::time::sleep(Duration::from_millis(time.bytes)).await;
    "worked\n"
}

async fn events() -> HttpResponse {
    let every = rt::time::interval(Duration::from_millis(100));
    let ticks = stream::unfold(every, |mut every| async move {
        every.tick().await;
        Some((Ok::<_, actix_web::Error>(Bytes::from_static(b"data: tick\n\n")), every))
    });
    HttpResponse::Ok().content_type("text/event-stream").streaming(ticks)
}

async fn websocket(request: HttpRequest, body: Payload) -> Result<HttpResponse> {
    let (response, mut session, mut messages) = actix_ws::handle(&request, body)?;
    rt::spawn(async move {
        while let Some(Ok(message)) = messages.recv().await {
            let actix_ws::Message::Text(text) = message else { continue };
            if session.text(text).await.is_err() {
                return;
            }
        }
    });
    Ok(response)
}

async fn block(time: Query<Number>) -> &'static str {
    std::thread::sleep(Duration::from_millis(time.bytes));
    "blocked\n"
}

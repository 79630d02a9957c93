//! Rocket, which catches the signals itself; streams end as its documentation has it.

use std::time::Duration;

use drill_peers::{address, chunks};
use futures_util::StreamExt;
use rocket::data::{Data, ToByteUnit};
use rocket::response::stream::{ByteStream, Event, EventStream};
use rocket::tokio::{select, task::spawn_blocking, time};
use rocket::{Config, Shutdown, get, launch, post, routes};

#[launch]
fn launch() -> _ {
    let address = address();
    // Three seconds for what is in flight, one for its I/O, and one of Rocket's own.
    let shutdown = rocket::config::Shutdown { grace: 3, mercy: 1, ..Default::default() };
    let config =
        Config { address: address.ip(), port: address.port(), shutdown, ..Config::default() };
    rocket::custom(config)
        .mount("/", routes![readyz, livez, work, echo, big, events, ws, block, pool, panic])
}

#[get("/readyz")]
fn readyz() -> &'static str {
    "ok"
}

#[get("/livez")]
fn livez() -> &'static str {
    "ok"
}

#[get("/work?<ms>")]
async fn work(ms: u64) -> &'static str {
    time::sleep(Duration::from_millis(ms)).await;
    "worked\n"
}

#[post("/echo", data = "<body>")]
async fn echo(body: Data<'_>) -> std::io::Result<Vec<u8>> {
    Ok(body.open(64.mebibytes()).into_bytes().await?.into_inner())
}

#[get("/big?<bytes>")]
fn big(bytes: u64) -> ByteStream![Vec<u8>] {
    ByteStream(chunks(bytes).map(|chunk| chunk.unwrap_or_default().to_vec()))
}

#[get("/events")]
fn events(mut end: Shutdown) -> EventStream![] {
    EventStream! {
        let mut every = time::interval(Duration::from_millis(100));
        loop {
            select! { _ = every.tick() => yield Event::data("tick"), () = &mut end => break }
        }
    }
}

#[get("/ws")]
fn ws(ws: rocket_ws::WebSocket) -> rocket_ws::Stream!['static] {
    ws.stream(|messages| messages)
}

#[get("/block?<ms>")]
async fn block(ms: u64) -> &'static str {
    std::thread::sleep(Duration::from_millis(ms));
    "blocked\n"
}

#[get("/pool?<ms>")]
async fn pool(ms: u64) -> &'static str {
    drop(spawn_blocking(move || std::thread::sleep(Duration::from_millis(ms))).await);
    "blocked\n"
}

#[get("/panic")]
fn panic() -> &'static str {
    panic!("asked to")
}

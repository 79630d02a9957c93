//! `axum::serve` with `with_graceful_shutdown`, as its documentation has it.

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let stop = drill_peers::told_to_stop();
    let listener = tokio::net::TcpListener::bind(drill_peers::address()).await?;
    println!("ready");
    axum::serve(listener, drill_peers::routes()).with_graceful_shutdown(stop).await
}

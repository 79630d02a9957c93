//! axum-server with its handle's graceful shutdown, and a deadline.

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let (stop, handle) = (drill_peers::told_to_stop(), axum_server::Handle::new());
    let server = axum_server::bind(drill_peers::address()).handle(handle.clone());
    tokio::spawn(async move {
        handle.listening().await;
        println!("ready");
        stop.await;
        handle.graceful_shutdown(Some(drill_peers::DEADLINE));
    });
    server.serve(drill_peers::routes().into_make_service()).await
}

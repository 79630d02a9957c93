//! tonic's own server, with plain routes beside which its services would stand.

use tonic::{service::Routes, transport::Server};

#[tokio::main]
async fn main() -> Result<(), tonic::transport::Error> {
    let stop = drill_peers::told_to_stop();
    let routes = Routes::from(drill_peers::routes());
    let server = Server::builder().accept_http1(true).add_routes(routes);
    println!("ready");
    server.serve_with_shutdown(drill_peers::address(), stop).await
}

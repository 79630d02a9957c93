//! What a `Lifecycle` says of its probes: where they are, what they show, what they may do.

use crate::command::Command;
use crate::lifecycle::Lifecycle;

impl Lifecycle {
    /// Lets `POST /drainz` on the probe server begin the shutdown, for platforms that can send
    /// a request but no signal. Default: it is refused, since whoever reaches the port could
    /// stop the process.
    pub fn drain_by_post(&mut self) -> &mut Self {
        self.shared().set_drained_by_post();
        self
    }

    /// Shows what `render` returns as `/metrics` of the probe server
    /// ([`serve_probes`](Self::serve_probes)), in Prometheus' text format.
    ///
    /// Which exporter and recorder there are is the program's business: none is installed here.
    /// `render` is called at each scrape, after the gauges were written
    /// ([`Handle::record_metrics`](crate::Handle::record_metrics)). It runs on the control thread, so that a blocked
    /// application runtime does not blind it: it must not wait for that runtime, and signals
    /// wait for it. When called again, the last `render` counts.
    ///
    /// # Examples
    /// ```no_run
    /// use lifecycle::{Lifecycle, Report};
    /// use metrics_exporter_prometheus::PrometheusBuilder;
    ///
    /// #[tokio::main]
    /// async fn main() -> Result<Report, Box<dyn std::error::Error>> {
    ///     let mut life = Lifecycle::from_env()?;
    ///     let recorder = PrometheusBuilder::new().build_recorder();
    ///     let exporter = recorder.handle();
    ///     metrics::set_global_recorder(recorder)?;
    ///     life.export_metrics(move || exporter.render());
    ///     life.serve_probes().await?; // /metrics too
    ///     Ok(life.run().await?)
    /// }
    /// ```
    #[cfg(feature = "metrics")]
    #[cfg_attr(docsrs, doc(cfg(all(feature = "metrics", feature = "probes"))))]
    pub fn export_metrics(
        &mut self,
        render: impl Fn() -> String + Send + Sync + 'static,
    ) -> &mut Self {
        crate::metering::begin();
        self.shared().set_exporter(crate::metering::Exporter::new(render));
        self
    }

    /// Serves `/livez`, `/readyz` and `/startupz` from the control thread, until just
    /// before the report; `/healthz` is `/livez` again, `/drainz?wait=20s` waits for the end
    /// of the drain, and `/statusz` shows everything that is known.
    ///
    /// Call it before slow start-up work, so that the platform sees a live process that is
    /// not ready yet. Returns the address that was bound, or `None` when probes are `off`.
    ///
    /// # Errors
    /// [`ProbeError::Bind`](crate::ProbeError::Bind) when the address cannot be bound.
    ///
    /// # Cancel safety
    /// Dropped before it returns, the server may or may not have been started.
    pub async fn serve_probes(
        &mut self,
    ) -> Result<Option<std::net::SocketAddr>, crate::ProbeError> {
        let Some(addr) = self.settings().probe_addr else {
            return Ok(None);
        };
        let bind = |source| crate::ProbeError::Bind { addr, source };
        let listener = super::bind(addr).map_err(bind)?;
        self.serve_probes_on(listener).await.map(Some)
    }

    /// As [`serve_probes`](Self::serve_probes), on a listener of the caller's: an inherited
    /// one, or one bound in another way. The setting of the address, `off` too, is not looked
    /// at. Returns the listener's address.
    ///
    /// # Errors
    /// [`ProbeError::Listener`](crate::ProbeError::Listener) when the operating system refuses
    /// its use.
    ///
    /// # Cancel safety
    /// Dropped before it returns, the server may or may not have been started.
    pub async fn serve_probes_on(
        &mut self,
        listener: std::net::TcpListener,
    ) -> Result<std::net::SocketAddr, crate::ProbeError> {
        listener.set_nonblocking(true).map_err(crate::ProbeError::Listener)?;
        let bound = listener.local_addr().map_err(crate::ProbeError::Listener)?;
        let sent = self.commands().send(Command::Probes(listener)).await;
        sent.map_err(|_| crate::ProbeError::Ended)?;
        Ok(bound)
    }
}

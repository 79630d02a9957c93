//! What more can be said of a component when it is registered.

use std::time::Duration;

use crate::component::{Component, Registered, Tenure};
use crate::health::Heart;
use crate::lifecycle::Lifecycle;

/// A component just registered by [`Lifecycle::spawn`]: say more of it, or register the
/// next.
#[derive(Debug)]
pub struct Spawned<'a> {
    life: &'a mut Lifecycle,
}

impl<'a> Spawned<'a> {
    pub(crate) fn new(life: &'a mut Lifecycle) -> Self {
        Self { life }
    }

    /// Drains this component after the one of that name (call it again for more).
    ///
    /// It goes quiet with everybody, at the cause; but its handle says `Draining` only when
    /// the others have ended, so that what it does is there for them until then. All have
    /// the same deadlines: at the hard stop it is told to drain, and is cancelled when the
    /// others have ended or its share of the cancel window has come, the later in the chain
    /// the later. A component that is a plain future is told nothing by itself: use
    /// [`component_fn`](crate::component_fn).
    ///
    /// The name may be registered later; [`run`](Lifecycle::run) refuses one that is
    /// unknown, and circles.
    pub fn after(self, name: impl Into<String>) -> Self {
        self.edit(|component| component.after.push(name.into()))
    }

    /// Lets the component end before the shutdown, as long as it returns `Ok`. Default: it
    /// is essential, and its return begins the shutdown as a failure. A process whose
    /// components have all ended so goes on until it is told to stop.
    #[allow(clippy::must_use_candidate, reason = "it may end the chain")]
    pub fn optional(self) -> Self {
        self.edit(|component| component.tenure = Tenure::Optional)
    }

    /// Gives the component's heart a limit: when it has not called [`Handle::beat`](crate::Handle::beat) (on the
    /// handle that it is started with) for longer, `/livez` fails until it does. Not in a
    /// shutdown, nor once it has ended.
    #[allow(clippy::must_use_candidate, reason = "it may end the chain")]
    pub fn heartbeat(self, limit: Duration) -> Self {
        let name = self.life.last().map(|component| component.name.clone()).unwrap_or_default();
        let heart = self.life.shared().health().add_heart(Heart::new(name, limit));
        self.edit(|component| component.heart = Some(heart))
    }

    /// Registers the next component.
    pub fn spawn(self, name: impl Into<String>, component: impl Component) -> Self {
        self.life.register(Registered::new(name.into(), Tenure::Essential, component));
        self
    }

    fn edit(self, edit: impl FnOnce(&mut Registered)) -> Self {
        if let Some(component) = self.life.last() {
            edit(component);
        }
        self
    }
}

//! How many descriptors this process and its children may have.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the limit, to `wanted` at least where that is allowed; what it is then.
///
/// # Panics
/// Where the system does not give what it allows.
#[must_use]
pub fn descriptors(wanted: u64) -> u64 {
    let limit = getrlimit(Resource::Nofile);
    if limit.maximum.is_some_and(|most| most < wanted) {
        let raised = Rlimit { current: Some(wanted), maximum: Some(wanted) };
        // Only some may; whether it was had is seen below.
        setrlimit(Resource::Nofile, raised).ok();
    }
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })
        .expect("up to its maximum everybody may");
    limit.maximum.unwrap_or(u64::MAX)
}

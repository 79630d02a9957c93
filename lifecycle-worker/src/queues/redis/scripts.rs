//! The scripts, and the keys that they work on.
//!
//! Each script is short and runs alone on the server: what it does, it does whole or not at all.
//! They reach the jobs' hashes by a prefix, since a claim learns which jobs it takes only in the
//! script: all keys of a queue have its name for their hash tag, and so one slot.

use std::sync::Arc;

use redis::{Cmd, Script};

/// The keys of one queue.
#[derive(Debug)]
pub(super) struct Keys {
    sets: [String; 6],
    jobs: String,
    once: String,
}

/// All scripts, each with its hash.
#[derive(Debug)]
pub(super) struct Scripts {
    pub(super) ack: Arc<Script>,
    pub(super) claim: Arc<Script>,
    pub(super) dead: Arc<Script>,
    pub(super) extend: Arc<Script>,
    pub(super) fail: Arc<Script>,
    pub(super) push: Arc<Script>,
    pub(super) release: Arc<Script>,
    pub(super) stats: Arc<Script>,
}

impl Keys {
    pub(super) fn new(name: &str) -> Self {
        let base = format!("lifecycle:{{{name}}}");
        let sets = ["ready", "scheduled", "leases", "dead", "counters", "wake"];
        Self {
            sets: sets.map(|set| format!("{base}:{set}")),
            jobs: format!("{base}:job:"),
            once: format!("{base}:once:"),
        }
    }

    /// The list that holds the marker.
    pub(super) fn wake(&self) -> &str {
        &self.sets[5]
    }

    /// The key that remembers a dedupe key.
    pub(super) fn once(&self, key: &str) -> String {
        format!("{}{key}", self.once)
    }

    /// The call of a script by its hash, to which its own arguments are added.
    pub(super) fn call(&self, script: &Script, owner: &str, look_ms: u64) -> Cmd {
        let mut call = redis::cmd("EVALSHA");
        call.arg(script.get_hash()).arg(self.sets.len()).arg(&self.sets[..]);
        call.arg(&self.jobs).arg(owner).arg(look_ms);
        call
    }
}

impl Scripts {
    pub(super) fn new() -> Self {
        let script = |own: &str| Arc::new(Script::new(&format!("{COMMON}\n{own}")));
        let full = |own: &str| Arc::new(Script::new(&format!("{ALSO_FULL}\n{COMMON}\n{own}")));
        Self {
            ack: script(include_str!("lua/ack.lua")),
            claim: full(include_str!("lua/claim.lua")),
            dead: script(include_str!("lua/dead.lua")),
            extend: full(include_str!("lua/extend.lua")),
            fail: full(include_str!("lua/fail.lua")),
            push: script(include_str!("lua/push.lua")),
            release: full(include_str!("lua/release.lua")),
            stats: script(include_str!("lua/stats.lua")),
        }
    }
}

const COMMON: &str = include_str!("lua/common.lua");
/// Of a script that runs at `maxmemory` too, though it begins with what takes memory, some bytes a
/// job: what is claimed makes room. An acknowledgement begins with what takes none, and is let
/// through by that; a push is refused.
const ALSO_FULL: &str = "#!lua flags=allow-oom";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_keys_of_a_queue_have_one_hash_tag() {
        let keys = Keys::new("mail");
        assert_eq!(keys.wake(), "lifecycle:{mail}:wake");
        assert_eq!(keys.once("a}b"), "lifecycle:{mail}:once:a}b");
        assert!(keys.sets.iter().all(|key| key.starts_with("lifecycle:{mail}:")));
        assert!(keys.jobs.starts_with("lifecycle:{mail}:"));
    }
}

//! What this process holds at a moment.

use std::fs;

use stats_alloc::INSTRUMENTED_SYSTEM;
use tokio::runtime::Handle;

/// What is held, as the allocator, the system and the runtime count it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Sample {
    /// Bytes allocated and not freed; none where `INSTRUMENTED_SYSTEM` is not the allocator.
    pub heap_bytes: u64,
    /// Allocations not freed.
    pub allocations: u64,
    /// Memory in RAM, in KiB.
    pub memory_kib: u64,
    /// Tasks of the runtime that have not ended.
    pub tasks: u64,
    /// Open files, sockets and the like.
    pub descriptors: u64,
    /// Threads, the runtime's own among them.
    pub threads: u64,
}

impl Sample {
    /// Now.
    ///
    /// # Panics
    /// Outside a runtime, and where there is no `/proc`.
    #[must_use]
    pub fn now() -> Self {
        // Before anything below allocates.
        let heap = INSTRUMENTED_SYSTEM.stats();
        let status = fs::read_to_string("/proc/self/status").expect("Linux");
        let of = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let number = line.and_then(|line| line.split_whitespace().next());
            number.and_then(|number| number.parse().ok()).expect("a number")
        };
        // Without the one that looks.
        let descriptors = fs::read_dir("/proc/self/fd").expect("Linux").count() as u64 - 1;
        Self {
            heap_bytes: heap.bytes_allocated.saturating_sub(heap.bytes_deallocated) as u64,
            allocations: heap.allocations.saturating_sub(heap.deallocations) as u64,
            memory_kib: of("VmRSS:"),
            tasks: Handle::current().metrics().num_alive_tasks() as u64,
            descriptors,
            threads: of("Threads:"),
        }
    }

    /// Whether nothing is held beyond what `before` held, memory apart: that is not given back
    /// to the last byte.
    #[must_use]
    pub fn is_back_at(&self, before: &Self) -> bool {
        self.tasks <= before.tasks
            && self.descriptors <= before.descriptors
            && self.threads <= before.threads
    }
}

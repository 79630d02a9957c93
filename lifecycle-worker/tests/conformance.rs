//! The conformance suite on the queue in memory, and that each of its checks can fail.

#[path = "conformance/broken.rs"]
mod broken;

use std::time::Duration;

use broken::{Broken, Fault};
use lifecycle_worker::conformance::{self, Outcome, Report, Setting};
use lifecycle_worker::{
    Attempt, BoxError, Capabilities, Lease, MemoryQueue, Place, QueueError, ReleaseCapabilities,
};
use tokio::time::Instant;

/// What a queue declares, made of the truth.
type Declare = fn(Capabilities) -> Capabilities;

async fn memory(setting: Setting) -> Result<(MemoryQueue, MemoryQueue), BoxError> {
    let queue = MemoryQueue::new(setting.name).lease(setting.lease);
    let other = queue.claimant();
    Ok((queue, other))
}

async fn report_on(fault: Fault, declare: Declare) -> Report {
    let setup =
        async |setting: Setting| Ok(Broken::pair(setting.name, setting.lease, fault, declare));
    conformance::suite(setup).await
}

fn honest(can: Capabilities) -> Capabilities {
    can
}

fn returning(mut can: Capabilities, change: fn(&mut ReleaseCapabilities)) -> Capabilities {
    if let Some(release) = &mut can.release {
        change(release);
    }
    can
}

/// Cancels: conformance::suite
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_queue_in_memory_conforms_in_real_time() {
    let began = Instant::now();
    let report = conformance::suite(memory).await;
    report.assert_passed();
    let took = began.elapsed();
    assert!(took < LONGEST, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn the_suite_works_in_paused_time_and_says_all_that_it_did() {
    let report = conformance::suite(memory).await;
    assert!(report.is_passed() && report.failed().is_empty(), "{report}");
    let all_passed = report.verdicts().iter().all(|v| v.outcome == Outcome::Passed);
    assert!(all_passed, "{report}");
    assert!(report.to_string().ends_with(" passed, 0 failed, 0 skipped"), "{report}");
}

#[tokio::test(start_paused = true)]
async fn each_fault_fails_the_check_that_is_meant_for_it_and_no_other() {
    let faultless = report_on(Fault::None, honest).await;
    faultless.assert_passed();
    let mut wrong = String::new();
    for (fault, check) in FAULTS {
        let report = report_on(*fault, honest).await;
        if report.failed() != [*check] {
            wrong.push_str(&format!("\n{fault:?} fails {:?}:\n{report}", report.failed()));
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    for verdict in faultless.verdicts() {
        let over = OVER.iter().map(|(.., check)| *check);
        let mut checks = FAULTS.iter().map(|(_, check)| *check).chain(over);
        assert!(checks.any(|check| check == verdict.check), "no fault fails {}", verdict.check);
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_declared_and_not_kept_fails() {
    for (fault, declare, check) in OVER {
        let report = report_on(*fault, *declare).await;
        assert_eq!(report.failed(), [*check], "{fault:?}:\n{report}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_kept_and_not_declared_fails() {
    for (check, declare) in UNDER {
        let report = report_on(Fault::None, *declare).await;
        assert_eq!(report.failed(), [*check], "{report}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_neither_kept_nor_declared_is_skipped() {
    for (fault, check, declare) in NEITHER {
        let report = report_on(*fault, *declare).await;
        report.assert_passed();
        let verdict = report.verdicts().iter().find(|v| v.check == *check).unwrap();
        let Outcome::Skipped(why) = &verdict.outcome else { panic!("{verdict}") };
        assert!(why.ends_with("is not declared"), "{verdict}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_broker_of_connections_that_does_not_answer_conforms() {
    let connections: Declare = |mut can| {
        (can.lease, can.confirmed) = (Lease::Connection, false);
        can
    };
    let report = report_on(Fault::ConnectionIsLease, connections).await;
    report.assert_passed();
    let skipped = report.verdicts().iter().filter(|v| v.outcome != Outcome::Passed);
    let skipped: Vec<_> = skipped.map(|v| v.check).collect();
    assert_eq!(skipped, ["extend", "mixed_receipts"], "{report}");
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_is_far_away_conforms() {
    let began = Instant::now();
    report_on(Fault::Slow, honest).await.assert_passed();
    let took = began.elapsed();
    assert!(took < Duration::from_secs(25), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_panic_and_a_queue_that_cannot_be_made_are_failures() {
    let report = report_on(Fault::PanicsOnEmptyAck, honest).await;
    assert_eq!(report.failed(), ["batches"], "{report}");
    assert!(report.to_string().contains("FAILED  batches: panicked"), "{report}");
    let nothing = async |_| Err::<(MemoryQueue, MemoryQueue), _>(QueueError::Closed.into());
    let report = conformance::suite(nothing).await;
    assert!(!report.is_passed(), "{report}");
    assert!(report.to_string().contains("no queue: the queue is closed"), "{report}");
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "the queue does not conform")]
async fn a_report_of_a_failure_panics_when_asserted() {
    report_on(Fault::PriorityIsIgnored, honest).await.assert_passed();
}

/// Four seconds where nothing else runs.
const LONGEST: Duration = Duration::from_secs(30);

const FAULTS: &[(Fault, &str)] = &[
    (Fault::AckAnswersInReverse, "mixed_receipts"),
    (Fault::AckByAnyoneCounts, "fence"),
    (Fault::AckByOldClaimCounts, "reclaim_fences"),
    (Fault::AckOfManyIsCut, "many_receipts"),
    (Fault::AckTwiceIsRetry, "settle_twice"),
    (Fault::CheckpointIsDropped, "checkpoint"),
    (Fault::ClaimIsNotWoken, "push_wakes_claim"),
    (Fault::ClaimIsNotWokenByRelease, "release_wakes_claim"),
    (Fault::ClaimReverses, "batches"),
    (Fault::ClaimWaitsTooLittle, "claim_wait"),
    (Fault::ClaimsTwice, "concurrent_claims"),
    (Fault::CloseDoesNothing, "close"),
    (Fault::DeadComesAgain, "fail_dead"),
    (Fault::DeadIsOldestFirst, "dead_letters"),
    (Fault::DedupeForgets, "dedupe"),
    (Fault::DelayIsIgnored, "delay"),
    (Fault::ExtendByAnyoneCounts, "fence"),
    (Fault::ExtendDoesNothing, "extend"),
    (Fault::FailByAnyoneCounts, "fence"),
    (Fault::HeadersAreDropped, "payloads"),
    (Fault::InterruptDoesNothing, "interrupt"),
    (Fault::InterruptLosesJob, "interrupt_race"),
    (Fault::LeaseIsNotTold, "push_claim_ack"),
    (Fault::LeaseNeverEnds, "lease_end"),
    (Fault::NameDiffers, "names"),
    (Fault::PriorityIsIgnored, "priority"),
    (Fault::ReleaseByAnyoneCounts, "fence"),
    (Fault::ReleaseCounts, "release"),
    (Fault::ReleaseDelayIsIgnored, "release_delay"),
    (Fault::RetryComesEarly, "fail_retry"),
    (Fault::StatsForgetReturns, "stats"),
];

const OVER: &[(Fault, Declare, &str)] = &[
    (Fault::CheckpointIsDropped, honest, "checkpoint"),
    (Fault::DelayIsIgnored, honest, "delay"),
    (Fault::NoDeadLetters, honest, "dead_letters"),
    (Fault::NoRelease, honest, "release"),
    (Fault::NoStats, honest, "stats"),
    (Fault::None, |can| returning(can, |r| r.attempt = Attempt::Counted), "release"),
    (Fault::None, |can| returning(can, |r| r.place = Place::Back), "release_place"),
    (Fault::None, |can| returning(can, |r| r.place = Place::Front), "release_place"),
    (Fault::PriorityIsIgnored, honest, "priority"),
    (Fault::ReleaseDelayIsIgnored, honest, "release_delay"),
];

const UNDER: &[(&str, Declare)] = &[
    ("checkpoint", without_checkpoint),
    ("dead_letters", without_dead_letters),
    ("dedupe", without_dedupe),
    ("delay", without_delay),
    ("priority", without_priority),
    ("release", without_release),
    ("release_delay", |can| returning(can, |r| r.delay = false)),
    ("stats", without_stats),
];

const NEITHER: &[(Fault, &str, Declare)] = &[
    (Fault::CheckpointIsDropped, "checkpoint", without_checkpoint),
    (Fault::DelayIsIgnored, "delay", without_delay),
    (Fault::NoDeadLetters, "dead_letters", without_dead_letters),
    (Fault::NoDedupe, "dedupe", without_dedupe),
    (Fault::NoRelease, "release", without_release),
    (Fault::NoStats, "stats", without_stats),
    (Fault::PriorityIsIgnored, "priority", without_priority),
    (Fault::ReleaseDelayIsIgnored, "release_delay", |can| returning(can, |r| r.delay = false)),
];

fn without_checkpoint(mut can: Capabilities) -> Capabilities {
    can.checkpoint = false;
    can
}

fn without_dead_letters(mut can: Capabilities) -> Capabilities {
    can.dead_letters = false;
    can
}

fn without_dedupe(mut can: Capabilities) -> Capabilities {
    can.dedupe = false;
    can
}

fn without_delay(mut can: Capabilities) -> Capabilities {
    can.delay = false;
    can
}

fn without_priority(mut can: Capabilities) -> Capabilities {
    can.priority = false;
    can
}

fn without_release(mut can: Capabilities) -> Capabilities {
    can.release = None;
    can
}

fn without_stats(mut can: Capabilities) -> Capabilities {
    can.stats = false;
    can
}

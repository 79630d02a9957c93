//! What users may rely on of the public types: `Send`, `Sync`, `Debug`.
#![cfg(not(lifecycle_loom))]

use std::fmt::Debug;

use lifecycle::{
    Blocker, Budget, BudgetError, Builder, Cause, Cut, End, Ended, ExitPolicy, ExitReason,
    ForcedExit, Gate, Handle, InFlight, Kind, Lifecycle, Misuse, Note, Phase, PhaseTime,
    ProbeError, Reached, ReadinessPolicy, Refused, Report, Role, RunError, Signal, Stage,
    StartError,
};

fn shared<T: Send + Sync + Debug>() {}

#[test]
fn public_types_are_send_sync_and_debug() {
    shared::<Blocker>();
    shared::<Budget>();
    shared::<BudgetError>();
    shared::<Builder>();
    shared::<Cause>();
    shared::<Cut>();
    shared::<End>();
    shared::<Ended>();
    shared::<ExitPolicy>();
    shared::<ExitReason>();
    shared::<ForcedExit>();
    shared::<Gate>();
    shared::<Handle>();
    shared::<InFlight>();
    shared::<Kind>();
    shared::<Misuse>();
    shared::<Note>();
    shared::<Phase>();
    shared::<PhaseTime>();
    shared::<ProbeError>();
    shared::<Reached>();
    shared::<ReadinessPolicy>();
    shared::<Refused>();
    shared::<Report>();
    shared::<Role>();
    shared::<RunError>();
    shared::<Signal>();
    shared::<Stage>();
    shared::<StartError>();
    shared::<lifecycle::CheckKind>();
    shared::<lifecycle::CheckState>();
    shared::<lifecycle::CheckStatus>();
    shared::<lifecycle::QueueJobs>();
    shared::<lifecycle::Readiness>();
    #[cfg(feature = "probes")]
    shared::<lifecycle::Probes>();
    #[cfg(feature = "process")]
    shared::<lifecycle::ChildProcess>();
    #[cfg(feature = "process")]
    shared::<lifecycle::ChildError>();
    #[cfg(all(target_os = "linux", feature = "systemd"))]
    shared::<lifecycle::Inherited>();
    #[cfg(all(target_os = "linux", feature = "systemd"))]
    shared::<lifecycle::InheritedSocket>();
    #[cfg(all(target_os = "linux", feature = "systemd"))]
    shared::<lifecycle::InheritError>();
    #[cfg(all(target_os = "linux", feature = "systemd"))]
    shared::<lifecycle::StopTimeout>();
    // It holds the futures of hooks, which need not be `Sync`.
    fn sent<T: Send + Debug>() {}
    sent::<Lifecycle>();
    sent::<lifecycle::Check>();
    #[cfg(feature = "probes")]
    sent::<lifecycle::ProbeFuture>();
    #[cfg(feature = "test-kit")]
    sent::<lifecycle::test_kit::TestKit>();
    #[cfg(feature = "test-kit")]
    shared::<lifecycle::test_kit::Script>();
    #[cfg(feature = "test-kit")]
    shared::<lifecycle::test_kit::PhaseLog>();
    #[cfg(feature = "test-kit")]
    shared::<lifecycle::test_kit::CheckedReport>();
    sent::<lifecycle::Spawned<'_>>();
    sent::<lifecycle::ComponentFn<fn()>>();
}

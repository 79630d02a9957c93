//! Work that outlives the deadline, in all the ways that can keep a process from ending.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::{
    client::{Fate, Wire},
    flaw::{During as _, Flaw, ensure},
    output::Line,
    process::Setting,
    routes::{lasting, path_only},
    scenario::{Need, Scenario, Theme},
    scenarios::signals::SETTLE,
    stage::Stage,
    subject::BlockerReport,
};

pub(super) const SCENARIOS: [Scenario; 6] = [
    Scenario::new(
        Theme::Deadline,
        "deadline-cuts-long-request",
        DEADLINE,
        &[Need::Work],
        |stage| Box::pin(long_request(stage)),
    ),
    Scenario::new(
        Theme::Deadline,
        "deadline-names-what-was-cut",
        (
            "\"shutdown timed out\" tells nobody what to mend: the log must name the request \
             and how long it had run",
            "keep method, path and start of each request in flight; print them at the deadline",
        ),
        &[Need::Work, Need::NamedBlockers],
        |stage| Box::pin(names_what_was_cut(stage)),
    ),
    Scenario::new(
        Theme::Deadline,
        "deadline-blocked-event-loop",
        BLOCKED,
        &[Need::Block],
        |stage| Box::pin(outlives(stage, Setting::Plain, Blocker::Block)),
    ),
    Scenario::new(
        Theme::Deadline,
        "deadline-blocked-single-thread",
        BLOCKED,
        &[Need::Block, Need::SingleThread],
        |stage| Box::pin(outlives(stage, Setting::SingleThread, Blocker::Block)),
    ),
    Scenario::new(
        Theme::Deadline,
        "deadline-blocked-pool",
        (
            "a thread that blocks cannot be cancelled: many runtimes wait for it in their \
             destructor, long after main has returned",
            "end the process at the deadline from a thread of its own, after the report",
        ),
        &[Need::Pool],
        |stage| Box::pin(outlives(stage, Setting::Plain, Blocker::Pool)),
    ),
    Scenario::new(
        Theme::Deadline,
        "deadline-panic-contained",
        (
            "a request whose handler panics must not leave a count behind that the drain waits \
             for",
            "count requests by a guard that is released when it is dropped, however that comes",
        ),
        &[Need::Panic],
        |stage| Box::pin(panic_contained(stage)),
    ),
];

#[derive(Clone, Copy)]
enum Blocker {
    Block,
    Pool,
}

async fn long_request(stage: &mut Stage) -> Result<(), Flaw> {
    stage.start(Setting::Plain).await?;
    let mut wire = stage.wire().await?;
    wire.send(stage.get_work(TEN_MINUTES)).await.during("asking for work of ten minutes")?;
    sleep(SETTLE).await;
    stage.stop()?;
    stage.exits_cut(&mut wire).await?;
    drop(wire); // Held until here.
    Ok(())
}

async fn names_what_was_cut(stage: &mut Stage) -> Result<(), Flaw> {
    long_request(stage).await?;
    let template = stage.subject.routes.work.clone().unwrap_or_default();
    names(stage, &template)
}

async fn outlives(stage: &mut Stage, setting: Setting, blocker: Blocker) -> Result<(), Flaw> {
    stage.start(setting).await?;
    let routes = &stage.subject.routes;
    let template = match blocker {
        Blocker::Block => routes.block.clone(),
        Blocker::Pool => routes.pool.clone(),
    };
    let template = template.unwrap_or_default();
    let mut wire = stage.wire().await?;
    let ask = wire.request("GET", &lasting(&template, Duration::from_secs(60)), None);
    wire.send(ask).await.during("asking for what blocks")?;
    sleep(SETTLE).await;
    stage.stop()?;
    stage.exits_cut(&mut wire).await?;
    drop(wire); // Held until here.
    match stage.subject.report {
        BlockerReport::Named => names(stage, &template),
        BlockerReport::Unnamed => Ok(()),
    }
}

async fn panic_contained(stage: &mut Stage) -> Result<(), Flaw> {
    stage.start(Setting::Plain).await?;
    stage.learn_quick().await?;
    let path = stage.subject.routes.panic.clone().unwrap_or_default();
    let fate = Wire::fate(&stage.wire().await?.get(&path).await);
    stage.note(format!("GET {path}: {fate}"));
    let contained = matches!(
        fate,
        Fate::Answered { status: 500.., .. } | Fate::EofBeforeResponse | Fate::ResetAfterSent
    );
    ensure(contained, || format!("GET {path}: {fate}, expected 500 or a closed connection"))?;
    let after = stage.wire().await?.get(&stage.subject.routes.quick_path()).await;
    let after = after.during("a request after the panic")?;
    stage.served(after.status(), "a request after the panic")?;
    stage.stop()?;
    stage.exits_clean(stage.idle_end()).await
}

/// Whether the output since the signal names the request.
fn names(stage: &mut Stage, template: &str) -> Result<(), Flaw> {
    let name = format!("GET {}", path_only(template));
    let found = naming(&stage.process()?.lines(), stage.cause(), &name)?;
    stage.note(format!("reported: {found}"));
    Ok(())
}

/// The line that names the request and tells a time, printed no sooner than the cause: a log of
/// requests names each when it comes.
fn naming(lines: &[Line], cause: Instant, name: &str) -> Result<String, Flaw> {
    let naming = || lines.iter().filter(|line| line.at >= cause && line.text.contains(name));
    let found = naming().find(|line| tells_a_time(&line.text));
    let found = found.map(|line| line.text.trim().to_owned());
    found.ok_or_else(|| {
        Flaw::Seen(match naming().count() {
            0 => format!("the output since the signal does not name `{name}`"),
            _ => format!("the output names `{name}` without its age"),
        })
    })
}

/// A number with a unit of time behind it ("4.8s", "4800 ms"), or a field named for one.
fn tells_a_time(text: &str) -> bool {
    let field = ["age_ms", "age_s", "\"age\"", "duration"].iter().any(|key| text.contains(key));
    let numbers = text.split(|c: char| c.is_whitespace() || "()[],;\"".contains(c));
    let mut after_number = false;
    let measured = numbers.into_iter().any(|word| {
        let unit = word.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
        let begins = word.starts_with(|c: char| c.is_ascii_digit());
        let is_unit = UNITS.contains(&unit.trim_end_matches(['.', ':']));
        let found = is_unit && (begins || after_number);
        after_number = begins && unit.is_empty();
        found
    });
    field || measured
}

const UNITS: [&str; 7] = ["s", "ms", "sec", "second", "seconds", "m", "min"];
const TEN_MINUTES: Duration = Duration::from_secs(600);
const DEADLINE: (&str, &str) = (
    "the platform's SIGKILL closes nothing in order and tells nothing: the process must end by \
     itself before, and say by its exit code that it cut work",
    "compute one deadline at the signal, with a margin before the platform's; cancel what is \
     left, close, report, exit",
);
const BLOCKED: (&str, &str) = (
    "a handler that blocks its event loop also blocks the signal handling and the deadline of \
     most frameworks: only SIGKILL is left",
    "keep signals, deadline and probes on a thread of their own",
);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::Stream;

    #[test]
    fn what_was_printed_before_the_signal_is_no_report() {
        let cause = Instant::now() + Duration::from_secs(1);
        let line = |at, text: &str| Line { stream: Stream::Stderr, at, text: text.to_owned() };
        let before = line(cause - Duration::from_millis(1), "GET /work took 3 ms");
        let seen = naming(std::slice::from_ref(&before), cause, "GET /work").unwrap_err();
        assert!(seen.to_string().contains("does not name"), "{seen}");
        let ageless = [before.clone(), line(cause, "GET /work was cut")];
        let seen = naming(&ageless, cause, "GET /work").unwrap_err();
        assert!(seen.to_string().contains("without its age"), "{seen}");
        let told = [before, line(cause, "  GET /work in flight for 3 s")];
        assert_eq!(naming(&told, cause, "GET /work").unwrap(), "GET /work in flight for 3 s");
    }

    #[test]
    fn knows_an_age_when_it_sees_one() {
        for text in [
            "GET /work 4.8s",
            "GET /work (age 4800 ms)",
            "GET /work for 4 seconds.",
            "{\"request\":\"GET /work\",\"age_ms\":4800}",
            "  http GET /work?ms=600000 in flight for 4.812s",
        ] {
            assert!(tells_a_time(text), "{text}");
        }
        for text in ["GET /work", "GET /work?ms=600000", "GET /work 3 of them", "GET /s"] {
            assert!(!tells_a_time(text), "{text}");
        }
    }
}

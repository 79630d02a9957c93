//! All scenarios, one file a theme.

mod cut;
mod deadline;
mod http1;
mod http1_edges;
mod http1_late;
mod http2;
mod load;
mod load_account;
mod load_clients;
mod probes;
mod signals;
mod signals_again;
mod streams;
mod websocket;

use std::sync::LazyLock;

use crate::scenario::Scenario;

/// All scenarios, by theme.
pub fn scenarios() -> &'static [Scenario] {
    &ALL
}

/// The scenario of this name.
///
/// # Examples
/// ```
/// let scenario = lifecycle_drill::by_name("http1-in-flight").ok_or("no such scenario")?;
/// assert_eq!(scenario.theme(), lifecycle_drill::Theme::Http1);
/// # Ok::<(), &'static str>(())
/// ```
#[must_use]
pub fn by_name(name: &str) -> Option<&'static Scenario> {
    scenarios().iter().find(|scenario| scenario.name() == name)
}

static ALL: LazyLock<Vec<Scenario>> = LazyLock::new(|| {
    let mut all = Vec::new();
    all.extend(signals::SCENARIOS);
    all.extend(signals_again::SCENARIOS);
    all.extend(probes::SCENARIOS);
    all.extend(http1::SCENARIOS);
    all.extend(http1_edges::SCENARIOS);
    all.extend(http1_late::SCENARIOS);
    all.extend(http2::SCENARIOS);
    all.extend(streams::SCENARIOS);
    all.extend(websocket::SCENARIOS);
    all.extend(load::SCENARIOS);
    all.extend(deadline::SCENARIOS);
    all
});

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_are_unique_and_begin_with_their_theme() {
        let names: HashSet<_> = scenarios().iter().map(Scenario::name).collect();
        assert_eq!(names.len(), scenarios().len());
        for scenario in scenarios() {
            let (name, theme) = (scenario.name(), scenario.theme().name());
            assert!(name.starts_with(&format!("{theme}-")), "{name}");
            assert!(std::ptr::eq(by_name(name).unwrap(), scenario));
            assert!(scenario.why().len() > 20 && scenario.mend().len() > 20, "{name}");
        }
        assert!(by_name("no-such").is_none());
    }
}

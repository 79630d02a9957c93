//! The environment's variables, the forms they take, and what each platform gives.
//!
//! Pure: variables come in through a function, so that tests need no process-wide state.

use std::net::SocketAddr;
use std::time::Duration;

use crate::budget::{GRACE_DEFAULT, Grace, PERIOD_MOST};
use crate::error::StartError;
use crate::quiet::Quiet;
use crate::readiness::ReadinessPolicy;

/// What the environment says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) grace: Grace,
    /// Where the grace period comes from, for the log.
    pub(crate) grace_source: &'static str,
    pub(crate) readiness: ReadinessPolicy,
    /// `None`: the lame duck is exact.
    pub(crate) quiet: Option<Quiet>,
    /// The longest that a request may take, if the caller has said so.
    pub(crate) request_timeout: Option<Duration>,
    /// `None`: no probe server.
    pub(crate) probe_addr: Option<SocketAddr>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            grace: Grace::default(),
            grace_source: "default",
            readiness: ReadinessPolicy::default(),
            quiet: None,
            request_timeout: None,
            probe_addr: Some(PROBE_ADDR_DEFAULT),
        }
    }
}

impl Settings {
    /// Reads the variables through `var`; an empty value counts as not set.
    pub(crate) fn read(var: impl Fn(&str) -> Option<String>) -> Result<Self, StartError> {
        let var = |name: &str| {
            var(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
        };
        let duration = |name: &'static str| {
            var(name)
                .map(|value| {
                    parse_duration(&value).ok_or_else(|| refuse(name, value, TAKES_DURATION))
                })
                .transpose()
        };
        let (period, grace_source) = match duration(GRACE_PERIOD)? {
            Some(period) => (period, GRACE_PERIOD),
            None => match duration(GRACE_PERIOD_K8S)? {
                Some(period) => (period, GRACE_PERIOD_K8S),
                None => platform(|name| var(name).is_some()),
            },
        };
        let readiness = match var(READINESS) {
            None => ReadinessPolicy::default(),
            Some(value) => {
                parse_readiness(&value).ok_or_else(|| refuse(READINESS, value, TAKES_READINESS))?
            }
        };
        let probe_addr = match var(PROBE_ADDR) {
            None => Some(PROBE_ADDR_DEFAULT),
            Some(value) if value.eq_ignore_ascii_case("off") => None,
            Some(value) => Some(value.parse().map_err(|_| refuse(PROBE_ADDR, value, TAKES_ADDR))?),
        };
        let grace = Grace {
            period,
            pre_stop: duration(PRE_STOP)?.unwrap_or_default(),
            lame_duck: duration(LAME_DUCK)?,
        };
        let least = duration(LAME_DUCK_LEAST)?;
        let quiet = match duration(LAME_DUCK_QUIET)? {
            Some(window) => Some(Quiet { least: least.unwrap_or_default(), window }),
            None if least.is_none() => None,
            None => {
                let value = var(LAME_DUCK_LEAST).unwrap_or_default();
                return Err(refuse(LAME_DUCK_LEAST, value, TAKES_LEAST));
            }
        };
        Ok(Self { grace, grace_source, readiness, quiet, request_timeout: None, probe_addr })
    }
}

/// A duration as people write it: what humantime takes (`25s`, `1m30s`, `250ms`, `1.5s`) and
/// bare seconds, which it does not (`25`, `1.5`). At most a year.
pub(crate) fn parse_duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    let bare = text.chars().all(|c| c.is_ascii_digit() || c == '.');
    // Not by way of a float, which would be a nanosecond off.
    let with_unit = if bare { format!("{text}s") } else { text.to_owned() };
    let duration = humantime::parse_duration(&with_unit).ok()?;
    (duration <= PERIOD_MOST).then_some(duration)
}

/// A duration as the error messages and the report show it.
pub(crate) fn show(duration: &Duration) -> String {
    // Whole milliseconds: nobody sets less, and nanoseconds only clutter.
    let ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    humantime::format_duration(Duration::from_millis(ms)).to_string()
}

fn parse_readiness(text: &str) -> Option<ReadinessPolicy> {
    match text.to_ascii_lowercase().as_str() {
        "immediately" => Some(ReadinessPolicy::Immediately),
        "at-drain" => Some(ReadinessPolicy::AtDrain),
        "never" => Some(ReadinessPolicy::Never),
        other => other.strip_prefix("after:").and_then(parse_duration).map(ReadinessPolicy::After),
    }
}

/// The grace period that the platform gives unless told otherwise, by its own variables.
fn platform(is_set: impl Fn(&str) -> bool) -> (Duration, &'static str) {
    PLATFORMS
        .iter()
        .find(|(names, ..)| names.iter().any(|name| is_set(name)))
        .map_or((GRACE_DEFAULT, "unknown platform"), |(_, seconds, platform)| {
            (Duration::from_secs(*seconds), *platform)
        })
}

fn refuse(name: &str, value: String, takes: &'static str) -> StartError {
    StartError::Variable { name: name.to_owned(), value, takes }
}

const GRACE_PERIOD: &str = "LIFECYCLE_GRACE_PERIOD";
const GRACE_PERIOD_K8S: &str = "TERMINATION_GRACE_PERIOD_SECONDS";
const PRE_STOP: &str = "LIFECYCLE_PRE_STOP";
const LAME_DUCK: &str = "LIFECYCLE_LAME_DUCK";
const LAME_DUCK_LEAST: &str = "LIFECYCLE_LAME_DUCK_MIN";
const LAME_DUCK_QUIET: &str = "LIFECYCLE_LAME_DUCK_QUIET";
const READINESS: &str = "LIFECYCLE_READINESS";
const PROBE_ADDR: &str = "LIFECYCLE_PROBE_ADDR";

const TAKES_DURATION: &str =
    "a duration such as 25s, 1m30s or 250ms, or seconds such as 25 or 1.5; a year at most";
const TAKES_LEAST: &str = "a duration, beside one in LIFECYCLE_LAME_DUCK_QUIET";
const TAKES_READINESS: &str = "immediately, after:3s (any duration), at-drain or never";
const TAKES_ADDR: &str = "an address such as 0.0.0.0:9090 or [::]:9090, or off";

/// On every interface, since the kubelet asks from outside the pod's loopback.
const PROBE_ADDR_DEFAULT: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), 9090);

/// Variables that tell a platform, its default grace in seconds, its name for the log.
/// The first that matches counts, the narrower platforms first.
const PLATFORMS: [(&[&str], u64, &str); 8] = [
    (&["KUBERNETES_SERVICE_HOST"], 30, "Kubernetes default"),
    (&["FLY_MACHINE_ID", "FLY_APP_NAME"], 5, "Fly default"),
    (&["NOMAD_ALLOC_ID"], 5, "Nomad default"),
    (&["ECS_CONTAINER_METADATA_URI_V4"], 30, "ECS default"),
    (&["K_SERVICE", "CLOUD_RUN_JOB"], 10, "Cloud Run default"),
    (&["VCAP_APPLICATION"], 10, "Cloud Foundry default"),
    (&["DYNO"], 30, "Heroku default"),
    (&["NOTIFY_SOCKET", "INVOCATION_ID"], 90, "systemd default"),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<Settings, StartError> {
        Settings::read(|name| {
            pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        })
    }

    fn ms(ms: u64) -> Option<Duration> {
        Some(Duration::from_millis(ms))
    }

    #[test]
    fn durations_take_humantime_and_plain_seconds() {
        for (text, expected) in [
            ("25s", ms(25_000)),
            ("1m30s", ms(90_000)),
            ("1m 30s", ms(90_000)),
            ("250ms", ms(250)),
            ("25", ms(25_000)),
            ("1.5", ms(1_500)),
            ("1.5s", ms(1_500)),
            ("0", ms(0)),
            (" 7 ", ms(7_000)),
            ("-1", None),
            ("-1s", None),
            ("+1", None),
            ("1e3", None),
            ("NaN", None),
            ("inf", None),
            ("1.2.3", None),
            (".5", None),
            ("1.", None),
            ("", None),
            ("8400000.2", ms(8_400_000_200)),
            ("s", None),
            ("ten", None),
            ("5 bananas", None),
            ("99999999999999999999999", None),
            ("1000years", None),
        ] {
            assert_eq!(parse_duration(text), expected, "{text:?}");
        }
    }

    #[test]
    fn nothing_set_is_the_unknown_platform() {
        let settings = read(&[]).expect("defaults");
        assert_eq!(settings.grace.period, Duration::from_secs(10));
        assert_eq!(settings.grace_source, "unknown platform");
        assert_eq!(settings.probe_addr, Some(([0, 0, 0, 0], 9090).into()));
        assert_eq!(settings.readiness, ReadinessPolicy::Immediately);
    }

    #[test]
    fn the_grace_comes_from_the_narrowest_source() {
        let k8s = ("KUBERNETES_SERVICE_HOST", "10.0.0.1");
        let own = ("TERMINATION_GRACE_PERIOD_SECONDS", "45");
        let ours = ("LIFECYCLE_GRACE_PERIOD", "20s");
        for (pairs, seconds, source) in [
            (vec![k8s], 30, "Kubernetes default"),
            (vec![k8s, own], 45, "TERMINATION_GRACE_PERIOD_SECONDS"),
            (vec![k8s, own, ours], 20, "LIFECYCLE_GRACE_PERIOD"),
            (vec![("DYNO", "web.1")], 30, "Heroku default"),
            (vec![("FLY_APP_NAME", "x")], 5, "Fly default"),
            (vec![("INVOCATION_ID", "x")], 90, "systemd default"),
            (vec![("LIFECYCLE_GRACE_PERIOD", ""), ("K_SERVICE", "x")], 10, "Cloud Run default"),
        ] {
            let settings = read(&pairs).expect("valid");
            assert_eq!(settings.grace.period, Duration::from_secs(seconds), "{pairs:?}");
            assert_eq!(settings.grace_source, source, "{pairs:?}");
        }
    }

    #[test]
    fn every_variable_is_read() {
        let settings = read(&[
            ("LIFECYCLE_GRACE_PERIOD", "30"),
            ("LIFECYCLE_PRE_STOP", "5s"),
            ("LIFECYCLE_LAME_DUCK", "2.5"),
            ("LIFECYCLE_READINESS", "after:3s"),
            ("LIFECYCLE_PROBE_ADDR", "[::]:9191"),
        ])
        .expect("valid");
        assert_eq!(settings.grace.pre_stop, Duration::from_secs(5));
        assert_eq!(settings.grace.lame_duck, ms(2_500));
        assert_eq!(settings.readiness, ReadinessPolicy::After(Duration::from_secs(3)));
        assert_eq!(settings.probe_addr, Some("[::]:9191".parse().expect("valid")));
        assert_eq!(read(&[("LIFECYCLE_PROBE_ADDR", "OFF")]).expect("valid").probe_addr, None);
    }

    #[test]
    fn a_bad_value_names_the_variable_the_value_and_the_forms() {
        for (name, value, form) in [
            ("LIFECYCLE_GRACE_PERIOD", "-5s", "25s"),
            ("TERMINATION_GRACE_PERIOD_SECONDS", "soon", "25s"),
            ("LIFECYCLE_LAME_DUCK", "1e9", "1.5"),
            ("LIFECYCLE_PRE_STOP", "99999999999999999", "year"),
            ("LIFECYCLE_READINESS", "later", "at-drain"),
            ("LIFECYCLE_READINESS", "after:", "after:3s"),
            ("LIFECYCLE_PROBE_ADDR", "9090", "0.0.0.0:9090"),
        ] {
            let error = read(&[(name, value)]).expect_err("refused").to_string();
            assert!(
                error.contains(name) && error.contains(value) && error.contains(form),
                "{error}"
            );
        }
    }
}

/// For any text, and any set of variables.
#[cfg(test)]
mod properties {
    use proptest::prelude::*;
    use proptest::sample::{select, subsequence};

    use super::*;
    use crate::budget::Budget;

    /// Nothing is written down: a text that fails is printed, and belongs into the tables above.
    fn cases(cases: u32) -> ProptestConfig {
        ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
    }

    /// Text that looks like what is expected, or like nothing.
    fn text() -> impl Strategy<Value = String> {
        prop_oneof![
            "[0-9]{1,12}(\\.[0-9]{1,3})?(s|ms|m|h|d|years|)",
            "[-+0-9.smhdyew: ]{0,12}",
            "(immediately|after:|at-drain|never|off)?[0-9a-z:.-]{0,6}",
            "\\PC{0,12}",
        ]
    }

    fn within_a_year() -> impl Strategy<Value = Duration> {
        (0..=PERIOD_MOST.as_secs() - 1, 0..1_000_000_000_u32)
            .prop_map(|(s, ns)| Duration::new(s, ns))
    }

    proptest! {
        #![proptest_config(cases(1_000))]

        #[test]
        fn any_text_is_a_duration_within_a_year_or_refused(text in text()) {
            if let Some(duration) = parse_duration(&text) {
                prop_assert!(duration <= PERIOD_MOST);
                prop_assert!(!text.contains('-'), "{text:?}");
                // What is shown of it is understood again.
                let shown = parse_duration(&show(&duration)).expect("understood");
                prop_assert_eq!(shown.as_millis(), duration.as_millis());
            }
        }

        #[test]
        fn what_humantime_writes_is_read_to_the_nanosecond(duration in within_a_year()) {
            let text = humantime::format_duration(duration).to_string();
            prop_assert_eq!(parse_duration(&text), Some(duration));
        }

        #[test]
        fn where_both_understand_a_text_humantime_says_the_same(text in text()) {
            if let (Some(ours), Ok(theirs)) = (parse_duration(&text), humantime::parse_duration(&text)) {
                prop_assert_eq!(ours, theirs);
            }
        }

        #[test]
        fn decimal_seconds_are_read_to_the_nanosecond(
            s in 0..31_000_000_u64,
            ns in 0..1_000_000_000_u32,
        ) {
            for text in [format!("{s}.{ns:09}"), format!("{s}.{ns:09}s")] {
                prop_assert_eq!(parse_duration(&text), Some(Duration::new(s, ns)), "{}", text);
            }
            prop_assert_eq!(parse_duration(&s.to_string()), Some(Duration::from_secs(s)));
        }

        #[test]
        fn readiness_words_are_read_in_any_case(
            (word, policy) in select(vec![
                ("immediately", ReadinessPolicy::Immediately),
                ("at-drain", ReadinessPolicy::AtDrain),
                ("never", ReadinessPolicy::Never),
            ]),
            upper in any::<[bool; 11]>(),
            delay in within_a_year(),
        ) {
            let letters = word.chars().zip(upper);
            let mixed: String = letters
                .map(|(letter, upper)| if upper { letter.to_ascii_uppercase() } else { letter })
                .collect();
            prop_assert_eq!(parse_readiness(&mixed), Some(policy));
            let after = format!("after:{}", humantime::format_duration(delay));
            prop_assert_eq!(parse_readiness(&after), Some(ReadinessPolicy::After(delay)));
            prop_assert_eq!(parse_readiness(&format!("{mixed}x")), None);
        }

        #[test]
        fn any_address_is_read_as_it_is_written(addr in any::<(std::net::IpAddr, u16)>()) {
            let addr = SocketAddr::from(addr);
            let settings = Settings::read(|name| (name == PROBE_ADDR).then(|| addr.to_string()));
            prop_assert_eq!(settings.expect("an address").probe_addr, Some(addr));
        }

        #[test]
        fn whatever_the_variables_hold_they_are_taken_or_refused_by_name(
            values in proptest::collection::vec(proptest::option::of(text()), NAMES.len()),
        ) {
            let value = |name: &str| {
                let at = NAMES.iter().position(|known| *known == name)?;
                values[at].clone()
            };
            match Settings::read(value) {
                // Sums never overflow, whatever was taken.
                Ok(settings) => drop(Budget::split(settings.grace)),
                Err(StartError::Variable { name, value: refused, takes }) => {
                    let given = value(&name).expect("only what is set is refused");
                    prop_assert_eq!(given.trim(), &refused);
                    let said = StartError::Variable { name: name.clone(), value: refused, takes };
                    let said = said.to_string();
                    let shown = format!("{:?}", given.trim());
                    prop_assert!(said.contains(&name) && said.contains(&shown), "{said}");
                    prop_assert!([TAKES_DURATION, TAKES_READINESS, TAKES_ADDR].contains(&takes));
                }
                Err(other) => prop_assert!(false, "{other}"),
            }
        }

        #[test]
        fn the_first_platform_that_is_told_counts(
            told in subsequence(
                PLATFORMS.iter().flat_map(|(names, ..)| names.iter()).collect::<Vec<_>>(), 0..=11,
            ),
        ) {
            let (period, source) = platform(|name| told.contains(&&name));
            let first = PLATFORMS.iter().find(|(names, ..)| names.iter().any(|name| told.contains(&name)));
            match first {
                Some((_, seconds, name)) => prop_assert_eq!((period.as_secs(), source), (*seconds, *name)),
                None => prop_assert_eq!((period, source), (GRACE_DEFAULT, "unknown platform")),
            }
            let grace = Grace { period, ..Grace::default() };
            prop_assert!(Budget::split(grace).is_ok(), "every platform's own grace is enough");
        }
    }

    const NAMES: [&str; 6] =
        [GRACE_PERIOD, GRACE_PERIOD_K8S, PRE_STOP, LAME_DUCK, READINESS, PROBE_ADDR];
}

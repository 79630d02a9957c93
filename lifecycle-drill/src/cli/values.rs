//! Values as they are written, on the command line and in `drill.toml` alike.

use std::{collections::BTreeMap, fmt, str::FromStr, time::Duration};

use clap::ValueEnum;
use lifecycle_drill::{BlockerReport, Protocol, Signal, Theme, scenarios};
use serde::{Deserialize, Deserializer, de};

/// `KEY=VALUE`.
pub(crate) fn pair(text: &str) -> Result<(String, String), BadValue> {
    let (key, value) = text.split_once('=').ok_or(BadValue("KEY=VALUE"))?;
    Ok((key.to_owned(), value.to_owned()))
}

/// `NAME=PATH` with a route's name.
pub(crate) fn route(text: &str) -> Result<(RouteName, UrlPath), BadValue> {
    let (name, path) = text.split_once('=').ok_or(BadValue("NAME=PATH"))?;
    let name = RouteName::from_str(name, false).map_err(|_| BadValue(RouteName::ALL))?;
    Ok((name, path.parse()?))
}

/// Whom requests are for: a name or an address, with a port or without.
pub(crate) fn host(text: &str) -> Result<String, BadValue> {
    let fits = text.parse::<http::uri::Authority>().is_ok() && !text.contains('@');
    if fits { Ok(text.to_owned()) } else { Err(BadValue("a host: shop.example, or host:port")) }
}

/// `Name: value`, of a header that frames no message.
pub(crate) fn header(text: &str) -> Result<(String, String), BadValue> {
    let (name, value) = text.split_once(':').ok_or(BadValue("`Name: value`"))?;
    let (name, value) = (name.trim(), value.trim());
    let known = name.parse::<http::HeaderName>().ok();
    let known = known.filter(|_| value.parse::<http::HeaderValue>().is_ok());
    match known.ok_or(BadValue("`Name: value`"))?.as_str() {
        "host" => Err(BadValue("another header: the host is told by --host")),
        "connection" | "content-length" | "content-type" | "transfer-encoding" | "upgrade" => {
            Err(BadValue("another header: the scenarios set this one"))
        }
        _ => Ok((name.to_owned(), value.to_owned())),
    }
}

/// What humantime takes (`25s`, `1m 30s`, `250ms`), and bare or decimal seconds.
pub(crate) fn duration(text: &str) -> Result<Duration, BadValue> {
    let seconds = text.strip_suffix('s').unwrap_or(text).parse().ok();
    let seconds = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    seconds
        .or_else(|| humantime::parse_duration(text).ok())
        .filter(|time| *time <= TIME_MAX)
        .ok_or(BadValue("a duration: 10s, 1.5s, 250ms, 1m, or seconds; a year at most"))
}

/// A share, from 0 to 1.
pub(crate) fn share(text: &str) -> Result<f64, BadValue> {
    let share = text.parse().ok().filter(|share| (0.0..=1.0).contains(share));
    share.ok_or(BadValue("a number from 0 to 1"))
}

/// A theme by its name.
pub(crate) fn theme(text: &str) -> Result<Theme, BadValue> {
    let known = scenarios().iter().map(lifecycle_drill::Scenario::theme);
    known.into_iter().find(|theme| theme.name() == text).ok_or(BadValue(THEMES))
}

/// A value that is not of the form that it must have, which is told.
#[derive(Debug, thiserror::Error)]
#[error("expected {0}")]
pub(crate) struct BadValue(&'static str);

/// What is asked for in a request, query included; it may have holes.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(try_from = "String")]
pub(crate) struct UrlPath(String);

impl UrlPath {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for UrlPath {
    type Err = BadValue;

    fn from_str(text: &str) -> Result<Self, BadValue> {
        text.to_owned().try_into()
    }
}

impl TryFrom<String> for UrlPath {
    type Error = BadValue;

    fn try_from(text: String) -> Result<Self, BadValue> {
        // Blanks and the like would end the path within its line.
        let fits = text.starts_with('/') && text.chars().all(|one| one.is_ascii_graphic());
        if fits { Ok(Self(text)) } else { Err(BadValue("a path that begins with `/`, escaped")) }
    }
}

impl From<UrlPath> for String {
    fn from(path: UrlPath) -> Self {
        path.0
    }
}

/// The name of a route, as [`lifecycle_drill::Routes`] has them.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RouteName {
    Big,
    Block,
    Echo,
    Events,
    Panic,
    Pool,
    Quick,
    Work,
    Ws,
}

impl RouteName {
    const ALL: &str = "NAME=PATH with a NAME of big, block, echo, events, panic, pool, quick, \
                       work, ws";
}

/// [`Protocol`].
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ProtocolName {
    /// HTTP/1.1 only
    Http1,
    /// HTTP/1.1 and HTTP/2 (h2c; by ALPN with --tls)
    Http2,
    /// HTTP/2 only, as gRPC servers do: what asks by HTTP/1 is skipped
    #[serde(rename = "http2-only")]
    Http2Only,
}

impl From<ProtocolName> for Protocol {
    fn from(name: ProtocolName) -> Self {
        match name {
            ProtocolName::Http1 => Self::Http1,
            ProtocolName::Http2 => Self::Http1AndH2c,
            ProtocolName::Http2Only => Self::Http2Only,
        }
    }
}

/// [`BlockerReport`].
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ReportName {
    /// Its output names each request that was cut, with its age
    Named,
    /// It does not
    Unnamed,
}

impl From<ReportName> for BlockerReport {
    fn from(name: ReportName) -> Self {
        match name {
            ReportName::Named => Self::Named,
            ReportName::Unnamed => Self::Unnamed,
        }
    }
}

/// How a stop ends that lost nothing.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(try_from = "Scalar")]
pub(crate) enum CleanExit {
    Code(i32),
    /// By the signal that asked for it.
    Signal,
}

impl FromStr for CleanExit {
    type Err = BadValue;

    fn from_str(text: &str) -> Result<Self, BadValue> {
        match text {
            "signal" => Ok(Self::Signal),
            code => code.parse().map(Self::Code).map_err(|_| BadValue("an exit code, or `signal`")),
        }
    }
}

impl TryFrom<Scalar> for CleanExit {
    type Error = BadValue;

    fn try_from(value: Scalar) -> Result<Self, BadValue> {
        value.to_string().parse()
    }
}

/// The signals that platforms stop a process with.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, ValueEnum)]
pub(crate) enum SignalName {
    /// SIGTERM: nearly all of them
    #[serde(alias = "term")]
    #[value(name = "SIGTERM", alias = "TERM", alias = "term")]
    #[serde(rename = "SIGTERM")]
    Term,
    /// SIGINT: Fly, Nomad
    #[serde(alias = "int")]
    #[value(name = "SIGINT", alias = "INT", alias = "int")]
    #[serde(rename = "SIGINT")]
    Int,
    /// SIGQUIT: nginx' images
    #[serde(alias = "quit")]
    #[value(name = "SIGQUIT", alias = "QUIT", alias = "quit")]
    #[serde(rename = "SIGQUIT")]
    Quit,
    /// SIGHUP: some supervisors
    #[serde(alias = "hup")]
    #[value(name = "SIGHUP", alias = "HUP", alias = "hup")]
    #[serde(rename = "SIGHUP")]
    Hup,
}

impl From<SignalName> for Signal {
    fn from(name: SignalName) -> Self {
        match name {
            SignalName::Term => Self::Term,
            SignalName::Int => Self::Int,
            SignalName::Quit => Self::Quit,
            SignalName::Hup => Self::Hup,
        }
    }
}

/// A duration in the file: text as on the command line, or seconds as a number.
pub(crate) fn duration_in_file<'de, D: Deserializer<'de>>(
    from: D,
) -> Result<Option<Duration>, D::Error> {
    match Scalar::deserialize(from)? {
        Scalar::Text(text) => duration(&text).map(Some).map_err(de::Error::custom),
        number => duration(&number.to_string()).map(Some).map_err(de::Error::custom),
    }
}

/// A host in the file.
pub(crate) fn host_in_file<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    host(&String::deserialize(from)?).map(Some).map_err(de::Error::custom)
}

/// The table of headers in the file.
pub(crate) fn headers_in_file<'de, D: Deserializer<'de>>(
    from: D,
) -> Result<Vec<(String, String)>, D::Error> {
    let told = |(name, value)| header(&format!("{name}: {value}")).map_err(de::Error::custom);
    table(from)?.into_iter().map(told).collect()
}

/// A theme list in the file.
pub(crate) fn themes_in_file<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Theme>, D::Error> {
    let names = Vec::<String>::deserialize(from)?;
    names.iter().map(|name| theme(name).map_err(de::Error::custom)).collect()
}

/// The table of routes in the file.
pub(crate) fn routes_in_file<'de, D: Deserializer<'de>>(
    from: D,
) -> Result<Vec<(RouteName, UrlPath)>, D::Error> {
    Ok(BTreeMap::deserialize(from)?.into_iter().collect())
}

/// A table in the file, in the form that repeated `KEY=VALUE` arguments have.
pub(crate) fn table<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<(String, String)>, D::Error> {
    let table = BTreeMap::<String, Scalar>::deserialize(from)?;
    Ok(table.into_iter().map(|(key, value)| (key, value.to_string())).collect())
}

/// `KEY=VALUE` in the file.
pub(crate) fn pair_in_file<'de, D: Deserializer<'de>>(
    from: D,
) -> Result<Option<(String, String)>, D::Error> {
    pair(&String::deserialize(from)?).map(Some).map_err(de::Error::custom)
}

/// A value of the file that is text for us.
#[derive(Deserialize)]
#[serde(untagged)]
enum Scalar {
    Text(String),
    Whole(i64),
    Decimal(f64),
    Truth(bool),
}

impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Whole(number) => number.fmt(f),
            Self::Decimal(number) => number.fmt(f),
            Self::Truth(truth) => truth.fmt(f),
        }
    }
}

/// As [`lifecycle_drill::Subject`] has it: sums of times must be times.
const TIME_MAX: Duration = Duration::from_secs(365 * 86_400);
const THEMES: &str = "a theme: signals, probes, http1, http2, streams, websocket, load or deadline";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_text_with_a_unit_or_seconds() {
        let ms = |text| duration(text).map(|time| time.as_millis()).ok();
        for (text, expected) in [
            ("10", 10_000),
            ("10s", 10_000),
            ("1.5", 1_500),
            ("0.6s", 600),
            ("250ms", 250),
            ("1m 30s", 90_000),
            ("0", 0),
            ("365days", 365 * 86_400_000),
        ] {
            assert_eq!(ms(text), Some(expected), "{text}");
        }
        for text in ["", "s", "-1", "ten", "1e99", "nan", "5 parsecs", "1e19s", "2years"] {
            assert_eq!(ms(text), None, "{text}");
        }
    }

    #[test]
    fn every_theme_is_named_in_the_message() {
        for scenario in scenarios() {
            assert!(THEMES.contains(scenario.theme().name()));
            assert!(theme(scenario.theme().name()).is_ok());
        }
        assert!(theme("http3").is_err());
    }

    #[test]
    fn hosts_and_headers_are_what_http_takes() {
        for good in ["shop.example", "shop.example:443", "10.0.0.1", "[::1]:80"] {
            assert_eq!(host(good).ok().as_deref(), Some(good));
        }
        for bad in ["", "a b", "x/y", "http://x", "me@x", "x\r\ny"] {
            assert!(host(bad).is_err(), "{bad}");
        }
        let pair = |name: &str, value: &str| Some((name.to_owned(), value.to_owned()));
        assert_eq!(header("X-A:b: c").ok(), pair("X-A", "b: c"));
        assert_eq!(header("cookie: ").ok(), pair("cookie", ""));
        for bad in ["X-A", "X A: b", ": b", "X: a\r\nb: c", "Host: x", "Content-Length: 3"] {
            assert!(header(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn pairs_are_split_at_the_first_sign() {
        assert_eq!(pair("A=b=c").ok(), Some(("A".into(), "b=c".into())));
        assert!(pair("A").is_err());
        let path = "/w?ms={ms}".parse().ok();
        assert_eq!(route("work=/w?ms={ms}").ok(), path.map(|path| (RouteName::Work, path)));
        for bad in ["walk=/w", "work", "work=", "work=w", "work=/a b", "work=/a\r\nb: c"] {
            assert!(route(bad).is_err(), "{bad}");
        }
    }
}

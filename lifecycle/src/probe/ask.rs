//! What a probe request asks for.
//!
//! Pure: method, path, query and headers in; a question, or why there is none, out.

use std::collections::BTreeSet;
use std::time::Duration;

use hyper::header::{ACCEPT, HeaderMap};
use hyper::{Method, Uri};

use crate::env::parse_duration;

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ask {
    /// One of the three probes, or one check of it.
    Probe { probe: Probe, check: Option<String>, list: List },
    /// Whether the drain is over; waits that long for it.
    Drain { wait: Duration },
    /// That the shutdown begin.
    BeginDrain,
    /// Everything that is known.
    Status { form: Form },
    /// What the exporter has.
    Metrics,
}

/// The three questions of a platform.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Probe {
    Live,
    Ready,
    Startup,
}

/// How a probe's answer is to be listed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct List {
    pub(crate) verbose: bool,
    /// Checks that are not to count.
    pub(crate) exclude: BTreeSet<String>,
    pub(crate) form: Form,
}

/// The form of an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Form {
    Html,
    Json,
    #[default]
    Text,
}

/// Why a request is none of ours, in plain words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    BadRequest(String),
    MethodNotAllowed { allow: &'static str },
    NotFound,
}

impl Ask {
    /// Reads a request.
    pub(crate) fn of(method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<Self, Refusal> {
        let path = uri.path();
        let path = path.strip_suffix('/').filter(|path| !path.is_empty()).unwrap_or(path);
        if (path, method) == ("/drainz", &Method::POST) {
            return Ok(Self::BeginDrain);
        }
        let known = Probe::split(path);
        if known.is_none() && !matches!(path, "/drainz" | "/metrics" | "/statusz") {
            return Err(Refusal::NotFound);
        }
        if !matches!(*method, Method::GET | Method::HEAD) {
            let allow = if path == "/drainz" { "GET, HEAD, POST" } else { "GET, HEAD" };
            return Err(Refusal::MethodNotAllowed { allow });
        }
        let form = Form::accepted(headers);
        let query = Query::read(uri.query().unwrap_or_default())?;
        Ok(match (known, path) {
            (Some((probe, check)), _) => {
                let check = check.map(decoded).transpose()?;
                // No browser is meant to look at a probe.
                let form = if form == Form::Html { Form::Text } else { form };
                let list = List { verbose: query.verbose, exclude: query.exclude, form };
                Self::Probe { probe, check, list }
            }
            (None, "/drainz") => Self::Drain { wait: query.wait },
            (None, "/metrics") => Self::Metrics,
            (None, _) => Self::Status { form: if form == Form::Text { Form::Json } else { form } },
        })
    }
}

impl Probe {
    /// The name that its answers use.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Live => "livez",
            Self::Ready => "readyz",
            Self::Startup => "startupz",
        }
    }

    /// The probe of a path, and the check after it.
    fn split(path: &str) -> Option<(Self, Option<&str>)> {
        let (first, check) = match path.strip_prefix('/')?.split_once('/') {
            Some((first, check)) => (first, Some(check)),
            None => (path.strip_prefix('/')?, None),
        };
        let probe = match first {
            "livez" | "healthz" => Self::Live,
            "readyz" => Self::Ready,
            "startupz" => Self::Startup,
            _ => return None,
        };
        Some((probe, check))
    }
}

impl Form {
    /// The first form among those accepted that we have; text otherwise.
    fn accepted(headers: &HeaderMap) -> Self {
        let values = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
        values
            .flat_map(|value| value.split(','))
            .find_map(|kind| {
                let kind = kind.split(';').next().unwrap_or_default().trim();
                match kind.to_ascii_lowercase().as_str() {
                    "application/json" | "application/health+json" => Some(Self::Json),
                    "text/html" => Some(Self::Html),
                    "text/plain" => Some(Self::Text),
                    _ => None,
                }
            })
            .unwrap_or_default()
    }
}

#[derive(Debug, Default)]
struct Query {
    verbose: bool,
    exclude: BTreeSet<String>,
    wait: Duration,
}

impl Query {
    /// Parameters that nobody knows are passed over, as everywhere on the web.
    fn read(text: &str) -> Result<Self, Refusal> {
        let mut query = Self::default();
        for (name, value) in form_urlencoded::parse(text.as_bytes()) {
            match &*name {
                "verbose" => query.verbose = !matches!(&*value, "false" | "0"),
                "exclude" => {
                    query.exclude.insert(value.into_owned());
                }
                "wait" => {
                    let wait = parse_duration(&value).filter(|wait| *wait <= WAIT_MOST);
                    query.wait = wait.ok_or_else(|| {
                        let form = "a duration such as 20s or 1m30s, an hour at most";
                        Refusal::BadRequest(format!("wait={value} is not understood: {form}"))
                    })?;
                }
                _ => {}
            }
        }
        Ok(query)
    }
}

/// A path's segment without its percent signs.
fn decoded(segment: &str) -> Result<String, Refusal> {
    // As one key of a query it is decoded by the same rules, but for what is plain in a path.
    let plain = segment.replace('+', "%2B").replace('&', "%26").replace('=', "%3D");
    let pair = form_urlencoded::parse(plain.as_bytes()).next();
    match pair {
        Some((name, value)) if value.is_empty() && !name.is_empty() => Ok(name.into_owned()),
        _ => Err(Refusal::BadRequest("the check's name is not understood".to_owned())),
    }
}

const WAIT_MOST: Duration = Duration::from_secs(3_600);

#[cfg(test)]
mod tests {
    use super::*;

    fn ask_with(method: &Method, uri: &str, accept: &str) -> Result<Ask, Refusal> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, accept.parse().expect("a value"));
        Ask::of(method, &uri.parse().expect("a target"), &headers)
    }

    fn ask(uri: &str) -> Result<Ask, Refusal> {
        ask_with(&Method::GET, uri, "*/*")
    }

    fn probe(probe: Probe, check: Option<&str>, list: List) -> Result<Ask, Refusal> {
        Ok(Ask::Probe { probe, check: check.map(str::to_owned), list })
    }

    #[test]
    fn probes_are_asked_by_path() {
        let plain = List::default;
        for (uri, asked) in [
            ("/livez", Probe::Live),
            ("/healthz", Probe::Live),
            ("/readyz", Probe::Ready),
            ("/readyz/", Probe::Ready),
            ("/startupz?", Probe::Startup),
            ("/livez?unknown=1", Probe::Live),
        ] {
            assert_eq!(ask(uri), probe(asked, None, plain()), "{uri}");
        }
        assert_eq!(ask("/readyz/db"), probe(Probe::Ready, Some("db"), plain()));
        assert_eq!(ask("/readyz/a%20b+c"), probe(Probe::Ready, Some("a b+c"), plain()));
        assert_eq!(ask("/readyz/db&x=1"), probe(Probe::Ready, Some("db&x=1"), plain()));
        let verbose = List { verbose: true, ..plain() };
        assert_eq!(ask("/readyz?verbose"), probe(Probe::Ready, None, verbose.clone()));
        assert_eq!(ask("/readyz?verbose=true"), probe(Probe::Ready, None, verbose));
        assert_eq!(ask("/readyz?verbose=false"), probe(Probe::Ready, None, plain()));
        let exclude = ["a", "b"].map(str::to_owned).into();
        let list = List { exclude, ..plain() };
        assert_eq!(ask("/readyz?exclude=a&exclude=b&exclude=a"), probe(Probe::Ready, None, list));
    }

    #[test]
    fn the_form_is_the_first_that_is_accepted() {
        let form = |accept: &str| match ask_with(&Method::GET, "/readyz", accept) {
            Ok(Ask::Probe { list, .. }) => list.form,
            other => panic!("{other:?}"),
        };
        assert_eq!(form("application/json"), Form::Json);
        assert_eq!(form("Application/Health+JSON; q=0.9, text/plain"), Form::Json);
        assert_eq!(form("text/plain, application/json"), Form::Text);
        assert_eq!(form("text/html,*/*"), Form::Text, "no page for probes");
        let status = |accept: &str| ask_with(&Method::GET, "/statusz", accept);
        assert_eq!(status("text/html,application/xhtml+xml"), Ok(Ask::Status { form: Form::Html }));
        assert_eq!(status("*/*"), Ok(Ask::Status { form: Form::Json }));
    }

    #[test]
    fn a_drain_is_waited_for_or_begun() {
        let wait = |text: &str| ask(&format!("/drainz?wait={text}"));
        assert_eq!(wait("20s"), Ok(Ask::Drain { wait: Duration::from_secs(20) }));
        assert_eq!(ask("/drainz"), Ok(Ask::Drain { wait: Duration::ZERO }));
        for bad in ["-1", "soon", "2h", ""] {
            let refused = wait(bad);
            assert!(matches!(refused, Err(Refusal::BadRequest(_))), "{bad}: {refused:?}");
        }
        assert_eq!(ask_with(&Method::POST, "/drainz", "*/*"), Ok(Ask::BeginDrain));
    }

    #[test]
    fn what_is_none_of_ours_is_refused() {
        assert_eq!(ask("/"), Err(Refusal::NotFound));
        assert_eq!(ask("/readyzz"), Err(Refusal::NotFound));
        assert_eq!(
            ask("/livez//"),
            Err(Refusal::BadRequest("the check's name is not understood".into()))
        );
        for (path, allow) in [("/livez", "GET, HEAD"), ("/drainz", "GET, HEAD, POST")] {
            let refused = ask_with(&Method::DELETE, path, "*/*");
            assert_eq!(refused, Err(Refusal::MethodNotAllowed { allow }));
        }
    }
}

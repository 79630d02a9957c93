//! Where a queue lies, from its URL. Pure.

use crate::error::QueueError;

/// What a URL says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Address {
    /// The queue's name.
    pub(super) name: String,
    /// Whose it is, where it is not one's own.
    pub(super) account: Option<String>,
    /// Where to send requests, if not to AWS.
    pub(super) endpoint: Option<String>,
    pub(super) region: Option<String>,
    /// Key and secret; by the environment otherwise.
    pub(super) keys: Option<(String, String)>,
}

impl Address {
    pub(super) fn parse(url: &str) -> Result<Self, QueueError> {
        let Some(rest) = url.strip_prefix("sqs:") else { return Err(invalid("it has no `sqs:`")) };
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let mut address = match path.strip_prefix("//") {
            Some(path) => Self::with_host(path)?,
            None => Self { name: path.to_owned(), ..Self::default() },
        };
        let mut scheme = "http";
        for option in query.split('&').filter(|option| !option.is_empty()) {
            match option.split_once('=') {
                Some(("region", region)) if !region.is_empty() => {
                    address.region = Some(region.to_owned());
                }
                Some(("tls", "true")) if address.endpoint.is_some() => scheme = "https",
                Some(("tls", "false")) if address.endpoint.is_some() => {}
                _ => return Err(invalid(&format!("it has the option {option:?}"))),
            }
        }
        address.endpoint = address.endpoint.map(|host| format!("{scheme}://{host}"));
        if is_name(&address.name) {
            return Ok(address);
        }
        Err(invalid(&format!("{:?} is no name of a queue", address.name)))
    }

    /// `[key:secret@]host[:port]/account/queue`.
    fn with_host(path: &str) -> Result<Self, QueueError> {
        let (keys, path) = match path.rsplit_once('@') {
            Some((keys, path)) => (Some(keys), path),
            None => (None, path),
        };
        let keys = match keys.map(|keys| keys.split_once(':')) {
            Some(None) => return Err(invalid("a key has no secret")),
            Some(Some((key, secret))) => Some((key.to_owned(), secret.to_owned())),
            None => None,
        };
        let parts: Vec<_> = path.split('/').collect();
        let [host, account, name] = parts[..] else {
            return Err(invalid("after the host it has not an account and a queue"));
        };
        let is_account = account.len() == 12 && account.bytes().all(|b| b.is_ascii_digit());
        if host.is_empty() || !is_account {
            return Err(invalid("it has no host, or an account that is not twelve digits"));
        }
        let (account, endpoint) = (Some(account.to_owned()), Some(host.to_owned()));
        Ok(Self { name: name.to_owned(), account, endpoint, region: None, keys })
    }
}

/// The name of the queue for dead letters.
pub(super) fn dead_name(name: &str) -> String {
    match name.strip_suffix(FIFO) {
        Some(name) => format!("{name}-dead{FIFO}"),
        None => format!("{name}-dead"),
    }
}

/// That it is one, and its dead queue's name too.
pub(super) fn is_name(name: &str) -> bool {
    let stem = name.strip_suffix(FIFO).unwrap_or(name);
    let is_letter = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    !stem.is_empty() && dead_name(name).len() <= NAME_MOST && stem.bytes().all(is_letter)
}

fn invalid(why: &str) -> QueueError {
    QueueError::Invalid {
        what: format!(
            "the URL of a queue on SQS is sqs:NAME?region=REGION or \
             sqs://KEY:SECRET@HOST:PORT/ACCOUNT/NAME?region=REGION&tls=true; {why}"
        ),
    }
}

/// How the name of a FIFO queue ends.
pub(super) const FIFO: &str = ".fifo";
const NAME_MOST: usize = 80;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_of_aws_and_of_other_hosts() {
        let aws = Address::parse("sqs:mail?region=eu-central-1").expect("a URL");
        assert_eq!((aws.name.as_str(), aws.region.as_deref()), ("mail", Some("eu-central-1")));
        assert_eq!((aws.endpoint, aws.account, aws.keys), (None, None, None));
        let url = "sqs://k:s@127.0.0.1:5000/123456789012/mail.fifo?region=x&tls=true";
        let other = Address::parse(url).expect("a URL");
        assert_eq!(other.endpoint.as_deref(), Some("https://127.0.0.1:5000"));
        assert_eq!(other.account.as_deref(), Some("123456789012"));
        assert_eq!(other.keys, Some(("k".into(), "s".into())));
        assert_eq!(dead_name(&other.name), "mail-dead.fifo");
        let plain = Address::parse("sqs://localhost:5000/123456789012/mail").expect("a URL");
        assert_eq!(plain.endpoint.as_deref(), Some("http://localhost:5000"));
    }

    #[test]
    fn what_is_none_is_said() {
        for (url, why) in [
            ("redis://x", "it has no `sqs:`"),
            ("sqs:", "\"\" is no name of a queue"),
            ("sqs:a b", "\"a b\" is no name of a queue"),
            ("sqs:.fifo", "\".fifo\" is no name of a queue"),
            ("sqs:mail?zone=x", "it has the option \"zone=x\""),
            ("sqs:mail?tls=true", "it has the option \"tls=true\""),
            ("sqs://host/mail", "after the host it has not an account and a queue"),
            ("sqs://host/1/mail", "it has no host, or an account that is not twelve digits"),
            ("sqs://k@host/123456789012/mail", "a key has no secret"),
        ] {
            let error = Address::parse(url).expect_err(url).to_string();
            assert!(error.ends_with(&format!("; {why}")), "{url}: {error}");
        }
    }
}

//! What the commands of this package say when they are told what they do not understand.

use std::fmt;
use std::str::FromStr;

/// A command line that is not understood.
#[derive(Debug)]
pub struct OptionError {
    what: String,
    usage: &'static str,
}

impl OptionError {
    pub(crate) fn new(what: impl Into<String>, usage: &'static str) -> Self {
        Self { what: what.into(), usage }
    }

    /// An option that does not take that.
    pub(crate) fn value(name: &str, value: &str, usage: &'static str) -> Self {
        Self::new(format!("{name} {value}?"), usage)
    }
}

impl fmt::Display for OptionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n{}", self.what, self.usage)
    }
}

impl std::error::Error for OptionError {}

/// The number that an option is given.
pub(crate) fn number<T: FromStr>(
    name: &str,
    value: &str,
    usage: &'static str,
) -> Result<T, OptionError> {
    value.parse().map_err(|_| OptionError::value(name, value, usage))
}

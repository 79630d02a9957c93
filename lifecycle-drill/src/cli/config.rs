//! `drill.toml`: the options that the command line leaves out.

use std::{fs, io, path::Path};

use super::{error::CliError, options::Options};

/// The options with those of the file behind them.
///
/// # Errors
/// The file that was named is missing, or any file that is there cannot be understood.
pub(crate) fn complete(options: Options) -> Result<Options, CliError> {
    let named = options.config.clone();
    let file = named.as_deref().unwrap_or(Path::new(DEFAULT));
    match fs::read_to_string(file) {
        Ok(text) => {
            let failed = |source| CliError::ParseConfig { file: file.into(), source };
            let read = toml::from_str(&text).map_err(Box::new).map_err(failed)?;
            Ok(options.over(read))
        }
        Err(error) if named.is_none() && error.kind() == io::ErrorKind::NotFound => Ok(options),
        Err(source) => Err(CliError::ReadConfig { file: file.into(), source }),
    }
}

const DEFAULT: &str = "drill.toml";

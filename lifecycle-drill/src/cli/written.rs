//! Where the reports go: into files, at most one of them to stdout, and the text beside them.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{Ended, error::CliError, note, print};

/// The reports of one run, by the options that ask for them.
#[derive(Debug)]
pub(crate) struct Destinations<'a>(Vec<(&'static str, &'a Path)>);

impl<'a> Destinations<'a> {
    /// Those that are asked for.
    ///
    /// # Errors
    /// Two would go to stdout, where nobody could tell them apart.
    pub(crate) fn new(
        options: impl IntoIterator<Item = (&'static str, &'a Option<PathBuf>)>,
    ) -> Result<Self, CliError> {
        let asked = |(name, file): (_, &'a Option<PathBuf>)| Some((name, file.as_deref()?));
        let asked: Vec<_> = options.into_iter().filter_map(asked).collect();
        let mut to_stdout = asked.iter().filter(|(_, file)| is_stdout(file));
        match (to_stdout.next(), to_stdout.next()) {
            (Some((first, _)), Some((second, _))) => Err(CliError::TwoToStdout { first, second }),
            _ => Ok(Self(asked)),
        }
    }

    /// Writes all of them, whatever becomes of the others, and the text for a person: to stdout,
    /// or to stderr where a report goes there. What could not be written is returned.
    pub(crate) fn write(
        &self,
        text: &str,
        report: impl Fn(&'static str) -> String,
    ) -> Vec<CliError> {
        let mut failures = Vec::new();
        if self.0.iter().any(|(_, file)| is_stdout(file)) {
            note(text.trim_end());
        } else {
            failures.extend(print(text).err());
        }
        for (name, file) in &self.0 {
            failures.extend(deliver(file, &report(name)).err());
        }
        failures
    }
}

/// A failure is told by its own code even where a report of it could not be written.
pub(crate) fn judged(
    ended: Result<Ended, CliError>,
    mut unwritten: Vec<CliError>,
) -> Result<Ended, CliError> {
    let error = match ended {
        Ok(Ended::Passed) => unwritten.pop(),
        _ => None,
    };
    unwritten.iter().for_each(super::complain);
    error.map_or(ended, Err)
}

fn is_stdout(file: &Path) -> bool {
    file == Path::new("-")
}

fn deliver(file: &Path, text: &str) -> Result<(), CliError> {
    if is_stdout(file) {
        return print(text);
    }
    fs::write(file, text).map_err(|source| CliError::Write { file: file.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_written_is_written_whatever_becomes_of_the_rest() {
        let folder = tempfile::tempdir().unwrap();
        let [bad, good] = ["no/such/folder", "good"].map(|name| Some(folder.path().join(name)));
        let files = Destinations::new([("--json", &bad), ("--junit", &good)]).unwrap();
        let unwritten = files.write("", |name| format!("for {name}"));
        assert!(
            matches!(&unwritten[..], [CliError::Write { file, .. }] if Some(file) == bad.as_ref())
        );
        assert_eq!(fs::read_to_string(good.unwrap()).unwrap(), "for --junit");
        assert!(matches!(judged(Ok(Ended::Failed), unwritten), Ok(Ended::Failed)));
    }

    #[test]
    fn what_passed_and_cannot_be_written_is_no_pass() {
        let unwritten = || vec![CliError::NoCommand];
        assert!(matches!(judged(Ok(Ended::Passed), unwritten()), Err(CliError::NoCommand)));
        assert!(matches!(judged(Ok(Ended::Passed), Vec::new()), Ok(Ended::Passed)));
        let nothing = CliError::NothingPlayed("nothing");
        assert!(matches!(judged(Err(nothing), unwritten()), Err(CliError::NothingPlayed(_))));
    }

    #[test]
    fn stdout_is_for_one() {
        let stdout = Some(PathBuf::from("-"));
        assert!(Destinations::new([("--json", &stdout), ("--html", &None)]).is_ok());
        let both = Destinations::new([("--json", &stdout), ("--html", &stdout)]).unwrap_err();
        assert_eq!(both.to_string(), "`--json` and `--html` cannot both go to stdout");
    }
}

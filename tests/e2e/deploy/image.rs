//! The Dockerfile, by a small parser of our own: no test here builds the image, since that wants
//! an engine and a registry. What it says of signals is what goes wrong unseen, so it is read.

use super::read;

/// The instructions of a Dockerfile: comments gone, continued lines joined.
fn instructions(text: &str) -> Vec<(String, String)> {
    let lines = text.lines().map(str::trim).filter(|line| !line.starts_with('#'));
    let joined = lines.fold(String::new(), |text, line| match line.strip_suffix('\\') {
        Some(begun) => text + begun,
        None => text + line + "\n",
    });
    let instruction = |line: &str| {
        let (name, rest) = line.split_once(' ').unwrap_or((line, ""));
        (name.to_ascii_uppercase(), rest.trim().to_owned())
    };
    joined.lines().filter(|line| !line.is_empty()).map(instruction).collect()
}

/// What is wrong with the last stage, which is the image.
fn flaws(text: &str) -> Vec<String> {
    let all = instructions(text);
    let from = all.iter().rposition(|(name, _)| name == "FROM").expect("a stage");
    let stages = all.iter().filter(|(name, _)| name == "FROM").count();
    let image = &all[from..];
    let of = |name: &str| {
        let last = image.iter().rfind(|(found, _)| found == name);
        last.map_or("", |(_, rest)| rest.as_str())
    };
    let exec = |text: &str| serde_json::from_str::<Vec<String>>(text).unwrap_or_default();
    let (entry, command) = (exec(of("ENTRYPOINT")), exec(of("CMD")));
    let mut flaws = Vec::new();
    let mut must = |holds: bool, flaw: &str| {
        if !holds {
            flaws.push(flaw.to_owned());
        }
    };
    must(stages > 1, "the image has what it was built with");
    must(!entry.is_empty(), "the ENTRYPOINT is not in exec form: a shell is PID 1");
    must(of("CMD").is_empty() || !command.is_empty(), "the CMD is not in exec form");
    let program = entry.first().map_or("", |program| program.rsplit('/').next().unwrap_or(""));
    must(!["sh", "bash", "dash", "ash"].contains(&program), "a shell is PID 1");
    must(entry.first().is_some_and(|program| program.starts_with('/')), "found by a PATH");
    must(of("STOPSIGNAL") == "SIGTERM", "stopped by another signal than SIGTERM");
    let user = of("USER").split(':').next().and_then(|user| user.parse::<u32>().ok());
    must(user.is_some_and(|user| user != 0), "the user is root, or known by name alone");
    flaws
}

#[test]
fn the_image_has_no_shell_before_the_process() {
    let text = read("Dockerfile");
    assert_eq!(flaws(&text), Vec::<String>::new());
    let copied = format!("{} /usr/local/bin/orders", "/src/target/release/orders");
    assert!(text.contains(&copied), "what ENTRYPOINT runs is what was built");
    assert!(text.contains("ENTRYPOINT [\"/usr/local/bin/orders\"]"));
}

#[test]
fn what_would_hide_the_signal_is_found() {
    let text = read("Dockerfile");
    for (as_it_is, changed, flaw) in [
        ("ENTRYPOINT [\"/usr/local/bin/orders\"]", "ENTRYPOINT /usr/local/bin/orders", "exec form"),
        ("ENTRYPOINT [\"/usr/", "ENTRYPOINT [\"/bin/sh\", \"-c\", \"/usr/", "a shell is PID 1"),
        ("ENTRYPOINT [\"/usr/local/bin/orders\"]", "", "exec form"),
        ("CMD [\"all\"]", "CMD all", "the CMD"),
        ("STOPSIGNAL SIGTERM", "STOPSIGNAL SIGQUIT", "another signal"),
        ("USER 65532:65532", "USER nonroot", "by name"),
        ("USER 65532:65532", "USER 0", "root"),
        ("FROM gcr.io/distroless/cc-debian12:nonroot\n", "", "what it was built with"),
    ] {
        assert!(text.contains(as_it_is), "{as_it_is}");
        let found = flaws(&text.replacen(as_it_is, changed, 1));
        assert!(found.iter().any(|one| one.contains(flaw)), "{changed}: {found:?}");
    }
}

#[test]
fn instructions_are_read_as_docker_reads_them() {
    let text = "# comment\nfrom a AS b\nRUN x \\\n    && y\n\nENTRYPOINT [\"/a\", \"b\"]\n";
    let names: Vec<_> = instructions(text);
    assert_eq!(names[0], ("FROM".to_owned(), "a AS b".to_owned()));
    assert_eq!(names[1], ("RUN".to_owned(), "x && y".to_owned()));
    assert_eq!(names.len(), 3);
}

//! What the process under test printed, line by line, with times.
//!
//! Bounded: the newest [`LINES_KEPT`] lines, each cut at [`LINE_LENGTH_MAX`] bytes, and of these
//! the newest [`BYTES_KEPT`] bytes.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    sync::watch,
    time::Instant,
};

/// One line that the process printed.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Line {
    /// Where it was printed.
    pub stream: Stream,
    /// When we read it.
    pub at: Instant,
    /// The line without its end; bytes that are not UTF-8 are replaced.
    pub text: String,
}

/// Where a line was printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stream {
    /// Standard error.
    Stderr,
    /// Standard output.
    Stdout,
    /// The pseudo-terminal that carries both.
    Terminal,
}

/// The shared, growing record.
#[derive(Clone, Debug)]
pub(crate) struct Output {
    kept: Arc<Mutex<Kept>>,
    /// Counts lines, to wait for the next one.
    count: Arc<watch::Sender<u64>>,
    /// Readers that have not met the end of their stream.
    open: Arc<watch::Sender<usize>>,
}

#[derive(Debug, Default)]
struct Kept {
    lines: VecDeque<Line>,
    /// Of all lines together.
    bytes: usize,
}

impl Output {
    pub(crate) fn new() -> Self {
        Self {
            kept: Arc::default(),
            count: Arc::new(watch::Sender::new(0)),
            open: Arc::new(watch::Sender::new(0)),
        }
    }

    /// Marks one more stream as open; what it returns marks it closed when dropped.
    pub(crate) fn opened(&self) -> OpenStream {
        self.open.send_modify(|open| *open += 1);
        OpenStream(Arc::clone(&self.open))
    }

    /// Waits until all streams have ended. The caller sets the limit.
    pub(crate) async fn all_closed(&self) {
        // The sender is ours, so the channel cannot close under us.
        let mut open = self.open.subscribe();
        let _closed = open.wait_for(|open| *open == 0).await.is_ok();
    }

    /// Waits for a line that fits, those already printed included. The caller sets the limit.
    pub(crate) async fn line(&self, fits: impl Fn(&str) -> bool) {
        let mut count = self.count.subscribe();
        loop {
            count.mark_unchanged();
            if self.locked().lines.iter().any(|line| fits(&line.text)) {
                return;
            }
            if count.changed().await.is_err() {
                return; // Cannot be: the sender is ours.
            }
        }
    }

    pub(crate) fn lines(&self) -> Vec<Line> {
        self.locked().lines.iter().cloned().collect()
    }

    /// The last `count` lines in one text, for an error message.
    pub(crate) fn tail(&self, count: usize) -> String {
        let kept = self.locked();
        let lines = &kept.lines;
        let mut text = String::new();
        for line in lines.iter().skip(lines.len().saturating_sub(count)) {
            text.push_str("\n    | ");
            text.push_str(&line.text);
        }
        if text.is_empty() { "(nothing was printed)".to_owned() } else { text }
    }

    pub(crate) fn push(&self, stream: Stream, bytes: &[u8]) {
        let text = String::from_utf8_lossy(bytes).trim_end_matches(['\r', '\n']).to_owned();
        let mut kept = self.locked();
        kept.bytes += text.len();
        kept.lines.push_back(Line { stream, at: Instant::now(), text });
        while kept.lines.len() > LINES_KEPT || kept.bytes > BYTES_KEPT {
            let Some(oldest) = kept.lines.pop_front() else { break };
            kept.bytes -= oldest.text.len();
        }
        drop(kept);
        self.count.send_modify(|count| *count += 1);
    }

    /// A poisoned lock only means that a reader panicked; the lines are still lines.
    fn locked(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A stream that is still being read.
#[derive(Debug)]
pub(crate) struct OpenStream(Arc<watch::Sender<usize>>);

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.send_modify(|open| *open = open.saturating_sub(1));
    }
}

/// Reads a stream into the record until it ends. Open from now on, not from the first poll on: a
/// process may be over before that.
pub(crate) fn read_lines<R: AsyncRead + Unpin>(
    mut from: R,
    stream: Stream,
    into: Output,
) -> impl Future<Output = ()> + use<R> {
    let open = into.opened();
    async move {
        let _until_the_end = open;
        let mut splitter = Splitter::default();
        let mut chunk = vec![0; 8 * 1024];
        // An error is an end: a pseudo-terminal answers EIO when its last user has gone.
        while let Ok(count @ 1..) = from.read(&mut chunk).await {
            splitter.feed(chunk.get(..count).unwrap_or_default(), |line| into.push(stream, line));
        }
        splitter.finish(|line| into.push(stream, line));
    }
}

/// Cuts bytes into lines.
#[derive(Debug, Default)]
pub(crate) struct Splitter {
    rest: Vec<u8>,
}

impl Splitter {
    pub(crate) fn feed(&mut self, bytes: &[u8], mut line: impl FnMut(&[u8])) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.rest.extend_from_slice(piece);
            if piece.ends_with(b"\n") || self.rest.len() >= LINE_LENGTH_MAX {
                line(&self.rest);
                self.rest.clear();
            }
        }
    }

    pub(crate) fn finish(mut self, mut line: impl FnMut(&[u8])) {
        if !self.rest.is_empty() {
            line(&std::mem::take(&mut self.rest));
        }
    }
}

const LINES_KEPT: usize = 20_000;
/// A run keeps the output of every scenario until its end.
const BYTES_KEPT: usize = 2 * 1024 * 1024;
const LINE_LENGTH_MAX: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_are_cut_at_their_ends_and_the_last_needs_none() {
        let output = Output::new();
        read_lines(&b"one\r\ntwo\n\nlast"[..], Stream::Stdout, output.clone()).await;
        let texts: Vec<_> = output.lines().into_iter().map(|line| line.text).collect();
        assert_eq!(texts, ["one", "two", "", "last"]);
        output.all_closed().await;
        output.line(|text| text == "last").await;
    }

    #[tokio::test]
    async fn a_stream_that_nobody_has_read_yet_is_open() {
        let output = Output::new();
        let reading = read_lines(&b"last words"[..], Stream::Stderr, output.clone());
        let mut closed = tokio_test::task::spawn(output.all_closed());
        assert!(closed.poll().is_pending());
        reading.await;
        assert!(closed.is_woken() && closed.poll().is_ready());
        assert!(output.tail(1).contains("last words"));
    }

    #[test]
    fn the_record_is_bounded_and_keeps_the_newest() {
        let output = Output::new();
        for number in 0..LINES_KEPT + 5 {
            output.push(Stream::Stderr, number.to_string().as_bytes());
        }
        let lines = output.lines();
        assert_eq!(lines.len(), LINES_KEPT);
        assert_eq!(lines[0].text, "5");
        assert!(output.tail(2).contains(&format!("| {}", LINES_KEPT + 4)));
    }

    #[test]
    fn long_lines_are_bounded_by_their_bytes() {
        let output = Output::new();
        let long = vec![b'x'; LINE_LENGTH_MAX];
        for _ in 0..BYTES_KEPT / LINE_LENGTH_MAX + 5 {
            output.push(Stream::Stdout, &long);
        }
        output.push(Stream::Stdout, b"last");
        let lines = output.lines();
        let bytes: usize = lines.iter().map(|line| line.text.len()).sum();
        assert!(bytes <= BYTES_KEPT && bytes > BYTES_KEPT / 2, "{bytes}");
        assert_eq!(lines.last().unwrap().text, "last");
    }

    #[test]
    fn an_endless_line_is_cut() {
        let mut splitter = Splitter::default();
        let mut count = 0;
        for _ in 0..3 {
            splitter.feed(&vec![b'x'; LINE_LENGTH_MAX], |_| count += 1);
        }
        assert_eq!(count, 3);
    }
}

//! Who is in flight: a lock-free table of short names, one per shard of the gate.
//!
//! Lock-free but for growth: whoever comes first to a segment builds it, and others wait for
//! that. Its memory is that of the most that were ever in flight at once. Taking a place and giving it back is one compare-and-swap each, whatever the number
//! in flight; a name is copied in, so that nothing of the request is held. Reading the
//! table stops nobody and may miss who comes or goes meanwhile.
//!
//! Not here: which shard (`in_flight`), what a kind or an age is (`blockers`).
//!
//! # Invariants
//! 1. A slot is either on the free list or held by one place.
//! 2. `meta` of a slot changes its sequence number at each taking, so a reader that sees
//!    the same `meta` before and after has read one name (a sequence lock).
//! 3. Segments are never freed or moved while the roster lives; their number is bounded.

use std::sync::OnceLock;

use crate::sync::{AtomicU32, AtomicU64, Ordering, fence};

/// A lock-free table of names. It fills its own cache lines: 128 because processors fetch them
/// in pairs.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct Roster {
    /// The free list: tag in the upper half (against ABA), index + 1 in the lower.
    free: AtomicU64,
    /// The first index that was never taken.
    fresh: AtomicU32,
    segments: [OnceLock<Box<[Slot]>>; SEGMENTS],
}

/// One line of the cache: a name and since when.
#[derive(Debug)]
#[repr(align(64))]
struct Slot {
    /// Bit 0 taken; bits 8..16 length of the name; 16..24 state; 32.. sequence number.
    meta: AtomicU64,
    /// When it was taken; while free: index + 1 of the next free slot.
    since: AtomicU64,
    name: [AtomicU64; NAME_WORDS],
}

/// What a reader learns of one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) name: String,
    pub(crate) since_ms: u64,
    pub(crate) state: u8,
}

impl Roster {
    pub(crate) fn new() -> Self {
        Self {
            free: AtomicU64::new(0),
            fresh: AtomicU32::new(0),
            segments: [const { OnceLock::new() }; SEGMENTS],
        }
    }

    /// Takes a place and returns its index, or `None` when the table is full (134 million
    /// a shard). Head and tail are joined by a space; what is too long is cut with `...`.
    pub(crate) fn take(&self, head: &str, tail: &str, since_ms: u64) -> Option<u32> {
        let (index, slot) = match self.pop() {
            Some(popped) => popped,
            None => {
                let index = self.grow()?;
                (index, self.slot(index)?)
            }
        };
        // Ordering: Relaxed, invariant 1: nobody else writes a slot that was just taken.
        let sequence = (slot.meta.load(Ordering::Relaxed) >> 32).wrapping_add(1);
        // Ordering: Release, pairs with the Acquire fence in `read`: who sees a new name
        // word also sees that the old `meta` is gone.
        fence(Ordering::Release);
        let (words, len) = pack(head, tail);
        // Only the words that the name fills: the reader goes by its length.
        for (cell, word) in slot.name.iter().zip(words).take(len.div_ceil(8)) {
            // Ordering: Relaxed, published by the store of `meta` below.
            cell.store(word, Ordering::Relaxed);
        }
        // Ordering: Relaxed, published by the store of `meta` below.
        slot.since.store(since_ms, Ordering::Relaxed);
        let meta = (sequence << 32) | ((len as u64) << 8) | TAKEN;
        // Ordering: Release, pairs with the first Acquire in `read`: name and time first.
        slot.meta.store(meta, Ordering::Release);
        Some(index)
    }

    /// Notes what the holder of the place is doing.
    pub(crate) fn set_state(&self, index: u32, state: u8) {
        if let Some(slot) = self.slot(index) {
            // Ordering: Relaxed, only the holder's side writes `meta` while it is taken (two
            // threads of it at once may lose a state, never a name).
            let meta = slot.meta.load(Ordering::Relaxed);
            debug_assert!(meta & TAKEN != 0, "invariant 1: the holder's slot is taken");
            let meta = (meta & !(0xff << 16)) | (u64::from(state) << 16);
            // Ordering: Release, as in `take`: a reader may see this one first.
            slot.meta.store(meta, Ordering::Release);
        }
    }

    /// Gives a place back.
    pub(crate) fn give_back(&self, index: u32) {
        let Some(slot) = self.slot(index) else { return };
        // Ordering: Relaxed, the push below publishes it to the next holder; a reader that
        // still sees the old `meta` reads a name that left a moment ago.
        let meta = slot.meta.load(Ordering::Relaxed);
        debug_assert!(meta & TAKEN != 0, "invariant 1: given back once");
        slot.meta.store(meta & !TAKEN, Ordering::Relaxed);
        // Ordering: Release, pairs with the Acquire fence in `read`: who sees the link in
        // place of the time also sees that the slot is no longer taken.
        fence(Ordering::Release);
        // Ordering: Relaxed, checked by the compare-and-swap.
        let mut head = self.free.load(Ordering::Relaxed);
        loop {
            slot.since.store(head & LOWER, Ordering::Relaxed);
            let pushed = tag_after(head) | u64::from(index + 1);
            // Ordering: Release, pairs with the Acquire in `pop`: the next holder sees the
            // link and all that this one wrote.
            match self.free.compare_exchange_weak(
                head,
                pushed,
                Ordering::Release,
                Ordering::Relaxed,
            ) {
                Ok(_) => return,
                Err(now) => head = now,
            }
        }
    }

    /// Everyone who is in, as far as they held still while being read.
    pub(crate) fn lines(&self) -> Vec<Line> {
        // Ordering: Acquire, pairs with the Release in `grow`: an index seen has a segment. The
        // segments' own locks order that too, but loom cannot look into them.
        let count = self.fresh.load(Ordering::Acquire);
        (0..count).filter_map(|index| self.read(self.slot(index)?)).collect()
    }

    fn read(&self, slot: &Slot) -> Option<Line> {
        // Ordering: Acquire, pairs with the Release stores of `meta`.
        let meta = slot.meta.load(Ordering::Acquire);
        if meta & TAKEN == 0 {
            return None;
        }
        let words: [u64; NAME_WORDS] =
            // Ordering: Relaxed, checked by the second look at `meta`.
            std::array::from_fn(|word| slot.name[word].load(Ordering::Relaxed));
        let since_ms = slot.since.load(Ordering::Relaxed);
        // Ordering: Acquire, pairs with the Release fence in `take`.
        fence(Ordering::Acquire);
        // Ordering: Relaxed, ordered by the fence.
        let again = slot.meta.load(Ordering::Relaxed);
        if again >> 32 != meta >> 32 || again & TAKEN == 0 {
            return None;
        }
        let len = (meta >> 8 & 0xff) as usize;
        let state = (meta >> 16 & 0xff) as u8;
        Some(Line { name: unpack(words, len), since_ms, state })
    }

    fn pop(&self) -> Option<(u32, &Slot)> {
        // Ordering: Acquire, pairs with the Release in `give_back`.
        let mut head = self.free.load(Ordering::Acquire);
        loop {
            let index = u32::try_from(head & LOWER).ok()?.checked_sub(1)?;
            // Ordering: Relaxed, it may already be another holder's time; then the tag has
            // changed and the compare-and-swap fails.
            let slot = self.slot(index)?;
            let next = slot.since.load(Ordering::Relaxed) & LOWER;
            // Ordering: Relaxed on success, since the tag makes it the very head that was
            // loaded with Acquire; Acquire on failure, the same pair as above.
            match self.free.compare_exchange_weak(
                head,
                tag_after(head) | next,
                Ordering::Relaxed,
                Ordering::Acquire,
            ) {
                Ok(_) => return Some((index, slot)),
                Err(now) => head = now,
            }
        }
    }

    #[cold]
    fn grow(&self) -> Option<u32> {
        // Ordering: Relaxed, checked by the compare-and-swap.
        let mut index = self.fresh.load(Ordering::Relaxed);
        loop {
            let (segment, _) = place(index);
            // The segment comes first, so that a reader of `fresh` finds it.
            self.segments.get(segment)?.get_or_init(|| {
                (0..FIRST << segment).map(|_| Slot::new()).collect::<Vec<_>>().into_boxed_slice()
            });
            let next = index + 1;
            // Ordering: Release, pairs with the Acquire in `lines`.
            match self.fresh.compare_exchange(index, next, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return Some(index),
                // Another thread took that index, and with it one of the places left.
                Err(now) => index = now,
            }
        }
    }

    fn slot(&self, index: u32) -> Option<&Slot> {
        let (segment, offset) = place(index);
        self.segments.get(segment)?.get()?.get(offset)
    }
}

impl Slot {
    fn new() -> Self {
        Self {
            meta: AtomicU64::new(0),
            since: AtomicU64::new(0),
            name: std::array::from_fn(|_| AtomicU64::new(0)),
        }
    }
}

/// Segment and offset of an index: segments double, so that few of them hold many.
fn place(index: u32) -> (usize, usize) {
    let nth = index / FIRST + 1;
    let segment = nth.ilog2();
    let start = FIRST * ((1 << segment) - 1);
    (segment as usize, (index - start) as usize)
}

fn tag_after(head: u64) -> u64 {
    (head & !LOWER).wrapping_add(LOWER + 1)
}

fn pack(head: &str, tail: &str) -> ([u64; NAME_WORDS], usize) {
    let (mut words, mut len) = ([0; NAME_WORDS], 0);
    let gap = if head.is_empty() || tail.is_empty() { "" } else { " " };
    for part in [head, gap, tail] {
        let room = NAME_BYTES - len;
        // By words and not by `copy_from_slice`, which is a call for a few bytes.
        for chunk in part.as_bytes()[..part.len().min(room)].chunks(8) {
            let (word, shift) = (le_word(chunk), len % 8 * 8);
            words[len / 8] |= word << shift;
            if shift + chunk.len() * 8 > 64 {
                words[len / 8 + 1] |= word >> (64 - shift);
            }
            len += chunk.len();
        }
    }
    if head.len() + gap.len() + tail.len() > NAME_BYTES {
        let last = &mut words[NAME_WORDS - 1];
        *last = (*last & (u64::MAX >> 24)) | (le_word(b"...") << 40);
    }
    (words, len)
}

/// Up to eight bytes, the first of them lowest. Two loads that overlap in place of a loop.
#[inline]
fn le_word(bytes: &[u8]) -> u64 {
    let len = bytes.len();
    if let Ok(eight) = bytes.try_into() {
        u64::from_le_bytes(eight)
    } else if let (Some(first), Some(last)) = (bytes.first_chunk(), bytes.last_chunk()) {
        let (first, last) = (u32::from_le_bytes(*first), u32::from_le_bytes(*last));
        u64::from(first) | (u64::from(last) << ((len - 4) * 8))
    } else {
        bytes.iter().rev().fold(0, |word, byte| (word << 8) | u64::from(*byte))
    }
}

fn unpack(words: [u64; NAME_WORDS], len: usize) -> String {
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    // A cut may fall inside a character; what is left of it shows as a question mark.
    String::from_utf8_lossy(&bytes[..len.min(NAME_BYTES)]).into_owned()
}

const NAME_WORDS: usize = 6;
const NAME_BYTES: usize = NAME_WORDS * 8;
const TAKEN: u64 = 1;
const LOWER: u64 = u32::MAX as u64;
const SEGMENTS: usize = 22;
#[cfg(not(all(test, lifecycle_loom)))]
const FIRST: u32 = 32;
#[cfg(all(test, lifecycle_loom))]
const FIRST: u32 = 1;

#[cfg(all(test, not(lifecycle_loom)))]
mod tests {
    use super::*;

    fn names(roster: &Roster) -> Vec<String> {
        roster.lines().into_iter().map(|line| line.name).collect()
    }

    #[test]
    fn says_who_is_in_and_since_when() {
        let roster = Roster::new();
        let work = roster.take("GET", "/work", 7).expect("room");
        let job = roster.take("", "import", 9).expect("room");
        roster.set_state(work, 2);
        assert_eq!(
            roster.lines(),
            [
                Line { name: "GET /work".into(), since_ms: 7, state: 2 },
                Line { name: "import".into(), since_ms: 9, state: 0 },
            ]
        );
        roster.give_back(work);
        assert_eq!(names(&roster), ["import"]);
        let again = roster.take("PUT", "/x", 11).expect("room");
        assert_eq!(again, work, "a place is used again");
        assert_eq!(names(&roster), ["PUT /x", "import"]);
        roster.give_back(again);
        roster.give_back(job);
        assert!(roster.lines().is_empty());
    }

    #[test]
    fn a_long_name_is_cut_and_says_so() {
        let roster = Roster::new();
        roster.take("GET", &"/a".repeat(100), 0);
        roster.take("GET", &format!("/{}", "x".repeat(43)), 0);
        let lines = names(&roster);
        assert_eq!(lines[0].len(), 48);
        assert!(lines[0].starts_with("GET /a/a") && lines[0].ends_with("..."), "{}", lines[0]);
        assert!(lines[1].ends_with('x') && lines[1].len() == 48, "exactly full is not cut");
        roster.take("", &"é".repeat(40), 0);
        assert!(names(&roster)[2].starts_with("éé"), "a cut character harms nothing");
    }

    #[test]
    fn heads_and_tails_of_every_length_are_joined_byte_by_byte() {
        let text = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
        for head in 0..=text.len() {
            for tail in 0..=text.len() {
                let (head, tail) = (&text[..head], &text[..tail]);
                let joined = [head, tail].into_iter().filter(|part| !part.is_empty());
                let mut name = joined.collect::<Vec<_>>().join(" ");
                if name.len() > NAME_BYTES {
                    name.replace_range(NAME_BYTES - 3.., "...");
                }
                let (words, len) = pack(head, tail);
                assert_eq!(unpack(words, len), name);
            }
        }
    }

    #[test]
    fn holds_many_across_segments() {
        let roster = Roster::new();
        let places: Vec<_> =
            (0..1000).map(|n| roster.take("n", &n.to_string(), n).expect("room")).collect();
        assert_eq!(roster.lines().len(), 1000);
        for (n, line) in roster.lines().into_iter().enumerate() {
            assert_eq!(line.name, format!("n {n}"));
        }
        places.into_iter().for_each(|place| roster.give_back(place));
        assert!(roster.lines().is_empty());
    }

    #[test]
    fn indices_fall_into_doubling_segments() {
        assert_eq!(place(0), (0, 0));
        assert_eq!(place(31), (0, 31));
        assert_eq!(place(32), (1, 0));
        assert_eq!(place(95), (1, 63));
        assert_eq!(place(96), (2, 0));
    }

    #[test]
    fn a_reader_never_sees_a_mixed_name_on_real_threads() {
        let roster = Roster::new();
        std::thread::scope(|scope| {
            for letter in ["a", "b"] {
                let roster = &roster;
                scope.spawn(move || {
                    let long = letter.repeat(40);
                    for n in 0..20_000 {
                        let place = roster.take("", &long, n).expect("room");
                        roster.give_back(place);
                    }
                });
            }
            for _ in 0..2_000 {
                for name in names(&roster) {
                    let first = name.as_bytes()[0];
                    assert!(name.bytes().all(|byte| byte == first), "mixed: {name}");
                }
            }
        });
        assert!(roster.lines().is_empty());
    }
}

#[cfg(all(test, lifecycle_loom))]
mod loom_tests {
    use std::sync::Arc;

    use loom::thread;

    use super::*;

    // Loom looks for other orders only where it sees two threads meet, and a thread's own
    // load before its compare-and-swap hides the meeting. So in each model the thread that
    // can be misled is the spawned one: it runs last at first, and is offered every value
    // that it may still see.

    /// Question: can a reader see half of one name and half of another?
    #[test]
    fn loom_a_reader_sees_one_whole_name() {
        loom::model(|| {
            let roster = Arc::new(Roster::new());
            let first = roster.take("aaaaaaaaaaaa", "", 1).expect("room");
            let reader = thread::spawn({
                let roster = roster.clone();
                move || roster.lines()
            });
            roster.give_back(first);
            roster.take("bbbbbbbbbbbb", "", 2).expect("room");
            for line in reader.join().expect("no panic") {
                let whole = matches!(
                    (line.name.as_str(), line.since_ms),
                    ("aaaaaaaaaaaa", 1) | ("bbbbbbbbbbbb", 2)
                );
                assert!(whole, "mixed: {line:?}");
            }
        });
    }

    /// Question: can a place be given to two holders?
    #[test]
    fn loom_a_place_has_one_holder() {
        loom::model(|| {
            let roster = Arc::new(Roster::new());
            let one = roster.take("x", "", 0).expect("room");
            let two = roster.take("y", "", 0).expect("room");
            roster.give_back(one);
            roster.give_back(two);
            let other = thread::spawn({
                let roster = roster.clone();
                move || roster.take("a", "", 0).expect("room")
            });
            // The time, read as a link by who was too slow, leads back to the place.
            let place = roster.take("b", "", 2).expect("room");
            roster.give_back(place);
            let mine = roster.take("c", "", 0).expect("room");
            assert_ne!(mine, other.join().expect("no panic"));
            assert_eq!(roster.lines().len(), 2);
        });
    }

    /// Question: can two holders be given one place that was never taken before?
    #[test]
    fn loom_a_new_place_has_one_holder() {
        loom::model(|| {
            let roster = Arc::new(Roster::new());
            // Loom cannot see who made a segment first: the contended one is there already.
            for _ in 0..2 {
                roster.take("x", "", 0).expect("room");
            }
            let other = thread::spawn({
                let roster = roster.clone();
                move || roster.take("b", "", 0).expect("room")
            });
            let mine = roster.take("a", "", 0).expect("room");
            assert_ne!(mine, other.join().expect("no panic"));
            assert_eq!(roster.lines().len(), 4);
        });
    }

    /// Question: can a place's old time pass for the link that replaces it?
    #[test]
    fn loom_a_link_is_followed_only_once_written() {
        loom::model(|| {
            let roster = Arc::new(Roster::new());
            let one = roster.take("x", "", 0).expect("room");
            // As a link, this time leads from the place to itself.
            let two = roster.take("y", "", 2).expect("room");
            let taker = thread::spawn({
                let roster = roster.clone();
                move || [(); 2].map(|()| roster.take("z", "", 0).expect("room"))
            });
            roster.give_back(one);
            roster.give_back(two);
            let [first, second] = taker.join().expect("no panic");
            assert_ne!(first, second);
        });
    }

    /// Question: is the name whole when one thread gave the place back and another took
    /// it, neither of them the reader?
    #[test]
    fn loom_a_name_written_by_a_third_thread_is_whole() {
        loom::model(|| {
            let roster = Arc::new(Roster::new());
            let first = roster.take("a", "", 1).expect("room");
            let taker = thread::spawn({
                let roster = roster.clone();
                move || roster.take("b", "", 2)
            });
            let reader = thread::spawn({
                let roster = roster.clone();
                move || roster.lines()
            });
            roster.give_back(first);
            taker.join().expect("no panic");
            for line in reader.join().expect("no panic") {
                let whole = matches!((line.name.as_str(), line.since_ms), ("a", 1) | ("b", 2));
                assert!(whole, "mixed: {line:?}");
            }
        });
    }

    /// Question: does a place taken, and a state noted by its holder, show the holder's name?
    #[test]
    fn loom_a_state_shows_with_its_name() {
        loom::model(|| {
            let roster = Arc::new(Roster::new());
            let reader = thread::spawn({
                let roster = roster.clone();
                move || roster.lines()
            });
            let place = roster.take("a", "", 5).expect("room");
            roster.set_state(place, 1);
            for line in reader.join().expect("no panic") {
                assert_eq!((line.name.as_str(), line.since_ms), ("a", 5));
            }
        });
    }
}

#!/usr/bin/env bash
# Proves that the loom models can fail: breaks the code in one place at a time and requires
# that the model named beside it notices.
#
# Run with: ./lifecycle/loom-mutants.sh [PART OF A MUTANT'S NAME]
#
# Works on a copy under the target folder. Exit code: 0 all caught, 1 one survived,
# 2 the list is stale (a text that is not there once, or a mutant that does not compile).
set -euo pipefail

main() {
    prepare
    echo "without a mutant:"
    for crate in lifecycle lifecycle-tower lifecycle-worker; do
        run "$crate" loom_ || { tail -n 40 "$log"; stale "the models fail without a mutant"; }
        printf '  %-16s %s\n' "$crate" "$(grep '^test result' "$log")"
    done
    echo "mutant -> caught by"
    list
    echo "$caught caught, $survived survived"
    [ "$survived" -eq 0 ]
}

# Arguments: name, file, the model that must fail, text that occurs once, what it becomes.
list() {
    local gate=lifecycle/src/gate.rs
    mutant 'gate: count without Release' $gate \
        loom_drained_sees_the_work_of_a_guard_dropped_elsewhere \
        'self.0.fetch_sub(1, Ordering::Release)' 'self.0.fetch_sub(1, Ordering::Relaxed)'
    mutant 'gate: is_drained without Acquire' $gate \
        loom_drained_sees_the_work_under_every_shard \
        'self.0.load(Ordering::Acquire)' 'self.0.load(Ordering::Relaxed)'
    mutant 'gate: the last shard is known apart from the count' $gate \
        loom_leaver_against_waiter \
        'let before = self.0.fetch_sub(1, Ordering::Release);' \
        'let before = self.0.load(Ordering::Relaxed); self.0.fetch_sub(1, Ordering::Release);'
    mutant 'gate: the last shard is quiet' $gate loom_leaver_against_waiter \
        'Counted::Wake } else { Counted::Quiet }' 'Counted::Quiet } else { Counted::Quiet }'
    mutant 'model: a reference is made from none' $gate loom_admit_against_close \
        '(references > 0).then(|| references + 1)' 'Some(references + 1)'
    mutant 'model: the waiter looks, then arms' $gate loom_leaver_against_waiter \
        'waker.register_by_ref(cx.waker());
            if tally.is_drained() {' \
        'let drained = tally.is_drained();
            waker.register_by_ref(cx.waker());
            if drained {'

    mutant 'phase: load without Acquire' lifecycle/src/phase.rs \
        loom_a_phase_shows_what_was_set_up_for_it \
        'self.0.load(Ordering::Acquire)' 'self.0.load(Ordering::Relaxed)'
    mutant 'phase: advance without Release' lifecycle/src/phase.rs \
        loom_a_phase_shows_what_was_set_up_for_it \
        'self.0.store(to as u8, Ordering::Release)' 'self.0.store(to as u8, Ordering::Relaxed)'

    local view=lifecycle/src/view.rs
    mutant 'view: wakes, then stores the phase' $view loom_who_waits_does_not_miss_the_phase \
        'self.advance(phase);
        self.wake(phase);' \
        'self.wake(phase);
        self.advance(phase);'
    mutant 'view: a place is given without a second look' $view \
        loom_who_waits_does_not_miss_the_phase \
        '// Invariant 3.
        if self.phase() >= phase {' \
        'if false {'
    mutant 'view: the first task keeps the place' $view loom_the_task_of_the_last_poll_is_woken \
        'Some(held) => Some(mem::replace(held, waker.clone())),' 'Some(_) => None::<Waker>,'
    mutant 'view: who leaves was surely not taken' $view \
        loom_who_leaves_takes_only_its_own_place \
        '.try_remove(place)' '.remove(place)'

    local roster=lifecycle/src/roster.rs
    mutant 'roster: take without its fence' $roster \
        loom_a_name_written_by_a_third_thread_is_whole \
        'fence(Ordering::Release);
        let (words, len)' \
        'let (words, len)'
    mutant 'roster: take publishes without Release' $roster loom_a_state_shows_with_its_name \
        'slot.meta.store(meta, Ordering::Release);
        Some(index)' \
        'slot.meta.store(meta, Ordering::Relaxed);
        Some(index)'
    mutant 'roster: take keeps the sequence number' $roster loom_a_reader_sees_one_whole_name \
        '.wrapping_add(1);
        // Ordering' \
        ';
        // Ordering'
    mutant 'roster: set_state without Release' $roster loom_a_state_shows_with_its_name \
        'slot.meta.store(meta, Ordering::Release);
        }' \
        'slot.meta.store(meta, Ordering::Relaxed);
        }'
    mutant 'roster: give_back without its fence' $roster loom_a_reader_sees_one_whole_name \
        'fence(Ordering::Release);
        // Ordering: Relaxed, checked' \
        '// Ordering: Relaxed, checked'
    mutant 'roster: give_back pushes without Release' $roster \
        loom_a_link_is_followed_only_once_written \
        'pushed,
                Ordering::Release,' \
        'pushed,
                Ordering::Relaxed,'
    mutant 'roster: read without the first Acquire' $roster loom_a_state_shows_with_its_name \
        'let meta = slot.meta.load(Ordering::Acquire);' \
        'let meta = slot.meta.load(Ordering::Relaxed);'
    mutant 'roster: read without its fence' $roster loom_a_reader_sees_one_whole_name \
        'fence(Ordering::Acquire);' ''
    mutant 'roster: read without the second look' $roster loom_a_reader_sees_one_whole_name \
        'if again >> 32 != meta >> 32 || again & TAKEN == 0 {' 'if again == 0 {'
    mutant 'roster: pop loads the head without Acquire' $roster \
        loom_a_link_is_followed_only_once_written \
        'self.free.load(Ordering::Acquire)' 'self.free.load(Ordering::Relaxed)'
    mutant 'roster: pop sees the new head without Acquire' $roster \
        loom_a_link_is_followed_only_once_written \
        'Ordering::Relaxed,
                Ordering::Acquire,
            )' \
        'Ordering::Relaxed,
                Ordering::Relaxed,
            )'
    mutant 'roster: the tag stays (ABA)' $roster loom_a_place_has_one_holder \
        '(head & !LOWER).wrapping_add(LOWER + 1)' 'head & !LOWER'
    # Std's OnceLock, which loom cannot see, would also order these two; loom wants them.
    mutant 'roster: grow publishes without Release' $roster loom_a_state_shows_with_its_name \
        'next, Ordering::Release, Ordering::Relaxed)' \
        'next, Ordering::Relaxed, Ordering::Relaxed)'
    mutant 'roster: lines counts without Acquire' $roster loom_a_state_shows_with_its_name \
        'self.fresh.load(Ordering::Acquire)' 'self.fresh.load(Ordering::Relaxed)'
    mutant 'roster: two threads grow into one index' $roster loom_a_new_place_has_one_holder \
        'compare_exchange(index, next, Ordering::Release, Ordering::Relaxed)' \
        'compare_exchange(index, next, Ordering::Release, Ordering::Relaxed).or(Ok::<_, u32>(index))'

    local flights=lifecycle-tower/src/serve/flights.rs
    mutant 'flights: end without Release' $flights loom_none_in_flight_shows_what_was_noted \
        'fetch_sub(ONE, Ordering::AcqRel)' 'fetch_sub(ONE, Ordering::Acquire)'
    mutant 'flights: end without Acquire' $flights loom_the_last_end_wakes_the_connection \
        'fetch_sub(ONE, Ordering::AcqRel)' 'fetch_sub(ONE, Ordering::Release)'
    mutant 'flights: watch without Acquire' $flights loom_none_in_flight_shows_what_was_noted \
        'fetch_or(WATCHED, Ordering::AcqRel)' 'fetch_or(WATCHED, Ordering::Release)'
    mutant 'flights: watch without Release' $flights loom_the_last_end_wakes_the_connection \
        'fetch_or(WATCHED, Ordering::AcqRel)' 'fetch_or(WATCHED, Ordering::Acquire)'
    mutant 'flights: count without Acquire' $flights loom_a_count_of_none_shows_what_was_noted \
        'self.0.load(Ordering::Acquire)' 'self.0.load(Ordering::Relaxed)'
    mutant 'flights: told read apart from the number' $flights \
        loom_the_last_end_wakes_the_connection \
        'let before = self.0.fetch_sub(ONE, Ordering::AcqRel);' \
        'let before = self.0.load(Ordering::Relaxed); self.0.fetch_sub(ONE, Ordering::AcqRel);'
    mutant 'flights: the number read before the watch' $flights \
        loom_the_last_end_wakes_the_connection \
        'self.0.fetch_or(WATCHED, Ordering::AcqRel) / ONE' \
        '{ let n = self.count(); self.0.fetch_or(WATCHED, Ordering::AcqRel); n }'
    mutant 'flights: only an end beside another is told' $flights \
        loom_the_last_end_wakes_the_connection \
        'before == ONE | WATCHED' 'before > ONE | WATCHED'
    mutant 'flights: the number is read apart from its end' $flights \
        loom_the_last_of_two_ends_wakes_a_task_that_was_awake \
        'before == ONE | WATCHED' 'before & WATCHED != 0 && self.count() == 1'
    mutant 'model: the connection watches, then makes itself known' $flights \
        loom_the_last_end_wakes_the_connection \
        'flights.rest();
                task.set(cx.waker());
                if flights.watch() == 0 {' \
        'flights.rest();
                let number = flights.watch();
                task.set(cx.waker());
                if number == 0 {'
    mutant 'model: the connection rests when it has watched' $flights \
        loom_the_last_end_wakes_the_connection \
        'flights.rest();
                task.set(cx.waker());
                if flights.watch() == 0 {' \
        'task.set(cx.waker());
                let number = flights.watch();
                flights.rest();
                if number == 0 {'

    local fate=lifecycle-worker/src/fate.rs
    mutant 'fate: looks, then moves' $fate \
        loom_exactly_one_of_finish_return_and_loss_wins \
        'let gone =
            self.0.compare_exchange(from as u8, to as u8, Ordering::Relaxed, Ordering::Relaxed);
        gone.is_ok()' \
        'let is_there = self.0.load(Ordering::Relaxed) == from as u8;
        if is_there {
            self.0.store(to as u8, Ordering::Relaxed);
        }
        is_there'
    mutant 'fate: a loss takes what is finished' $fate \
        loom_exactly_one_of_finish_return_and_loss_wins \
        'if self.go(Standing::Running, to)' \
        'if self.go(Standing::Running, to)
            || (to == Standing::Lost && self.go(Standing::Finished, to))'
    mutant 'fate: what has been taken back is started' $fate \
        loom_a_job_is_started_or_leaves_unstarted \
        'self.go(Standing::Unstarted, Standing::Running)' \
        'self.standing() == Standing::Unstarted && {
            self.0.store(Standing::Running as u8, Ordering::Relaxed);
            true
        }'
}

mutant() {
    local name=$1 file=$2 model=$3 crate=${2%%/*}
    case $name in *"$only"*) ;; *) return 0 ;; esac
    OLD=$4 NEW=$5 perl -0777 -i -pe '
        my ($n, $old) = (0, $ENV{OLD});
        s/\Q$old\E/$n++; $ENV{NEW}/ge;
        END { exit($n == 1 ? 0 : 1) }' "$copy/$file" \
        || stale "$name: its text is not in $file exactly once"
    cmp -s "$root/$file" "$copy/$file" && stale "$name: changes nothing"
    if run "$crate" "$model"; then
        survived=$((survived + 1))
        printf '  %-50s SURVIVED %s\n' "$name" "$model"
    elif grep -Eq "^test .*$model ... FAILED" "$log" || grep -q 'SIGABRT' "$log"; then
        caught=$((caught + 1))
        printf '  %-50s %s\n' "$name" "$model"
        # What it said: a model that fails for another reason proves nothing.
        grep -A1 -m1 'panicked at' "$log" | sed -n '2s/^/      /p'
    else
        tail -n 40 "$log"
        stale "$name: neither passed nor failed (does it compile? did it hang?)"
    fi
    cp "$root/$file" "$copy/$file"
}

# A workspace of the three crates alone; always in the same place, so that a build is reused.
prepare() {
    rm -rf "$copy"
    mkdir -p "$copy"
    cp -r "$root/lifecycle" "$root/lifecycle-tower" "$root/lifecycle-worker" "$root/Cargo.lock" \
        "$copy"
    perl -0777 -pe '
        s/^members = \[.*?\]/members = ["lifecycle", "lifecycle-tower", "lifecycle-worker"]/ms;
        s/^default-members = \[.*?\]\n//ms' "$root/Cargo.toml" > "$copy/Cargo.toml"
}

# Building has no limit, what is built has: on a machine that is new or busy a build is slow.
run() {
    local loom=(cargo test -p "$1" --lib --release)
    (cd "$copy" \
        && export RUSTFLAGS="--cfg lifecycle_loom" LOOM_MAX_PREEMPTIONS=3 \
            CARGO_TARGET_DIR="$work" CARGO_PROFILE_RELEASE_INCREMENTAL=true \
        && "${loom[@]}" --no-run && timeout 300 "${loom[@]}" "$2" \
    ) > "$log" 2>&1
}

stale() {
    echo "loom-mutants: $1" >&2
    exit 2
}

root=$(cd "$(dirname "$0")/.." && pwd)
mkdir -p "${CARGO_TARGET_DIR:-$root/target}/loom-mutants"
work=$(cd "${CARGO_TARGET_DIR:-$root/target}/loom-mutants" && pwd)
copy=$work/workspace
log=$work/log
only=${1:-}
caught=0
survived=0
main

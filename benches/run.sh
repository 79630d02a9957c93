#!/usr/bin/env bash
# Runs every bench and writes what came out: the promises in one table, then each bench's own.
#
# Usage: benches/run.sh [--short] [--only BENCH[,BENCH..]] [--out FILE]
#   --short   few rounds: to see that it works, not to believe its figures
#   --only    these benches alone; the rows of the others are said to be missing
#   --out     where the page goes; without it benches/RESULTS.md, whose table README quotes.
#             The picture goes beside it.
#
# Exits with 1 when a bench fails; what the others found is written all the same. A row that is
# not reached is no failure.
set -euo pipefail
cd "$(dirname "$0")/.."

BENCHES=(gate layer serve broadcast worker scaling)
short=
out=
only=
while (($#)); do
    case $1 in
        --short) short=yes ;;
        --only) only=$2; shift ;;
        --out) out=$2; shift ;;
        *) sed -n '2,/^set/{/^#/s/^# \?//p}' "$0" >&2; exit 2 ;;
    esac
    shift
done
if [ -n "$short" ] && [ -z "$out" ]; then
    echo "--short wants --out: its figures are not for benches/RESULTS.md" >&2
    exit 2
fi
quoted=()
if [ -z "$out" ]; then
    out=benches/RESULTS.md
    quoted=(--markdown README.md)
fi
mkdir -p "$(dirname "$out")"
picture=${out%.md}.svg
export CARGO_TERM_COLOR=${CARGO_TERM_COLOR:-never}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export BENCH_ROWS=$work/rows BENCH_PICTURE=$PWD/$picture
case $picture in /*) BENCH_PICTURE=$picture ;; esac
mkdir "$work/tables"
touch "$BENCH_ROWS"

wanted() {
    [ -z "$only" ] || [[ ,$only, == *,$1,* ]]
}

# What a bench is told for a short run.
told() {
    [ -n "$short" ] || return 0
    case $1 in
        gate | layer) echo --rounds 5 ;;
        worker) echo --rounds 1 --only memory ;;
        *) echo --rounds 1 ;;
    esac
}

# Built beforehand, so that nothing is compiled beside a bench.
cargo bench -q -p benches --no-run
cargo build -q -p benches --bin results
for bench in "${BENCHES[@]}"; do
    wanted "$bench" || continue
    began=$SECONDS
    code=0
    # shellcheck disable=SC2046 # words are what is wanted
    cargo bench -q -p benches --bench "$bench" -- $(told "$bench") >"$work/tables/$bench.md" ||
        code=$?
    printf '{"kind":"ended","bench":"%s","code":%d}\n' "$bench" "$code" >>"$BENCH_ROWS"
    echo "$bench: $((SECONDS - began)) s, exit code $code" >&2
done

named=()
if [ -f "$picture" ]; then
    named=(--picture "$(basename "$picture")")
fi
code=0
cargo run -q -p benches --bin results -- --rows "$BENCH_ROWS" --tables "$work/tables" \
    --out "$out" "${named[@]}" "${quoted[@]}" || code=$?
echo "written: $out" >&2
exit "$code"

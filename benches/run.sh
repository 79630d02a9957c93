#!/usr/bin/env bash
# Runs every bench and writes what came out: the promises in one table, then each bench's own.
#
# Usage: benches/run.sh [--short] [--only BENCH[,BENCH..]] [--out FILE]
#   --short   few rounds: to see that it works, not to believe its figures
#   --only    these benches alone; the rows of the others are said to be missing
#   --out     where the page goes; without it benches/RESULTS.md, whose table README quotes, and
#             then all benches are run, whole. The picture goes beside it.
#
# What the benches have left is kept in target/bench-run until the next run. A bench that takes
# longer than 45 minutes is ended.
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
for bench in ${only//,/ }; do
    if [[ " ${BENCHES[*]} " != *" $bench "* ]]; then
        echo "no bench $bench: ${BENCHES[*]}" >&2
        exit 2
    fi
done
if [ -n "$short$only" ] && [ -z "$out" ]; then
    echo "--short and --only want --out: benches/RESULTS.md is for whole runs of all benches" >&2
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

# A picture of another run would be taken for one of this.
rm -f "$picture"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export BENCH_ROWS=$work/rows BENCH_PICTURE=$PWD/$picture
case $picture in /*) BENCH_PICTURE=$picture ;; esac
mkdir "$work/tables"
touch "$BENCH_ROWS"

wanted() {
    [ -z "$only" ] || [[ ,$only, == *,$1,* ]]
}

# Built beforehand, so that nothing is compiled beside a bench.
cargo bench -q -p benches --no-run
cargo build -q -p benches --bin results
for bench in "${BENCHES[@]}"; do
    wanted "$bench" || continue
    began=$SECONDS
    code=0
    timeout -k 10 45m cargo bench -q -p benches --bench "$bench" -- ${short:+--short} \
        >"$work/tables/$bench.md" || code=$?
    # Whoever was killed may have left half a line.
    printf '\n{"kind":"ended","bench":"%s","code":%d}\n' "$bench" "$code" >>"$BENCH_ROWS"
    echo "$bench: $((SECONDS - began)) s, exit code $code" >&2
done

kept=${CARGO_TARGET_DIR:-target}/bench-run
rm -rf "$kept"
mkdir -p "$kept"
cp -R "$BENCH_ROWS" "$work/tables" "$kept"
named=()
if [ -f "$picture" ]; then
    named=(--picture "$(basename "$picture")")
fi
code=0
cargo run -q -p benches --bin results -- --rows "$BENCH_ROWS" --tables "$work/tables" \
    --out "$out" "${named[@]}" "${quoted[@]}" || code=$?
echo "written: $out" >&2
exit "$code"

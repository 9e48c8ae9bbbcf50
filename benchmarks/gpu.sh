#!/usr/bin/env bash
# What this project measures and makes on a GPU, from a bare PyTorch image, without a network.
#
#     benchmarks/gpu.sh [--dry-run-cpu] [measure] [run] [report]        no piece named: all, in 25 minutes
#
#   measure  training step, exact TBC, evaluation precision: gpu-*.json                      at most 9.5 minutes
#   run      as much of the scale cifar10_hour as fits; called again, it goes on              $MINUTES, 9
#            ($FIT_MINUTES: choose the number of checkpoints for so long, because you will call it again)
#   report   figures, tables, verdicts of what `run` has finished; evaluation precision with its weights: 3 minutes
#
# Each piece leaves what it has in $OUT (build/gpu/out), at most 8 files under 16 MiB, and prints a table last.
# Needs python3 ($PYTHON) with torch; other packages come from $WHEELS (build/wheels, filled by
# benchmarks/gpu_wheels.sh) where the image lacks them. Images: $ARCHIVE, or the one archive in build/images/, or
# else CIFAR-10 from torchvision's download or $MLEGFN_MIRROR. --dry-run-cpu does the same in tiny on a CPU.
# docs/gpu.md tells the rest.
set -euo pipefail
cd "$(dirname "$0")/.."
began=$SECONDS

dry=
pieces=()
for word in "$@"; do
    case $word in
        --dry-run-cpu) dry=1 ;;
        measure | run | report) pieces+=("$word") ;;
        *) echo "gpu.sh: $word: no such piece; there are measure, run, report and --dry-run-cpu" >&2; exit 2 ;;
    esac
done
all=
test ${#pieces[@]} -gt 0 || { pieces=(measure run report); all=1; }

work=${WORK:-build/gpu}
out=${OUT:-$work/out}
python=${PYTHON:-python3}
wheels=${WHEELS:-build/wheels}
archive=${ARCHIVE:-}
test -n "$archive" || archive=$(find build/images -maxdepth 1 -type f 2>/dev/null | sort | head -n 1 || true)
mkdir -p "$work" "$out"
work=$(cd "$work" && pwd)
out=$(cd "$out" && pwd)
export PYTHONPATH="$work/site:$PWD/src${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1 OMP_NUM_THREADS=1
export MLEGFN_COMMIT=${MLEGFN_COMMIT:-$(git rev-parse HEAD 2>/dev/null || cat build/commit 2>/dev/null || true)}
export TORCHINDUCTOR_CACHE_DIR=$work/inductor
results=$work/results
mkdir -p "$results"

found=0
"$python" -c 'import sys, torch; sys.exit(0 if torch.cuda.is_available() else 3)' || found=$?
case $found$dry in
    0 | 01 | 31) ;;
    3) echo "gpu.sh: torch finds no GPU here; --dry-run-cpu tries the script out without one" >&2; exit 2 ;;
    *) echo "gpu.sh: $python has no torch that works; set PYTHON" >&2; exit 2 ;;
esac
if test ! -e "$work/site/complete"; then
    rm -rf "$work/site"
    mkdir -p "$work/site"
    "$python" benchmarks/gpu/install.py "$wheels" "$work/site"
    "$python" -c 'import pydantic, ruamel.yaml; from diffusers import DDPMPipeline, UNet2DModel' ||
        { echo "gpu.sh: the packages do not import; fill $wheels by benchmarks/gpu_wheels.sh" >&2; exit 2; }
    touch "$work/site/complete"
fi

tiny=()
test -z "$dry" || tiny=(--tiny)

# A benchmark under a limit of its own: seconds, name, options. What fails is said, and the rest goes on.
bench() {
    local seconds=$1 name=$2 code=0
    shift 2
    echo "== $name (at most $seconds s)"
    timeout --kill-after 10 "$seconds" "$python" "benchmarks/gpu/$name.py" "${tiny[@]}" --results "$results" "$@" ||
        code=$?
    test $code -lt 2 || echo "gpu.sh: $name: exit $code (124: the limit)"
    cp "$results"/*.json "$out" 2>/dev/null || true
}

measure() {
    local start=$SECONDS
    if test -n "$dry"; then
        bench 120 consistency --chain-steps 8 --rounds 1
        bench 120 likelihood --minutes 0.02
        bench 240 training --batch 4 --steps 1 --rounds 2 --minutes 2
        return
    fi
    bench 90 consistency
    bench 110 likelihood --minutes 1
    # What is left of 9.5 minutes, of which the comparison of gradients at the end takes one.
    local left=$((570 - (SECONDS - start)))
    bench $left training --steps 10 --minutes $(((left - 100) / 60))
}

run() {
    local minutes=${MINUTES:-9}
    test -z "$all" || minutes=$(((1500 - 290 - (SECONDS - began)) / 60))
    echo "== run ($minutes minutes; images: ${archive:-CIFAR-10})"
    "$python" benchmarks/gpu/hour.py "${tiny[@]}" --minutes "$minutes" --folder "$work/hour" \
        --results "$results" ${archive:+--archive "$archive"} ${FIT_MINUTES:+--fit "$FIT_MINUTES"}
    pack
}

report() {
    echo "== report"
    "$python" benchmarks/gpu/hour.py "${tiny[@]}" --minutes 4 --folder "$work/hour" --results "$results" --report \
        ${archive:+--archive "$archive"} || echo "gpu.sh: report: not complete"
    # With trained weights the precision of the likelihood can be judged.
    local checkpoint scale
    checkpoint=$(find "$work/hour/results" -maxdepth 5 -path '*/images/checkpoints/baseline/*' -type d 2>/dev/null |
        sort -V | tail -n 1 || true)
    if test -n "$checkpoint"; then
        scale=$(cat "$work/hour/scale")
        (tiny=() && bench 110 likelihood --minutes 0.5 --checkpoint "$checkpoint" --params "$work/hour/params.yaml" \
            --scale "$scale" --data "$work/hour/data/$scale")
    fi
    pack
}

# $OUT takes few and small files, so checkpoints stay behind: EMA weights alone are 143 MB.
pack() {
    cp "$results"/*.json "$out" 2>/dev/null || true
    tar -czf "$out/hour.tar.gz" -C "$work/hour" --exclude checkpoints --exclude scratch params.yaml results logs || true
    for figure in "$work"/hour/results/*/images/figures/figure[13].png; do
        test ! -e "$figure" || cp "$figure" "$out"
    done
}

for piece in "${pieces[@]}"; do "$piece"; done

echo "== $((SECONDS - began)) s; in $out:"
ls -l "$out" | awk 'NR > 1 { printf "%10d  %s\n", $5, $9 }'
"$python" benchmarks/gpu/summary.py "$results" "$work/hour"

#!/usr/bin/env bash
# How fast the gradient is on one GPU, by engine, beside a rival: the same search in PyTorch, in the reference's own way
# and in the best way that PyTorch can (tests/bench/pytorch_search.py).
#
#   tests/bench/run_gpu.sh [--bin DIR] [--batch "1 4 8"] [--networks "1 4"] [--rank 32] [--resolution 1024]
#       [--engines "burn cuda"] [--steps 8] [--skip-rival] [--rival "OPTIONS"] [--check] [--limit 400]
#       [--model full|tiny] [--device cuda:0] [--scratch DIR] [--python python3]
#
# DIR holds lora-rates (cargo build --release --bin lora-rates --features lora-rates-client/cuda). The rival needs a
# Python with torch 2.11 and diffusers 0.42; OPTIONS go to it, such as "--levels blocks,graph". Each run of ours may
# take --limit seconds. --check also compares the gradients of the rival's two ways. Prints images/s, memory, ratios and
# the share of a matrix product's rate. What fails is a line of the table and doesn't stop the rest; exit status 1 if
# anything failed other than for memory.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 2

bin=target/release batch="1 4 8" networks="1 4" rank=32 resolution=1024 engines="burn cuda" steps=8 skip_rival=0 rival=
check=0 limit=400 model=full device= scratch= python=python3
while (($#)); do
    case $1 in
        --skip-rival) skip_rival=1; shift; continue ;;
        --check) check=1; shift; continue ;;
    esac
    (($# > 1)) || { echo "$1 needs a value; see the head of $0" >&2; exit 2; }
    case $1 in
        --bin) bin=$2 ;; --batch) batch=$2 ;; --networks) networks=$2 ;; --rank) rank=$2 ;;
        --resolution) resolution=$2 ;; --engines) engines=$2 ;; --steps) steps=$2 ;; --rival) rival=$2 ;;
        --limit) limit=$2 ;; --model) model=$2 ;; --device) device=$2 ;; --scratch) scratch=$2 ;; --python) python=$2 ;;
        *) echo "unknown option $1; see the head of $0" >&2; exit 2 ;;
    esac
    shift 2
done
[[ -z $engines || -x $bin/lora-rates ]] || { echo "$bin/lora-rates is missing; see the head of $0" >&2; exit 1; }

scratch=${scratch:-$(mktemp -d)}
# What an earlier run left would come up in this one's table.
rm -rf "$scratch/ours" "$scratch/rival.json"
mkdir -p "$scratch/ours" || exit 1
place=()
[[ -z $device ]] || place=(--device "$device")
failed=0

for engine in $engines; do
    for n in $networks; do
        for b in $batch; do
            out=$scratch/ours/$engine-b$b-n$n
            timeout --kill-after=10 "$limit" "$bin/lora-rates" bench --json --engine "$engine" --model "$model" \
                --networks "$n" --rank "$rank" --resolution "$resolution" --train_batch_size "$b" --steps "$steps" \
                "${place[@]}" >"$out.json" 2>"$out.log"
            status=$?
            ((status != 124 && status != 137)) || echo "not done in $limit s, or killed" >>"$out.log"
            # A run that failed has no figures, whatever it printed.
            ((status == 0)) || : >"$out.json"
            "$python" tests/bench/compare_gpu.py line "$out.json" || failed=1
        done
    done
done

if ((!skip_rival)); then
    options=(--rank "$rank" --resolution "$resolution" --networks "$networks" --batch "$batch" --steps "$steps")
    options+=("${place[@]}")
    [[ $model != tiny ]] || options+=(--tiny)
    read -ra more <<<"$rival"
    options+=("${more[@]}")
    if ((check)); then
        "$python" tests/bench/pytorch_search.py "${options[@]}" --check 2>"$scratch/check.log" || failed=1
    fi
    "$python" tests/bench/pytorch_search.py "${options[@]}" --json "$scratch/rival.json" 2>"$scratch/rival.log" ||
        { failed=1; tail -n 5 "$scratch/rival.log" >&2; }
fi
echo
"$python" tests/bench/compare_gpu.py report "$scratch" || failed=1
echo "outputs and logs: $scratch"
exit "$failed"

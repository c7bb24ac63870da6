#!/usr/bin/env bash
# How a search scales over workers: one coordinator and one worker process per device, on a model of random weights.
#
#   tests/bench/run_scaling.sh [--bin DIR] [--devices "cuda:0 cuda:1"] [--model full|tiny] [--networks "1 16"] [--rank 32]
#       [--resolution 1024] [--batch 4] [--steps 8] [--warm 3] [--precision bf16|no] [--counts "1 2"] [--kill]
#       [--scratch DIR]
#
# DIR holds the programs coordinator, worker and lora-rates (cargo build --release --workspace --bins --features
# lora-rates-client/cuda,lora-rates-worker/cuda). Without --devices: all GPUs, else two workers on the CPU. A device may be
# named twice: two processes on one GPU. Needs python3. Prints, for each number of networks and of workers: images/s,
# efficiency against one worker, where the step's time goes, and whether the trajectories agree.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

bin=target/release devices= model=full networks="1 16" rank=32 resolution=1024 batch=4 steps=8 warm=3 precision=
counts= kill=0 scratch=
while (($#)); do
    case $1 in
        --bin) bin=$2 ;; --devices) devices=$2 ;; --model) model=$2 ;; --networks) networks=$2 ;; --rank) rank=$2 ;;
        --resolution) resolution=$2 ;; --batch) batch=$2 ;; --steps) steps=$2 ;; --warm) warm=$2 ;;
        --precision) precision=$2 ;; --counts) counts=$2 ;; --scratch) scratch=$2 ;;
        --kill) kill=1; shift; continue ;;
        *) echo "unknown option $1; see the head of $0" >&2; exit 2 ;;
    esac
    shift 2
done
for program in coordinator worker lora-rates; do
    [[ -x $bin/$program ]] || { echo "$bin/$program is missing; see the head of $0" >&2; exit 1; }
done
if [[ -z $devices ]]; then
    gpus=$(nvidia-smi -L 2>/dev/null | wc -l) || gpus=0
    devices=$(seq -f cuda:%g -s ' ' 0 $((gpus - 1)))
    ((gpus)) || devices="cpu cpu"
fi
read -ra device <<<"$devices"
if [[ -z $precision ]]; then
    [[ ${device[0]} == cpu ]] && precision=no || precision=bf16
fi
if [[ -z $counts ]]; then
    for count in 1 2 4 8; do ((count <= ${#device[@]})) && counts+="$count "; done
fi
read -ra count_list <<<"$counts"
most=${count_list[-1]}

scratch=${scratch:-$(mktemp -d)}
mkdir -p "$scratch"
pids=()
finish() {
    for pid in "${pids[@]}"; do kill -9 "$pid" 2>/dev/null || true; done
    wait 2>/dev/null || true
}
trap finish EXIT

port=50151 admin=50152
url=http://127.0.0.1:$port
most_networks=$(tr ' ' '\n' <<<"$networks" | sort -n | tail -1)
started=$SECONDS
"$bin/lora-rates" synthetic --output_dir "$scratch/files" --model "$model" --networks "$most_networks" --rank "$rank" \
    --pictures $((2 * batch * most)) --resolution "$resolution"
echo "files made in $((SECONDS - started)) s"
"$bin/coordinator" --listen 127.0.0.1:$port --admin-listen 127.0.0.1:$admin --data-dir "$scratch/data" \
    --log warn 2>"$scratch/coordinator.log" &
pids+=($!)

worker_pids=()
start_worker() { # start_worker PLACE
    "$bin/worker" --coordinator $url --model-dir "$scratch/files" --cache-dir "$scratch/cache$1" \
        --device "${device[$1]}" --name "worker $1 on ${device[$1]}" 2>>"$scratch/worker$1.log" &
    worker_pids[$1]=$!
    pids+=($!)
}

# One search by so many workers. They join it one after the other, as soon as each has read the model and the networks; steps
# count from when all have taken part.
measure() { # measure NETWORKS WORKERS ACCUMULATION LABEL [PROCESS TO KILL AMONG THE STEPS THAT COUNT]
    local files=()
    for ((n = 0; n < $1; n++)); do files+=("$scratch/files/networks/network$n.safetensors"); done
    local search=(--pretrained_model_name_or_path model --network_weights "${files[@]}"
        --train_data_dir "$scratch/files/pictures" --resolution "$resolution" --train_batch_size "$batch"
        --gradient_accumulation_steps "$3" --max_train_steps 100000 --seed 1 --mixed_precision "$precision"
        --overwrite --name "$4" --output_dir "$scratch/out" --output_name "$4")
    python3 tests/bench/scaling.py record "$scratch/$4.jsonl" "http://127.0.0.1:$admin/metrics" "$2" "$warm" "$steps" \
        "${5:-0}" "$bin/lora-rates" $url "${search[@]}" 2>"$scratch/$4.log" || {
        tail -3 "$scratch/$4.log" >&2
        exit 1
    }
}

for count in "${count_list[@]}"; do
    while ((${#worker_pids[@]} < count)); do start_worker ${#worker_pids[@]}; done
    # Workers say when they are there; a search before that would be made by fewer.
    python3 tests/bench/scaling.py wait "http://127.0.0.1:$admin/metrics" "$count" 120
    for n in $networks; do
        measure "$n" "$count" "$count" "n$n-w$count-a$count"
        if ((count == 1 && most > 1)); then
            # The whole of the largest batch on one worker: for a fixed total batch, and the numbers to compare with.
            for other in "${count_list[@]:1}"; do measure "$n" 1 "$other" "n$n-w1-a$other"; done
        fi
    done
done
if ((kill && most > 1)); then
    first=${networks%% *}
    measure "$first" "$most" "$most" "n$first-w$most-a$most-kill" "${worker_pids[$((most - 1))]}"
fi
python3 tests/bench/scaling.py report "$scratch"

#!/usr/bin/env bash
# All experiments, or those that are named, each within its time: run.sh OUT [examples|planted|blind|variance]...
#   BIN     the command (target/release/lora-rates)     DEVICE  cpu or cuda:K (cuda:0)
#   JOBS    processes at a time (6)                     LIMIT   seconds for each part (540)
#   PYTHON  with what requirements.txt lists (python3)  ARGS    further arguments for all, such as --quick or --seeds 3
#   KERNELS=shared  keeps compiled GPU kernels in OUT, so that only the first processes compile them
# Parts after `examples` take its searches from OUT. What is done is not repeated: after a part ran out of time the same
# call goes on with the searches that are missing.
set -u
[ $# -ge 1 ] || { sed -n '2,9s/^# \{0,1\}//p' "$0" >&2; exit 2; }
mkdir -p "$1" || exit 1
out=$(cd "$1" && pwd)
shift
[ $# -ge 1 ] || set -- examples planted blind variance
tests=$(cd "$(dirname "$0")/../.." && pwd)
bin=$(realpath -- "${BIN:-$tests/../target/release/lora-rates}")
[ -x "$bin" ] || { echo "$bin is no program; build it, or say where it is: BIN=PATH" >&2; exit 1; }
if [ "${KERNELS:-}" = shared ]; then
    # The program runs in OUT, where CubeCL looks for this file.
    printf '[compilation]\ncache = "local"\n\n[autotune]\ncache = "local"\n' >"$out/cubecl.toml"
fi
cd "$tests" || exit 1
failed=0
for name in "$@"; do
    begun=$SECONDS
    # The interrupt lets a search save where it is.
    # shellcheck disable=SC2086
    timeout --signal=INT --kill-after=20 "${LIMIT:-540}" "${PYTHON:-python3}" -u -m "world.experiments.$name" \
        --bin "$bin" --device "${DEVICE:-cuda:0}" --jobs "${JOBS:-6}" --out "$out" ${ARGS:-} >"$out/$name.log" 2>&1
    code=$?
    echo "$name: exit code $code after $((SECONDS - begun)) s"
    tail -n 40 "$out/$name.log"
    [ $code = 0 ] || failed=1
done
exit $failed

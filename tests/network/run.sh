#!/usr/bin/env bash
# A search over two hosts, as network namespaces joined by a slow and lossy link that is cut for a while in the middle of
# it. Prints the link's figures and the search's. Needs root.
#
#   tests/network/run.sh            40 ms each way, 1 % loss, cut for 30 s
#
# The test is tests/tests/network.rs: this script only lends it the two namespaces, named in its environment.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

delay_ms=${DELAY_MS:-40} loss=${LOSS:-0.01} cut_s=${CUT_S:-30}
a=lora-rates-$$-a b=lora-rates-$$-b
folder=$(mktemp -d)
link=

finish() {
    [[ -z $link ]] || kill "$link" 2>/dev/null || true
    [[ -z $link ]] || wait "$link" 2>/dev/null || true
    cat "$folder/link.log" 2>/dev/null || true
    ip netns del "$a" 2>/dev/null || true
    ip netns del "$b" 2>/dev/null || true
    rm -rf "$folder"
}
trap finish EXIT

if ((EUID != 0)); then
    echo "network namespaces need root" >&2
    exit 2
fi
ip netns add "$a"
ip netns add "$b"
python3 tests/network/link.py "$a" 10.77.0.1 "$b" 10.77.0.2 --delay-ms "$delay_ms" --loss "$loss" \
    --cut-file "$folder/cut" >"$folder/link.log" 2>&1 &
link=$!
for _ in {1..50}; do
    grep -q ready "$folder/link.log" 2>/dev/null && break
    sleep 0.1
done
grep -q ready "$folder/link.log" || { cat "$folder/link.log" >&2; exit 1; }

export LORA_RATES_NETWORK_WORKERS=$b LORA_RATES_NETWORK_HOST=10.77.0.1
export LORA_RATES_NETWORK_CUT=$folder/cut LORA_RATES_NETWORK_CUT_S=$cut_s
test=(cargo test --offline -p lora-rates-tests --no-default-features --test network)
"${test[@]}" --no-run
# The test itself, with the coordinator, is in the first namespace.
ip netns exec "$a" "${test[@]}" -- --ignored --nocapture

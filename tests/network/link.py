#!/usr/bin/env python3
"""A link between two network namespaces, in user space: delay, jitter, loss, and a switch that cuts it.

    link.py NAMESPACE_A ADDRESS_A NAMESPACE_B ADDRESS_B [--delay-ms 40] [--jitter-ms 5] [--loss 0.01] [--cut-file FILE]

It makes a TUN device in each namespace (addresses such as 10.77.0.1, both in one /24), and moves IP packets between
the two. While the cut file exists, every packet is lost. At the end (SIGTERM) it prints what it has moved. For kernels
without netem; needs root and `ip`.
"""

import argparse
import fcntl
import heapq
import os
import random
import select
import signal
import struct
import subprocess
import sys
import time

TUNSETIFF = 0x400454CA
IFF_TUN, IFF_NO_PI = 0x0001, 0x1000
MTU = 1400


def open_tun(name):
    tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(tun, TUNSETIFF, struct.pack("16sH", name.encode(), IFF_TUN | IFF_NO_PI))
    return tun


def ip(*arguments):
    subprocess.run(["ip", *arguments], check=True)


def end(name, namespace, address):
    tun = open_tun(name)
    ip("link", "set", name, "netns", namespace)
    ip("-n", namespace, "addr", "add", f"{address}/24", "dev", name)
    ip("-n", namespace, "link", "set", name, "mtu", str(MTU), "up")
    ip("-n", namespace, "link", "set", "lo", "up")
    return tun


def main():
    parser = argparse.ArgumentParser()
    for name in ["namespace_a", "address_a", "namespace_b", "address_b"]:
        parser.add_argument(name)
    parser.add_argument("--delay-ms", type=float, default=40.0)
    parser.add_argument("--jitter-ms", type=float, default=5.0)
    parser.add_argument("--loss", type=float, default=0.01)
    parser.add_argument("--cut-file", default="")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    random.seed(options.seed)
    ends = [
        end(f"lr{os.getpid()}a", options.namespace_a, options.address_a),
        end(f"lr{os.getpid()}b", options.namespace_b, options.address_b),
    ]
    moved = lost = cut = 0
    waiting = []  # (due, number, to, packet)
    number = 0
    running = True

    def stop(*_):
        nonlocal running
        running = False

    signal.signal(signal.SIGTERM, stop)
    print("ready", flush=True)
    while running:
        timeout = 0.5
        if waiting:
            timeout = max(0.0, waiting[0][0] - time.monotonic())
        try:
            ready, _, _ = select.select(ends, [], [], timeout)
        except InterruptedError:
            continue
        is_cut = bool(options.cut_file) and os.path.exists(options.cut_file)
        for at, tun in enumerate(ends):
            if tun not in ready:
                continue
            for _ in range(64):
                try:
                    packet = os.read(tun, 65536)
                except BlockingIOError:
                    break
                if is_cut:
                    cut += 1
                elif random.random() < options.loss:
                    lost += 1
                else:
                    delay = options.delay_ms + random.uniform(-options.jitter_ms, options.jitter_ms)
                    number += 1
                    heapq.heappush(waiting, (time.monotonic() + delay / 1000, number, 1 - at, packet))
        now = time.monotonic()
        while waiting and waiting[0][0] <= now:
            _, _, to, packet = heapq.heappop(waiting)
            if is_cut:
                cut += 1  # what is on its way when the link is cut is lost too
                continue
            try:
                os.write(ends[to], packet)
                moved += 1
            except OSError:
                lost += 1
    print(f"packets: {moved} moved, {lost} lost, {cut} lost while cut", flush=True)


if __name__ == "__main__":
    sys.exit(main())

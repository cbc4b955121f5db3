#!/usr/bin/env python3
"""Runs the peer workloads in PyTorch and in gradus in turn, pair by pair, and prints the ratios.

    pip install torch numpy
    python benches/peers/compare.py                          # from the repository's root
    python benches/peers/compare.py --workloads cnn_mnist_b32,ops --threads 1 --rounds 3

Each figure is the median step in milliseconds of the best of the rounds; a ratio below 1 means that gradus is faster.
The machine should be quiet: a cpu_share far below the number of threads is reported.
"""
import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
ALL = "linreg,mlp_mnist,cnn_mnist_b32,cnn_mnist_b128,infer_cnn_b1,lstm_char,ops"


def build():
    """The path of the optimized bench executable."""
    out = subprocess.run(
        ["cargo", "bench", "--bench", "peers", "--no-run", "--message-format=json"],
        cwd=ROOT, stdout=subprocess.PIPE, check=True, text=True).stdout
    for line in out.splitlines():
        m = json.loads(line)
        if m.get("executable") and m["target"]["name"] == "peers":
            return m["executable"]
    sys.exit("cargo built no bench named peers")


def run(command):
    with tempfile.TemporaryDirectory() as d:
        path = os.path.join(d, "out.jsonl")
        subprocess.run(command + ["--json", path], stdout=subprocess.DEVNULL, check=True)
        with open(path) as f:
            return {r["workload"]: r for r in map(json.loads, f)}


def main():
    ap = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ap.add_argument("--workloads", default=ALL)
    ap.add_argument("--threads", default="1,2")
    ap.add_argument("--rounds", type=int, default=3)
    ap.add_argument("--max-seconds", default="5")
    args = ap.parse_args()
    gradus = build()
    print("| workload | threads | PyTorch ms | gradus ms | ratio | loss agrees | PyTorch MiB | gradus MiB |")
    print("|---|---:|---:|---:|---:|---|---:|---:|")
    for w in args.workloads.split(","):
        for t in args.threads.split(","):
            flags = ["--workload", w, "--threads", t, "--max-seconds", args.max_seconds]
            best = {}
            for _ in range(args.rounds):
                for side, command in (("p", [sys.executable, str(HERE / "pytorch_bench.py")]), ("g", [gradus])):
                    for name, r in run(command + flags).items():
                        old = best.setdefault(name, {}).get(side)
                        if old is None or r["median_ms"] < old["median_ms"]:
                            best[name][side] = r
            for name, sides in best.items():
                if len(sides) < 2:
                    continue
                p, g = sides["p"], sides["g"]
                key = "loss_first" if p.get("loss_first") is not None else "check_sum"
                agree = "-" if p.get(key) is None else "yes" if abs(p[key] - g[key]) <= 1e-4 * max(1, abs(p[key])) else "NO"
                print(f"| {name} | {t} | {p['median_ms']:.4g} | {g['median_ms']:.4g} | {g['median_ms'] / p['median_ms']:.3f} "
                      f"| {agree} | {p['peak_rss_mb']:.0f} | {g['peak_rss_mb']:.1f} |", flush=True)
                if p["cpu_share"] < 0.9 * min(1, int(t)):
                    print(f"(busy machine: PyTorch had {p['cpu_share']} of a core)", file=sys.stderr)


if __name__ == "__main__":
    main()

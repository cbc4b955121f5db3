#!/usr/bin/env python3
"""Runs the peer workloads in PyTorch and in gradus in turn, pair by pair, and prints the ratios.

    pip install torch numpy
    python benches/peers/compare.py                          # from the repository's root
    python benches/peers/compare.py --workloads cnn_mnist_b32,ops --threads 1 --rounds 3
    python benches/peers/compare.py --variants eager         # PyTorch as installed, nothing else

PyTorch runs in every way that may make it faster: eager, compiled, with its fused optimizer, with images in channels-last memory, and each of
these with glibc told to keep its memory. A round runs each of them once with gradus after each. A figure is the median over the rounds of the median
step, in milliseconds; PyTorch's is that of its best variant, which is named. A ratio below 1 means that gradus is faster.

The machine should be quiet: a step that had less than nine tenths of a core is reported.
"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
TRAINING = ["linreg", "mlp_mnist", "cnn_mnist_b32", "cnn_mnist_b128", "lstm_char", "gpt_char", "mha_block", "resnet_cifar"]
INFERENCE = ["infer_cnn_b1", "infer_gpt2_small", "infer_resnet50_b1", "infer_bert_base_s128_b1"]
IMAGES = {"cnn_mnist_b32", "cnn_mnist_b128", "resnet_cifar", "infer_cnn_b1", "infer_resnet50_b1"}
FLAGS = {"eager": [], "compile": ["--compile"], "fused": ["--fused"], "channels-last": ["--channels-last"]}
KEEP = {"MALLOC_MMAP_THRESHOLD_": "1073741824", "MALLOC_TRIM_THRESHOLD_": "1073741824"}


def applies(variant, workload):
    """Whether a variant changes anything for a workload."""
    return {
        "eager": True,
        "compile": workload not in ("ops", "infer_gpt2_small"),
        "fused": workload in TRAINING,
        "channels-last": workload in IMAGES,
    }[variant]


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


def run(command, environment=None):
    """The results of one process by workload; nothing if it failed, which is said."""
    with tempfile.TemporaryDirectory() as d:
        path = os.path.join(d, "out.jsonl")
        done = subprocess.run(command + ["--json", path], env={**os.environ, **(environment or {})},
                              stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        if done.returncode != 0:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            print(f"(failed: {' '.join(command[1:])}: {last})", file=sys.stderr)
            return {}
        with open(path) as f:
            return {r["workload"]: r for r in map(json.loads, f)}


def agrees(p, g):
    key = "loss_first" if p.get("loss_first") is not None else "check_abs"
    if p.get(key) is None:
        return "-"
    return "yes" if abs(p[key] - g[key]) <= 1e-4 * max(1, abs(p[key])) else "NO"


def measure(workload, threads, variants, args, gradus):
    """All results by name of the workload (or operator) and by who gave them."""
    flags = ["--workload", workload, "--threads", threads, "--max-seconds", args.max_seconds]
    if args.only and workload == "ops":
        flags += ["--only", args.only]
    found = {}
    for _ in range(args.rounds):
        for variant, environment in variants:
            command = [sys.executable, str(HERE / "pytorch_bench.py")] + flags + FLAGS[variant]
            label = variant + (" keep" if environment else "")
            for who, results in ((label, run(command, environment)), ("gradus", run([gradus] + flags))):
                for name, r in results.items():
                    # The suite of operators holds PyTorch's fused Adam under a name of its own.
                    if name == "ops/adam_10m_fused":
                        name, who = "ops/adam_10m", who + " fused"
                    found.setdefault(name, {}).setdefault(who, []).append(r)
                    # The clock of CPU time is too coarse for the shortest runs.
                    if r["cpu_share"] < 0.9 and r["steps"] * r["median_ms"] > 200:
                        print(f"(busy machine: {name} by {who} had {r['cpu_share']} of a core)", file=sys.stderr)
    return found


def main():
    ap = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ap.add_argument("--workloads", default=",".join(TRAINING + INFERENCE + ["ops"]))
    ap.add_argument("--variants", default=",".join(FLAGS), help="of PyTorch: " + ", ".join(FLAGS))
    ap.add_argument("--keep", default="0,1", help="1: glibc keeps its memory, 0: as installed")
    ap.add_argument("--only", help="ops: comma-separated parts of operator names")
    ap.add_argument("--threads", default="1,2")
    ap.add_argument("--rounds", type=int, default=3)
    ap.add_argument("--max-seconds", default="5")
    args = ap.parse_args()
    gradus = build()
    print("| workload | threads | PyTorch ms | its best variant | gradus ms | ratio | result agrees | PyTorch MiB | gradus MiB |")
    print("|---|---:|---:|---|---:|---:|---|---:|---:|")
    for w in args.workloads.split(","):
        variants = [(v, KEEP if k == "1" else None)
                    for v in args.variants.split(",") if applies(v, w) for k in args.keep.split(",")]
        for t in args.threads.split(","):
            for name, sides in measure(w, t, variants, args, gradus).items():
                ours = sides.pop("gradus", None)
                if not ours or not sides:
                    continue
                middle = lambda results: statistics.median(r["median_ms"] for r in results)
                best = min(sides, key=lambda who: middle(sides[who]))
                p, g = sides[best], ours
                print(f"| {name} | {t} | {middle(p):.4g} | {best} | {middle(g):.4g} | {middle(g) / middle(p):.3f} "
                      f"| {agrees(p[0], g[0])} | {p[0]['peak_rss_mb']:.0f} | {g[0]['peak_rss_mb']:.1f} |", flush=True)


if __name__ == "__main__":
    main()

"""On what training speed is compared: one set of numbers for every contender, which knows nothing of the others."""

import argparse
import json
import sys
import time

TASKS = {
    "grid8": {"dimensions": 2, "side": 8},
    "grid16": {"dimensions": 4, "side": 16},
    "sets": {"elements": 32, "size": 16},  # log R additive, standard normal
}
BATCHES = (16, 128)  # torchgfn's default, and the paper's
REWARD = {"R0": 0.1, "R1": 0.5, "R2": 2.0}  # of the hypergrids
HIDDEN, LAYERS = 64, 2  # LeakyReLU, slope 0.01
LR, LOG_Z_LR = 1e-3, 0.1
WARM_UP = 20  # iterations, untimed


def serve(contender):
    """Measure on demand: for each line "seed iterations seconds" of standard input, one JSON line on standard output.

    contender(task, batch) → (begin, about). begin(seed) → (run, state) makes a new model; run(iterations) trains it
    and returns when that is done; state() → {"log_z", "mean_length"}: what it has learned, and how long the last
    batch's trajectories are, with *stop*. about: whatever should stand beside the numbers.

    New models are trained, each for ``iterations`` after a warm-up, until ``seconds`` have been timed: trajectories
    get longer while a model learns, so that all contenders must be timed over the same part of the training.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("batch", type=int)
    options = parser.parse_args()
    begin, about = contender(options.task, options.batch)
    for line in sys.stdin:
        seed, iterations, atleast = line.split()
        found = measure(begin, int(seed), int(iterations), float(atleast))
        found = {"task": options.task, "batch": options.batch, "seed": int(seed), **found, **about}
        print(json.dumps(found), flush=True)


def measure(begin, seed, iterations, atleast):
    seconds, cpu, models = 0.0, 0.0, 0
    while seconds < atleast or not models:
        run, state = begin(seed + 1000 * models)
        run(WARM_UP)
        started, cpu_started = time.perf_counter(), time.process_time()
        run(iterations)
        seconds += time.perf_counter() - started
        cpu += time.process_time() - cpu_started  # hardly changed by what else the machine does
        models += 1
    total = models * iterations
    return {
        "iterations": total,
        "models": models,
        "seconds": seconds,
        "per_second": total / seconds,
        "per_cpu_second": total / cpu,
        **state(),
    }

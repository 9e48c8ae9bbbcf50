"""What exact trajectory-balance consistency costs beyond its bare network evaluations, and whether its memory
grows with T.

    python benchmarks/tbc_cost.py [--rounds 5]

tbc:   ``sample_chain`` and the two-pass ``chain_backward``, without the likelihood term.
bare:  the same network on the same states in the same chunks: all without a gradient, then all with one.

Time: tbc and bare by turns, ratio of medians. Memory: in a fresh process each, above a baseline with
libraries and network loaded and a small batch gone through, in three ways:

torch            torch's own allocations in one gradient (on a GPU, torch.cuda.max_memory_allocated; it alone)
resident         the resident set's high-water mark after *equal numbers of network evaluations*, 20 gradients
                 at T=50 for one at T=1000: the heap of glibc fragments with the number of calls,
                 of bare evaluations too, until it settles ("first_gradient": before it has)
resident, exact  the same in one gradient each, with a heap that returns every large block at once

Writes benchmarks/results/tbc_cost.json.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from counts import settings_of
from machine import finish, interleaved, provenance, ratio

SEED = 0
WEIGHT = 0.001
# name: (image shape, U-Net channels, T, images, M, chunk). A chunk holds less than the shortest chain, or one pass
# would do. The second network is of cifar10_cpu's kind.
TIMED = {
    "digits T=50": ((1, 8, 8), None, 50, 4, 2, 256),
    "digits T=200": ((1, 8, 8), None, 200, 4, 2, 256),
    "64,128 channels at 32x32, T=6": ((3, 32, 32), [64, 128], 6, 1, 2, 8),
}
REMEMBERED = {
    "digits": ((1, 8, 8), None, (50, 1000), 2, 2, 128, ("torch", "resident", "resident, exact")),
    "64,128 channels at 32x32": ((3, 32, 32), [64, 128], (10, 50), 1, 2, 8, ("torch",)),
}


class Case:
    """A U-Net with random weights, a chain of T steps, and the two ways through it."""

    def __init__(self, shape, channels, timesteps, images, trajectories, chunk, device):
        import torch

        from mlegfn.diffusion.model import DenoisingModel
        from mlegfn.diffusion.process import GaussianDiffusion
        from mlegfn.diffusion.schedules import betas
        from mlegfn.diffusion.variances import fixed_log_variance
        from mlegfn.networks.unet import build_unet, eps_network
        from mlegfn.randomness import generator
        from reproduction.params import load

        scale = load().images["digits"]
        unet = scale.network.model_dump() | ({"block_out_channels": channels} if channels else {})
        torch.manual_seed(SEED)
        self.network = build_unet(shape[0], shape[1], **unet).to(device).train()
        process = GaussianDiffusion(betas(timesteps, "linear", 0.1 / timesteps, min(0.5, 20 / timesteps)))
        self.model = DenoisingModel(
            eps_network(self.network), process, fixed_log_variance(process, "small"), levels=17
        )
        draw = generator(SEED, "images")
        self.x0 = (torch.randint(0, 17, (images, *shape), generator=draw) / 8.0 - 1).to(device)
        self.settings = settings_of(scale, "simple_tbc").consistency.model_copy(
            update={
                "images": images,
                "trajectories": trajectories,
                "chunk": chunk,
                "gradient": "exact",
                "chain": "full",
            }
        )
        self.chunks = None

    def tbc(self):
        """One gradient, chain and all."""
        from mlegfn.randomness import generator
        from mlegfn.training.chains import sample_chain
        from mlegfn.training.mle_gfn import Evaluations, chain_backward

        self.network.zero_grad()
        draw, spent = generator(SEED, "chain"), Evaluations()
        chain = sample_chain(self.model, self.x0, self.settings, draw)
        chain_backward(chain, self.settings, WEIGHT, spent, draw)
        assert (spent.forward, spent.backward) == (2 * chain.count, chain.count)

    def bare(self):
        """Its network evaluations alone; the states are made on the first call."""
        import torch

        if self.chunks is None:
            from mlegfn.randomness import generator
            from mlegfn.training.chains import sample_chain

            chain = sample_chain(self.model, self.x0, self.settings, generator(SEED, "chain"))
            rows = torch.arange(chain.count).split(self.settings.chunk)
            self.chunks = [chain.rows(part)[2:] for part in rows]
        self.network.zero_grad()
        with torch.no_grad():
            for x_t, t in self.chunks:
                self.network(x_t, t - 1, return_dict=False)
        for x_t, t in self.chunks:
            self.network(x_t, t - 1, return_dict=False)[0].sum().backward()

    def warm_up(self):
        """Have libraries make their buffers, on two states."""
        import torch

        x, t = self.x0[:1].repeat(2, 1, 1, 1), torch.zeros(2, dtype=torch.long, device=self.x0.device)
        for _ in range(2):
            self.network(x, t, return_dict=False)[0].sum().backward()


def resident(name):
    """VmRSS or VmHWM of this process in bytes, from Linux's /proc."""
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in status if line.startswith(name))


def memory(arguments):
    """In a fresh process: peak bytes of so many gradients of a case, above the baseline."""
    import torch

    torch.set_num_threads(1)
    *case, by, gradients = arguments
    device = "cuda" if torch.cuda.is_available() else "cpu"
    case = Case(*case, device)
    case.warm_up()
    if device == "cuda":
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        case.tbc()
        return torch.cuda.max_memory_allocated() - before
    if by == "torch":
        activities = [torch.profiler.ProfilerActivity.CPU]
        with torch.profiler.profile(activities=activities, profile_memory=True) as profile:
            case.tbc()
        now = peak = 0
        for event in sorted(profile.profiler.kineto_results.events(), key=lambda event: event.start_ns()):
            now += event.nbytes() if event.name() == "[memory]" else 0
            peak = max(peak, now)
        return peak
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # forgets the high-water mark
    for _ in range(gradients):
        case.tbc()
    return resident("VmHWM") - before


def in_fresh_process(*arguments):
    """``memory`` in a process of its own."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    if "resident, exact" in arguments:
        environment["MALLOC_MMAP_THRESHOLD_"] = "131072"  # glibc's default; set, it does not rise any more
    command = [sys.executable, __file__, "--memory", json.dumps(arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def times(rounds, device, synchronize):
    """{case: samples, rows and ratios}."""
    measured = {}
    for name, arguments in TIMED.items():
        case = Case(*arguments, device)
        found = interleaved({"tbc": case.tbc, "bare": case.bare}, rounds, synchronize)
        _, _, timesteps, images, trajectories, chunk = arguments
        measured[name] = {
            "seconds": found,
            "rows": timesteps * images * trajectories,
            "chunk": chunk,
            "ratio": {clock: ratio(found, "tbc", "bare", clock) for clock in ("wall", "cpu")},
        }
    return measured


def memories(device):
    """{case: {way: peak bytes at both T, and their ratio}}."""
    measured = {}
    for name, (shape, channels, (short, long), *rest, ways) in REMEMBERED.items():
        measured[name] = {}
        for by in ways:
            if by != "torch" and (device == "cuda" or not Path("/proc/self/clear_refs").exists()):
                continue
            repeats = long // short if by == "resident" else 1
            low = in_fresh_process(shape, channels, short, *rest, by, repeats)
            high = in_fresh_process(shape, channels, long, *rest, by, 1)
            measured[name][by] = {
                "bytes": {f"T={short}": low, f"T={long}": high},
                "gradients": {f"T={short}": repeats, f"T={long}": 1},
                "ratio": high / low,
            }
            if repeats > 1:
                first = in_fresh_process(shape, channels, short, *rest, by, 1)
                measured[name][by]["first_gradient"] = {"bytes": first, "ratio": high / first}
    return measured


def main():
    arguments = argparse.ArgumentParser(description=" ".join(__doc__.split("\n\n")[0].split()))
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--memory", help=argparse.SUPPRESS)
    options = arguments.parse_args()
    if options.memory:
        print(json.dumps(memory(json.loads(options.memory))))
        return 0
    started, where = time.perf_counter(), provenance()

    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    timed = times(options.rounds, device, torch.cuda.synchronize if device == "cuda" else lambda: None)
    remembered = memories(device)
    bars = {
        f"time of tbc over bare, {name}": (case["ratio"]["wall"], "<=", 1.25) for name, case in timed.items()
    }
    for name, case in remembered.items():
        short, long = REMEMBERED[name][2]
        for by, peaks in case.items():
            bars[f"peak memory at T={long} over T={short}, {name}, {by}"] = (peaks["ratio"], "<=", 1.2)
    return finish(
        "tbc_cost",
        where,
        started,
        bars,
        seed=SEED,
        rounds=options.rounds,
        device=device,
        time=timed,
        memory=remembered,
    )


if __name__ == "__main__":
    sys.exit(main())

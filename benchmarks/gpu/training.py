"""A training step of DDPM's 35.7 M U-Net: our settings of precision and compilation against the plain diffusers loop.

    python benchmarks/gpu/training.py [--minutes 6] [--rounds 7] [--steps 20] [--batch 128] [--tiny]

Contestants are processes that take turns (workers.py): the stock loop of loops.py as it comes, in bf16, compiled
whole, and both; ours at each setting of `compute` worth comparing, the one of params.yaml's scale cifar10 first.
Images/s are batch over the median of blocks of steps; peak memory is each process's own (on a GPU torch's,
on a CPU the resident set's high-water mark). Then, for ours at params.yaml's setting: utilisation, counted FLOPs
over the device's peak, where the time goes (torch.profiler), and, for each setting of `compute`, loss and
gradient of one batch against fp32 on the CPU. What does not fit into --minutes is left out and named.
Writes <results>/gpu-training.json, or cpu-training.json where there is no GPU.
"""

import argparse
import contextlib
import io
import json
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from budget import H100_PEAK
from loops import SEED, ours, stock
from machine import finish, provenance
from network_cost import flops
from setting import DEVICE, SHAPE, images_of, scale_of, synchronize
from workers import Worker, ready, serve

AS_IT_COMES = {"precision": "fp32", "channels_last": False, "compile": "none", "cuda_graphs": False}


def contestants(compute, on_gpu, tiny):
    """{name: what it is}, the most wanted first. ``compute``: that block of params.yaml."""

    def ours_with(**changes):
        return {"loop": "ours", "compute": {**AS_IT_COMES, **changes}}

    whole = {"precision": "bf16", "channels_last": True}
    found = {
        "ours": {
            "loop": "ours",
            "compute": {key: getattr(compute, key) for key in AS_IT_COMES},
        },
        "stock": {"loop": "stock"},
        "stock bf16 compiled": {"loop": "stock", "bf16": True, "compiled": True},
        "ours fp32": ours_with(),
        "ours bf16": ours_with(precision="bf16"),
        "ours bf16 channels_last": ours_with(**whole),
        "stock bf16": {"loop": "stock", "bf16": True},
        "ours bf16 channels_last full": ours_with(**whole, compile="full"),
        "ours bf16 channels_last full graphs": ours_with(**whole, compile="full", cuda_graphs=True),
        "ours bf16 regional": ours_with(precision="bf16", compile="regional"),
        "ours bf16 channels_last regional graphs": ours_with(**whole, compile="regional", cuda_graphs=True),
        "stock compiled": {"loop": "stock", "compiled": True},
        "stock tf32": {"loop": "stock", "tf32": True},
        "ours tf32 channels_last": ours_with(precision="tf32", channels_last=True),
    }
    if on_gpu:
        return found
    # A CPU has neither tf32 nor graphs, and ours does not compile there.
    names = ["stock", "ours fp32", "ours bf16", "ours bf16 channels_last"]
    return {name: found[name] for name in (names[:3] if tiny else names)}


class Contestant:
    """Lives in a worker: one training loop on this process's device."""

    def __init__(self, spec, options):
        import torch

        self.torch, self.spec, self.options = torch, spec, options
        self.scale = scale_of(options["tiny"], options["batch"], spec.get("compute"))

    def network(self):
        import torch
        from network_cost import unet_of

        from mlegfn.training.compute import place

        torch.manual_seed(SEED)
        # torch's initial weights: DDPM's are zero in places, and zeros are quicker to multiply on some chips.
        network = unet_of(self.scale, SHAPE, "cpu").train()
        if self.spec["loop"] == "stock":
            return network.to(DEVICE)
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            placed = place(network, self.scale.compute, DEVICE)
        print(said.getvalue(), end="", file=sys.stderr)
        asked = DEVICE == "cuda" and self.scale.compute.compile != "none"
        self.compiled = asked and "torch.compile failed" not in said.getvalue()
        return placed

    def build(self):
        """Make the loop and run it until it is warm: seconds that took, and whether the compiler did its work."""
        from mlegfn.data import scale_to_unit
        from mlegfn.data.resident import Resident
        from mlegfn.training.checkpoint import model_of, process_of
        from mlegfn.training.device import device_of

        started = time.perf_counter()
        levels = images_of(4 * self.options["batch"])
        if self.spec["loop"] == "ours":
            device_of(self.scale)
            images, network = Resident(levels, 256, DEVICE), self.network()
            self.advance = ours(self.scale, images, network, lambda net: model_of(net, self.scale, 256))
            compiled = self.compiled
        else:
            compiled = self.spec.get("compiled", False)
            if self.spec.get("tf32"):
                self.torch.set_float32_matmul_precision("high")
            self.advance = stock(
                self.scale,
                scale_to_unit(levels, 256),
                self.network(),
                process_of(self.scale.diffusion),
                bf16=self.spec.get("bf16", False),
                compiled=compiled,
            )
        self.advance(self.options["warm"])
        self._rest()
        return {"seconds": time.perf_counter() - started, "compiled": compiled}

    def block(self, steps):
        """Seconds of so many steps, by the wall's clock and of this process on the CPU.

        A GPU's cache was handed back after the last block: one step first."""
        if DEVICE == "cuda":
            self.advance(1)
        synchronize()
        started, used = time.perf_counter(), time.process_time()
        self.advance(steps)
        synchronize()
        seconds = {"wall": time.perf_counter() - started, "cpu": time.process_time() - used}
        self._rest()
        return seconds

    def _rest(self):
        """Leave the GPU's memory to the others."""
        if DEVICE == "cuda":
            synchronize()
            self.torch.cuda.empty_cache()

    def memory(self):
        """Peak bytes: of a GPU torch's own allocations and reservations, of a CPU the process's resident set."""
        if DEVICE == "cuda":
            cuda = self.torch.cuda
            return {"allocated": cuda.max_memory_allocated(), "reserved": cuda.max_memory_reserved()}
        status = Path("/proc/self/status").read_text().splitlines()
        return {"resident": next(int(row.split()[1]) * 1024 for row in status if row.startswith("VmHWM"))}

    def profile(self, steps):
        """Where the time of some steps goes: kernels by their time, and how much of the time any of them ran."""
        profiler = self.torch.profiler
        kinds = [profiler.ProfilerActivity.CPU]
        kinds += [profiler.ProfilerActivity.CUDA] if DEVICE == "cuda" else []
        self.advance(2)
        synchronize()
        with profiler.profile(activities=kinds) as recorded:
            started = time.perf_counter()
            self.advance(steps)
            synchronize()
            wall = time.perf_counter() - started
        clock = "self_device_time_total" if DEVICE == "cuda" else "self_cpu_time_total"
        rows = sorted(recorded.key_averages(), key=lambda row: -getattr(row, clock))
        total = sum(getattr(row, clock) for row in rows)
        spans = sorted(
            (event.start_ns(), event.start_ns() + event.duration_ns())
            for event in recorded.profiler.kineto_results.events()
            if event.device_type() == self.torch.autograd.DeviceType.CUDA
        )
        return {
            "wall_seconds": wall,
            "steps": steps,
            "device_busy": union(spans) / 1e9 / wall if spans else None,
            "kernels": [
                {"name": row.key[:120], "calls": row.count, "share": getattr(row, clock) / total}
                for row in rows[:15]
            ],
        }

    def numerics(self, path, batch):
        """Loss of one batch without dropout; its gradient goes to the safetensors file ``path``."""
        import torch
        from network_cost import unet_of
        from safetensors.torch import save_file

        from mlegfn.data import scale_to_unit
        from mlegfn.randomness import generator
        from mlegfn.training.checkpoint import model_of
        from mlegfn.training.compute import place
        from mlegfn.training.mle_gfn import anchor_loss

        device = "cpu" if self.spec.get("reference") else DEVICE
        without = self.scale.network.model_copy(update={"dropout": 0.0})
        scale = self.scale.model_copy(update={"network": without})
        torch.manual_seed(SEED)
        network = place(unet_of(scale, SHAPE, "cpu"), scale.compute, device).train()
        model = model_of(network, scale, 256)
        x0 = scale_to_unit(images_of(batch), 256)
        t = torch.linspace(1, model.timesteps, batch).round().long()
        eps = torch.randn(x0.shape, generator=generator(SEED, "numerics"))
        x0, t, eps = (tensor.to(device) for tensor in (x0, t, eps))
        x_t = model.process.noise(x0, t, eps)
        loss = anchor_loss(model, x0, x_t, t, model.predict(x_t, t), "simple").mean()
        loss.backward()
        save_file(
            {name: p.grad.detach().float().cpu().contiguous() for name, p in network.named_parameters()},
            path,
        )
        return loss.item()


def union(spans):
    """Length of the union of sorted intervals."""
    total, reached = 0, float("-inf")
    for start, end in spans:
        total += max(0, end - max(start, reached))
        reached = max(reached, end)
    return total


def work(spec):
    """Be a worker."""
    one = Contestant(spec, spec["options"])
    serve(
        {name: getattr(one, name) for name in ("build", "block", "memory", "profile", "numerics")},
    )


def start(name, spec, options, folder):
    """A Worker for a contestant; its standard error goes to ``folder``."""
    spec = json.dumps({**spec, "options": options})
    log = Path(folder) / f"{name.replace(' ', '-')}.log"
    return Worker(name, [sys.executable, __file__, "--worker", spec], log)


def time_by_turns(workers, rounds, steps, until):
    """{name: seconds of each block, by both clocks}; rounds go forwards and backwards, and end with the time."""
    found = {worker.name: [] for worker in workers}
    for turn in range(rounds):
        if turn >= 1 and time.monotonic() > until:
            break
        for worker in workers[:: 1 if turn % 2 == 0 else -1]:
            seconds = worker.ask({"do": "block", "steps": steps}, 300)
            if seconds is not None:
                found[worker.name].append(seconds)
    return found


def matmul_peak():
    """Measured bf16 FLOP/s of one large matrix product on random data, and bytes/s of a large copy (both ways)."""
    import torch

    if DEVICE != "cuda":
        return None
    a, b = (torch.randn(8192, 8192, device=DEVICE, dtype=torch.bfloat16) for _ in range(2))
    block = torch.empty(2**30, device=DEVICE, dtype=torch.uint8)

    def seconds(action):
        times = []
        for _ in range(13):
            first, last = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            first.record()
            action()
            last.record()
            torch.cuda.synchronize()
            times.append(first.elapsed_time(last) / 1000)
        return median(times[3:])

    return {
        "bf16_matmul_flops_per_second": 2 * 8192**3 / seconds(lambda: a @ b),
        "copy_bytes_per_second": 2 * 2**30 / seconds(block.clone),
    }


def compare(specs, options, until, batch):
    """{name: loss and gradient of one batch against fp32 on the CPU} for our settings of `compute`."""
    from safetensors.torch import load_file

    specs = {name: spec for name, spec in specs.items() if spec["loop"] == "ours"}
    reference = {"loop": "ours", "compute": AS_IT_COMES, "reference": True}
    with tempfile.TemporaryDirectory(prefix="gradients-") as folder:
        workers, losses = {}, {}
        pairs = list({"reference": reference, **specs}.items())
        at_once = 3 if DEVICE == "cuda" else 1
        for first in range(0, len(pairs), at_once):
            group = [start(name, spec, options, folder) for name, spec in pairs[first : first + at_once]]
            workers.update({worker.name: worker for worker in group})
            losses.update(
                ready(
                    group,
                    lambda worker: {
                        "do": "numerics",
                        "path": str(Path(folder) / f"{worker.name}.safetensors"),
                        "batch": batch,
                    },
                    until,
                    at_once,
                )
            )
            for worker in group:
                worker.close()
        if "reference" not in losses:
            return {"failed": workers["reference"].failure}
        exact = load_file(Path(folder) / "reference.safetensors")
        norm = sum(g.double().pow(2).sum() for g in exact.values()) ** 0.5
        found = {"batch": batch, "loss fp32 on the CPU": losses["reference"]}
        for name in specs:
            if name not in losses:
                found[name] = {"failed": workers[name].failure}
                continue
            other = load_file(Path(folder) / f"{name}.safetensors")
            error = sum((other[n].double() - g.double()).pow(2).sum() for n, g in exact.items()) ** 0.5
            found[name] = {
                "loss": losses[name],
                "loss_relative_error": abs(losses[name] / losses["reference"] - 1),
                "gradient_relative_error": (error / norm).item(),
            }
    return found


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--worker", help=argparse.SUPPRESS)
    arguments.add_argument("--minutes", type=float, default=6.0)
    arguments.add_argument("--rounds", type=int, default=7)
    arguments.add_argument("--steps", type=int, default=20)
    arguments.add_argument("--batch", type=int, default=128)
    arguments.add_argument("--tiny", action="store_true", help="a tiny network: try the code out")
    arguments.add_argument("--results", help="folder; benchmarks/results if not given")
    options = arguments.parse_args()
    if options.worker:
        return work(json.loads(options.worker))
    started, where = time.perf_counter(), provenance()
    until = time.monotonic() + 60 * options.minutes
    on_gpu = DEVICE == "cuda"
    scale = scale_of(options.tiny, options.batch)
    specs = contestants(scale.compute, on_gpu, options.tiny)
    passed = {"tiny": options.tiny, "batch": options.batch, "warm": 5 if on_gpu else 1}

    with tempfile.TemporaryDirectory(prefix="contestants-") as folder:
        # Compilers work on the CPU's cores: three at a time, while the clock of nobody runs.
        workers = [start(name, spec, passed, folder) for name, spec in specs.items()]
        soon = time.monotonic() + 0.55 * 60 * options.minutes
        warm = ready(workers, lambda _: {"do": "build"}, soon, at_once=3 if on_gpu else 1)
        racing = [worker for worker in workers if worker.name in warm]
        blocks = time_by_turns(
            racing, options.rounds, options.steps, time.monotonic() + 0.5 * (until - time.monotonic())
        )
        memory = {worker.name: worker.ask({"do": "memory"}, 30) for worker in racing}
        shown = "ours" if "ours" in blocks else "ours bf16"
        profiles = {
            worker.name: worker.ask({"do": "profile", "steps": 3 if on_gpu else 1}, 90)
            for worker in racing
            if worker.name in (shown, "stock")
        }
        failures = {worker.name: worker.failure for worker in workers if worker.failure}
        for worker in workers:
            worker.close()
    peak = matmul_peak()
    numerics = compare(specs, passed, until + 60, batch=2 if options.tiny or not on_gpu else 8)

    blocks = {name: seconds for name, seconds in blocks.items() if seconds and name not in failures}
    # On a CPU that others use too, one thread's own seconds are what repeats.
    clock = "wall" if on_gpu else "cpu"
    speed = {
        name: options.batch * options.steps / median(block[clock] for block in seconds)
        for name, seconds in blocks.items()
    }
    counted = flops(scale, SHAPE)
    used = {name: rate * counted["forward_backward"] for name, rate in speed.items()}
    bars = {}
    if shown in speed and "stock" in speed:
        bars[f"images/s of {shown} over stock"] = (speed[shown] / speed["stock"], ">=", 1.5)
    if shown in speed and "stock bf16 compiled" in speed:
        ratio = speed[shown] / speed["stock bf16 compiled"]
        bars[f"images/s of {shown} over stock bf16 compiled"] = (ratio, ">=", 1.15)
    for name, rate in sorted(speed.items(), key=lambda item: -item[1]):
        gib = max(memory[name].values()) / 2**30 if memory.get(name) else float("nan")
        print(f"{name:<42}{rate:>10.2f} images/s{gib:>8.1f} GiB")
    for name, why in failures.items():
        print(f"{name:<42} not measured: {why}")
    code = finish(
        "gpu-training" if on_gpu else "cpu-training",
        where,
        started,
        bars,
        results=options.results,
        tiny=options.tiny,
        batch=options.batch,
        steps_per_block=options.steps,
        clock=clock,
        contestants={
            name: {
                **specs[name],
                "images_per_second": speed.get(name),
                "seconds_of_blocks": blocks.get(name, []),
                "until_warm": warm.get(name),
                "peak_bytes": memory.get(name),
                "not_measured": failures.get(name),
            }
            for name in specs
        },
        flops=counted,
        peak={"data_sheet_bf16_flops_per_second": H100_PEAK, "measured": peak} if on_gpu else None,
        utilisation={
            name: {"of_data_sheet": f / H100_PEAK, "of_measured": f / peak["bf16_matmul_flops_per_second"]}
            for name, f in used.items()
        }
        if on_gpu
        else None,
        profile=profiles,
        numerics=numerics,
        rates={"training": speed.get(shown)},
    )
    return 0 if options.tiny else code


if __name__ == "__main__":
    sys.exit(main())

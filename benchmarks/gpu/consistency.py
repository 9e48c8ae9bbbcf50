"""Exact trajectory-balance consistency of DDPM's 35.7 M U-Net at T = 1000: its time and its memory.

    python benchmarks/gpu/consistency.py [--minutes 3] [--tiny]

Time: one gradient (chain, pass 1, pass 2: ``chain_backward``) against the same states in the same chunks
through the bare network in the same precision, by turns; the chain is respaced so that a few gradients fit
into the time: what is compared is the cost of everything beside the network, which is a state's.
Memory on a GPU: peak of one exact gradient at T = 1000 at params.yaml's chunk, at half of it, …, and on top
of weights, gradients, Adam and EMA. On a CPU it is *estimated* from what autograd keeps for a state
(network_cost.saved_bytes), with GroupNorm in fp32 as CUDA's autocast has it.
Writes <results>/gpu-consistency.json, or cpu-consistency.json where there is no GPU.
"""

import argparse
import contextlib
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from counts import settings_of
from loops import SEED
from machine import finish, interleaved, provenance, ratio
from network_cost import saved_bytes, unet_of
from setting import DEVICE, SHAPE, images_of, scale_of, synchronize

GIB = 2**30


class Case:
    """A network in training and an exact chain of ``steps`` steps in chunks of ``chunk``."""

    def __init__(self, scale, steps, chunk):
        import torch

        from mlegfn.data import scale_to_unit
        from mlegfn.training.chains import chain_model
        from mlegfn.training.checkpoint import log_variance_of, model_of
        from mlegfn.training.compute import fast_network, place

        torch.manual_seed(SEED)
        self.network = place(unet_of(scale, SHAPE, "cpu"), scale.compute, DEVICE).train()
        self.function = fast_network(self.network, scale.compute)
        self.model = model_of(self.network, scale, 256)
        self.settings = settings_of(scale, "simple_tbc").consistency.model_copy(
            update={
                "gradient": "exact",
                "chain": "respaced",
                "chain_steps": steps,
                "chunk": chunk,
                "images": 1,
            }
        )
        self.chain_model = chain_model(
            self.model,
            self.settings,
            lambda process: log_variance_of(process, scale.diffusion.variance, None),
        )
        self.x0 = scale_to_unit(images_of(1), 256).to(DEVICE)
        self.chunks = None

    def chain(self):
        from mlegfn.randomness import generator
        from mlegfn.training.chains import sample_chain

        return sample_chain(self.chain_model, self.x0, self.settings, generator(SEED, "chain"))

    def tbc(self):
        """One gradient, chain and all."""
        from mlegfn.randomness import generator
        from mlegfn.training.mle_gfn import Evaluations, chain_backward

        self.network.zero_grad(set_to_none=True)
        chain, spent = self.chain(), Evaluations()
        chain_backward(chain, self.settings, 1e-4, spent, generator(SEED, "picks"))
        assert (spent.forward, spent.backward) == (2 * chain.count, chain.count)

    def bare(self):
        """Its network evaluations alone, in the same precision; the states are made on the first call."""
        import torch

        if self.chunks is None:
            chain = self.chain()
            rows = torch.arange(chain.count).split(self.settings.chunk)
            self.chunks = [chain.rows(part)[2:] for part in rows]
            self.chunks = [(x, self.chain_model.network_time(t)) for x, t in self.chunks]
        self.network.zero_grad(set_to_none=True)
        with torch.no_grad():
            for x, time_ in self.chunks:
                self.function(x, time_)
        for x, time_ in self.chunks:
            self.function(x, time_).sum().backward()


def state_bytes(network):
    """Weights, gradients, Adam's two moments and the EMA, all fp32."""
    return 5 * 4 * sum(p.numel() for p in network.parameters())


def measured_memory(scale, steps, chunks):
    """{chunk: peak bytes of one exact gradient at T = ``steps``}, training state included; None: no memory."""
    import torch

    from mlegfn.training.state import new_state

    found = {}
    for chunk in chunks:
        torch.cuda.empty_cache()
        try:
            case = Case(scale, steps, chunk)
            state = new_state(case.network, settings_of(scale, "simple_tbc").optimizer)
            torch.cuda.reset_peak_memory_stats()
            case.tbc()
            state.optimizer.step()
            state.ema.step(list(case.network.parameters()))
            synchronize()
            found[chunk] = {
                "allocated": torch.cuda.max_memory_allocated(),
                "reserved": torch.cuda.max_memory_reserved(),
            }
        except torch.OutOfMemoryError:
            found[chunk] = None
        case = state = None
    return found


@contextlib.contextmanager
def norms_in_fp32():
    """GroupNorm as CUDA's autocast computes it, in fp32; a CPU's autocast leaves it in bf16."""
    from torch.nn import functional

    plain = functional.group_norm

    def exact(x, groups, weight=None, bias=None, eps=1e-5):
        return plain(x.float(), groups, weight, bias, eps)

    functional.group_norm = exact
    try:
        yield
    finally:
        functional.group_norm = plain


def estimated_memory(scale, steps, chunks):
    """Peak bytes from what autograd keeps a state; and the largest chunk for 24 and for 12 GB. An estimate."""
    import torch

    network = unet_of(scale, SHAPE, "cpu").train()
    fixed = state_bytes(network)
    chain = 2 * (steps + 1) * 3 * 32 * 32 * 4
    found = {"training_state_bytes": fixed, "chain_bytes": chain, "precision": {}}
    for precision in ("fp32", "bf16"):
        bf16 = precision == "bf16"
        kept = []
        for batch in (3, 6):
            x = torch.randn(batch, *SHAPE)
            with norms_in_fp32() if bf16 else contextlib.nullcontext():
                kept.append(saved_bytes(network, x, torch.zeros(batch, dtype=torch.long), bf16))
        a_state = (kept[1]["activations"] - kept[0]["activations"]) / 3
        weights = kept[0]["weights"] if bf16 else 0  # the fp32 weights are counted above
        peaks = {chunk: fixed + chain + weights + chunk * a_state for chunk in chunks}
        found["precision"][precision] = {
            "bytes_a_state": a_state,
            "shared_bf16_weights": weights,
            "peak_bytes_at_chunk": peaks,
            "largest_chunk": {
                f"{room} GB": int((0.8 * room * 1e9 - fixed - chain - weights) / a_state) for room in (24, 12)
            },
        }
    return found


def main():
    arguments = argparse.ArgumentParser(description=" ".join(__doc__.split("\n\n")[0].split()))
    arguments.add_argument("--minutes", type=float, default=3.0)
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--chain-steps", type=int, help="of the timed chain")
    arguments.add_argument("--chunk", type=int, help="of the timed chain; params.yaml's if not given")
    arguments.add_argument("--tiny", action="store_true", help="a tiny network: try the code out")
    arguments.add_argument("--results", help="folder; benchmarks/results if not given")
    options = arguments.parse_args()
    started, where = time.perf_counter(), provenance()
    on_gpu = DEVICE == "cuda"
    clock = "wall" if on_gpu else "cpu"  # of a CPU that others use too, one thread's own seconds repeat
    # On a CPU in the precision that is fastest there; compiled code would make the two sides differ by warm-up.
    compute = {"compile": "none"} if on_gpu else {"compile": "none", "channels_last": False}
    scale = scale_of(options.tiny, compute=compute)
    own_chunk = scale.finetune.all.consistency.chunk
    chunk = options.chunk or (own_chunk if on_gpu else 4)
    T = scale.diffusion.timesteps
    steps = min(options.chain_steps or (500 if on_gpu else 4), T)

    case = Case(scale, steps, chunk)
    timed = interleaved({"tbc": case.tbc, "bare": case.bare}, options.rounds, synchronize)
    rows, case = 2 * steps, None
    chunks = [own_chunk // part for part in (1, 2, 4)]
    memory = {"estimated": estimated_memory(scale, T, chunks)}
    bars = {
        "time of an exact TBC step over its bare network evaluations": (
            ratio(timed, "tbc", "bare", clock),
            "<=",
            1.15,
        )
    }
    if on_gpu:
        memory["measured"] = measured_memory(scale, T, chunks)
        peak = memory["measured"][chunks[0]]
        bars[f"GB of exact TBC at T={T}, chunk {chunks[0]}"] = (
            peak["allocated"] / 1e9 if peak else 1e9,
            "<=",
            24.0,
        )
        for size, peak in memory["measured"].items():
            print(f"chunk {size}: " + (f"{peak['allocated'] / 1e9:.1f} GB" if peak else "out of memory"))
    else:
        estimate = memory["estimated"]["precision"]["bf16"]["peak_bytes_at_chunk"][chunks[0]]
        bars[f"GB of exact TBC at T={T}, chunk {chunks[0]}, estimated"] = (estimate / 1e9, "<=", 24.0)
    code = finish(
        "gpu-consistency" if on_gpu else "cpu-consistency",
        where,
        started,
        bars,
        results=options.results,
        tiny=options.tiny,
        time={
            "seconds": timed,
            "clock": clock,
            "rows": rows,
            "chunk": chunk,
            "precision": scale.compute.precision,
            "passes": 2 if rows > chunk else 1,
        },
        memory=memory,
    )
    return 0 if options.tiny else code


if __name__ == "__main__":
    sys.exit(main())

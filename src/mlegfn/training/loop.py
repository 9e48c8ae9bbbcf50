"""The training loop: it is given a function that accumulates a gradient."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import torch
from tqdm import tqdm

from mlegfn.errors import Interrupted
from mlegfn.training import distributed
from mlegfn.training.state import OptimizerSettings, TrainingState

__all__ = ["learning_rate", "train"]

Entry = dict[str, Any]  # what is logged of a step: numbers, or 0-d tensors that become some


class Saver(Protocol):
    """Keeps the state of a training that goes on."""

    def due(self) -> bool:
        """Whether it is time to save."""

    def save(self, state: TrainingState) -> None: ...


# Reading a number back makes the host wait for the GPU, so there it is done once in so many steps.
READ_EVERY = {"cpu": 1, "cuda": 100}


def learning_rate(settings: OptimizerSettings, step: int) -> float:
    """lr of 0-based ``step``: linear from 0 over ``warmup`` steps, then constant (DDPM's code)."""
    return settings.lr * min(1.0, step / settings.warmup) if settings.warmup else settings.lr


def train(
    state: TrainingState,
    accumulate: Callable[[int], Entry],
    settings: OptimizerSettings,
    stop: int,
    start: int = 0,
    after_step: Callable[[TrainingState, Entry], object] | None = None,
    description: str = "training",
    saver: Saver | None = None,
) -> TrainingState:
    """Advance ``state`` to step ``stop``; resuming is calling it again.

    accumulate(step) leaves a gradient in the network's parameters and returns a dict of numbers or 0-d
    tensors; it must draw everything from (seed, step). The warm-up of ``settings`` counts from step ``start``. after_step(state, entry) is called when a step is complete; on a GPU the entry's tensors
    are turned into numbers later, in place, all at once. ``saver`` is
    asked after each step, and made to save before the loop gives in to SIGTERM or Ctrl-C.
    Raises FloatingPointError when the gradient is not finite: nothing is written then.
    Raises Interrupted after SIGTERM, KeyboardInterrupt after Ctrl-C, once the state is saved.
    """
    state.network.train()
    parameters = list(state.network.parameters())  # walked once, not twice a step
    every, unread = READ_EVERY.get(parameters[0].device.type, 100), []
    bar = tqdm(
        range(state.step, stop),
        desc=description,
        unit="step",
        initial=state.step,
        total=stop,
        mininterval=1.0,
        disable=not distributed.is_first(),
    )
    with asked_to_stop(saver is not None) as asked:
        for step in bar:
            for group in state.optimizer.param_groups:
                group["lr"] = learning_rate(settings, step - start)
            state.optimizer.zero_grad(set_to_none=True)
            entry = {"step": step + 1, **accumulate(step)}
            distributed.sum_gradients(parameters)
            entry["grad_norm"] = torch.nn.utils.clip_grad_norm_(parameters, settings.clip)
            unread.append(entry)
            if every == 1:
                read(unread)  # before the update, so that the weights stay whole
            state.optimizer.step()
            state.ema.step(parameters)
            state.step = step + 1
            if every > 1 and (state.step % every == 0 or state.step == stop):
                read(unread)
            if not unread:
                bar.set_postfix(loss=f"{entry['loss']:.4f}", refresh=False)
            if after_step is not None:
                after_step(state, entry)
            if saver is None:
                continue
            signum, due = divmod(distributed.agree(2 * asked[0] + saver.due()), 2)
            if signum or due:
                read(unread)
                saver.save(state)
            if signum == signal.SIGINT:
                raise KeyboardInterrupt
            if signum:
                raise Interrupted(
                    f"asked to stop at step {state.step}; the state is saved, run again to go on"
                )
    return state


def read(entries: list[Entry]) -> None:
    """Turn the tensors of log entries into numbers, in place and in one transfer, and forget the entries.

    Raises FloatingPointError where a gradient norm is not finite.
    """
    tensors = [(e, key) for e in entries for key, value in e.items() if isinstance(value, torch.Tensor)]
    if tensors:
        values = torch.stack([e[key].detach().double() for e, key in tensors]).tolist()
        for (e, key), value in zip(tensors, values, strict=True):
            e[key] = value
    bad = [e for e in entries if not abs(e["grad_norm"]) < float("inf")]
    entries.clear()
    if bad:
        raise FloatingPointError(
            f"the gradient is not finite at step {bad[0]['step'] - 1}; lower the learning rate or λ"
        )


@contextlib.contextmanager
def asked_to_stop(wanted: bool) -> Iterator[list[int]]:
    """Yields [0], which becomes [signal] when SIGTERM or Ctrl-C arrives. A second Ctrl-C acts at once."""
    asked = [0]
    if not wanted or threading.current_thread() is not threading.main_thread():
        yield asked
        return

    def remember(signum: int, _: object) -> None:
        if signum == signal.SIGINT and asked[0] == signum:
            raise KeyboardInterrupt
        asked[0] = signum

    before = {signum: signal.signal(signum, remember) for signum in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield asked
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)

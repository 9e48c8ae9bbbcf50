"""`mlegfn reproduce`: run what is stale at a scale, with progress, then show what there is."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from mlegfn import config, graph
from mlegfn.errors import UserError
from mlegfn.pipeline import slots, view
from mlegfn.pipeline.failures import explain
from mlegfn.pipeline.interruption import asked_to_stop
from mlegfn.pipeline.one_run import only_one
from mlegfn.pipeline.progress import Progress
from mlegfn.pipeline.provenance import wall_times
from mlegfn.pipeline.ranks import wanted as rank_count
from mlegfn.pipeline.sweep import sweep

# A figure or table is called by its first of these.
SHOWN = (".png", ".csv", ".json", ".md")


def reproduce(scale_name, cores=None, allow_cpu=False, ranks=None):
    """Run the stale stages of ``scale_name`` on ``cores``, trainings as ``ranks`` processes; the exit code."""
    params = config.load()
    scale = params.scale(scale_name)
    ranks = rank_count(ranks)
    gpus = visible_gpus(scale, allow_cpu, ranks)
    with only_one("reproduce"):
        if graph.write(params):
            print(f"{graph.GRAPH}: brought up to date with params.yaml")
        from mlegfn.pipeline import engine, lockfile, mend
        from mlegfn.report import summary

        lockfile.read()
        pipeline = engine.ask_dvc(scale_name)
        sweep(scale_name, pipeline)
        if mend.before_running(pipeline):
            pipeline = engine.ask_dvc(scale_name)
        code = 0
        if pipeline.stale:
            with warm_server(surroundings(allow_cpu, ranks)) as environment:
                code = run(scale_name, pipeline, cores or available_cores(), gpus, environment)
        else:
            print(f"{scale_name}: nothing to do, all {len(pipeline.stages)} stages are as recorded.")
        lockfile.sort()  # with nothing to do, too: a run may have been killed after its last stage
        if code:
            return code
        summary.write()
    show(scale_name, pipeline)
    return 0


def visible_gpus(scale, allow_cpu, ranks=1):
    """How many GPUs Snakemake may hand out, None for no limit; fewer than ``ranks`` are a UserError.

    None at a scale that computes on the CPU, and where jobs share GPUs.
    """
    if scale.accelerator != "gpu" or allow_cpu:
        return None
    if "MLEGFN_GPUS" in os.environ:
        count = len(slots.devices())
    else:
        import torch  # which may lack CUDA where the driver has devices

        count = torch.cuda.device_count()
    if not count:
        raise UserError(
            "this scale needs a GPU and torch finds none; `mlegfn doctor` says why, --allow-cpu runs it on the CPU (days)"
        )
    if ranks > count:
        raise UserError(
            f"RANKS={ranks}: only {count} GPU(s) are visible; lower it, or see CUDA_VISIBLE_DEVICES"
        )
    return None if slots.shared() else count


def available_cores():
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def surroundings(allow_cpu, ranks=1):
    """The environment of Snakemake and of every stage."""
    tools = str(Path(sys.executable).parent)
    environment = {**os.environ, "PATH": f"{tools}{os.pathsep}{os.environ.get('PATH', os.defpath)}"}
    environment["OMP_NUM_THREADS"] = "1"
    if allow_cpu:
        environment["MLEGFN_ALLOW_CPU"] = "1"
    environment["MLEGFN_RANKS"] = str(ranks)
    return environment


@contextlib.contextmanager
def warm_server(environment):
    """``environment`` with a warm server for the time of the run; one that it names already is used.

    Without a server, stages import what they need themselves.
    """
    if os.path.exists(environment.get("MLEGFN_WARM", "")):
        yield environment
        return
    with tempfile.TemporaryDirectory(prefix="mlegfn-") as folder:  # mode 0700
        environment = {**environment, "MLEGFN_WARM": os.path.join(folder, "warm")}
        server = subprocess.Popen(
            [sys.executable, "-m", "mlegfn", "warm", environment["MLEGFN_WARM"]],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            while not os.path.exists(environment["MLEGFN_WARM"]) and server.poll() is None:
                time.sleep(0.01)
            yield environment
        finally:
            server.terminate()
            server.wait()


def run(scale_name, pipeline, cores, gpus, environment):
    """Run Snakemake, turn what it says into progress; returns the exit code."""
    scheduled = pipeline.scheduled()
    log = Path("results", scale_name, "logs", "snakemake.log")
    log.parent.mkdir(parents=True, exist_ok=True)
    print(
        f"{scale_name}: {len(scheduled)} of {len(pipeline.stages)} stages to run on {cores} core(s); log: {log}"
    )
    command = [sys.executable, "-m", "snakemake", "--cores", str(cores), "--config", f"scale={scale_name}"]
    command += ["--nocolor"] + (["--resources", f"gpu={gpus}"] if gpus else [])
    progress, said = Progress(scheduled, pipeline.order(), cores, known=wall_times(pipeline.stages)), []
    with (
        kept_in(log) as keep,
        view.handed_over(scale_name, pipeline, environment) as environment,
        subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            process_group=0,  # a terminal's Ctrl-C is for this process alone, which asks nicely
        ) as snakemake,
        passed_on_to(snakemake) as interrupted,
        progress,
    ):
        for line in snakemake.stdout:
            said.append(line.rstrip("\n"))
            progress.hear(line)
            keep(line)
    if interrupted:
        print("mlegfn: interrupted; what was finished stays, the same command goes on", file=sys.stderr)
        return 128 + interrupted[0]
    return explain(scale_name, progress.failed, log, said) if snakemake.returncode else 0


@contextlib.contextmanager
def kept_in(log):
    """A function that writes a line to the file ``log``. On a full disk it keeps less: the stages say why."""
    file = open(log, "w", buffering=1)  # noqa: SIM115 - closing writes, too

    def keep(line):
        with contextlib.suppress(OSError):
            file.write(line)

    try:
        yield keep
    finally:
        with contextlib.suppress(OSError):
            file.close()


@contextlib.contextmanager
def passed_on_to(process):
    """Ctrl-C and SIGTERM make ``process`` stop its stages, which save; yields the list of those received.

    A second Ctrl-C kills all of them at once.
    """

    def pass_on(signum):
        with contextlib.suppress(ProcessLookupError):
            if signum == signal.SIGINT and received.count(signum) > 1:
                os.killpg(process.pid, signal.SIGKILL)
            else:
                process.send_signal(signal.SIGTERM)
        if len(received) == 1:
            print("mlegfn: asked to stop; trainings save their state first", file=sys.stderr)

    with asked_to_stop(pass_on) as received:
        yield received


def show(scale_name, pipeline):
    """Where each figure and table lies, and the verdicts."""
    for kind, title in {"figures": "Figures", "tables": "Tables", "report": "Verdicts and pages"}.items():
        by_stem = {}
        for stage in pipeline.stages.values():
            for out in map(Path, stage.outs):
                if out.parts[:3] == ("results", scale_name, kind):
                    by_stem.setdefault(str(out.with_suffix("")), []).append(out.suffix)
        print(f"\n{title}:")
        for stem, suffixes in by_stem.items():
            suffixes.sort(key=lambda suffix: SHOWN.index(suffix) if suffix in SHOWN else len(SHOWN))
            print(f"  {stem}{suffixes[0]}" + "".join(f"  {suffix}" for suffix in suffixes[1:]))
    verdict = Path("results", scale_name, "report", "verdict.md")
    if verdict.exists():
        print("\n" + verdict.read_text().split("<details>")[0].strip())  # the file also says how
    free = shutil.disk_usage(".").free / 2**30
    if free < 1:
        print(f"\nmlegfn: only {free:.1f} GiB are left on this disk", file=sys.stderr)

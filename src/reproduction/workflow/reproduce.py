"""`mlegfn reproduce`: run what is stale at a scale, with progress, then show what there is."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from importlib import import_module
from pathlib import Path

from mlegfn.artifacts import expanded, read_json
from mlegfn.errors import UserError
from reproduction import params as settings
from reproduction.verdicts import claims
from reproduction.workflow import doctor, dvc, running, slots
from reproduction.workflow.failures import explain
from reproduction.workflow.progress import Progress
from reproduction.workflow.provenance import wall_times
from reproduction.workflow.ranks import MODULES, RANKS
from reproduction.workflow.ranks import wanted as rank_count
from reproduction.workflow.run_lock import only_one
from reproduction.workflow.signals import asked_to_stop, grace

__all__ = ["reproduce"]

RUNS = Path(".snakemake/mlegfn")  # the last plan and its markers; the Snakefile looks here too
POLL_S = 0.3


def reproduce(scale, cores=None, allow_cpu=False, ranks=None, profile=None, dry_run=False):
    """Run the stale stages of ``scale`` on ``cores``, trainings as ``ranks`` processes; the exit code.

    profile: a folder with a Snakemake profile, for a cluster; dry_run: only say what would run and why, and write
    the plan, on which `snakemake` then works by hand.
    """
    params = settings.load()
    params.check_scale(scale)
    ranks = rank_count(ranks)
    gpus = (
        None if profile else visible_gpus(params, scale, allow_cpu, ranks)
    )  # a profile's jobs run elsewhere
    for name in filter(os.environ.get, dvc.IGNORED):
        print(f"{name}: ignored; a profile is given by --profile", file=sys.stderr)
    with only_one("reproduce"):
        dvc.repair()
        plan = dvc.make_plan(scale)
        for name in plan.stale:
            print(f"  {name}: {plan.why(name)}")
        if not plan.stale:
            print(f"{scale}: nothing to do, all {len(plan.stages)} stages are as recorded.")
        else:
            check_inputs(plan, params)
        path = write_plan(plan, params, ranks, allow_cpu)
        if plan.stale and dry_run:
            print(f"{scale}: {len(plan.stale)} of {len(plan.stages)} stages would run")
        elif plan.stale:
            cores = cores or available_cores()
            code = run(
                scale, plan, path, command(path, cores, gpus, profile), surroundings(allow_cpu, ranks), cores
            )
            if code:
                return code
        if not dry_run:
            from reproduction.site import summary

            summary.write()
    if not dry_run:
        show(scale)
    return 0


def check_inputs(plan, params):
    """UserError, before anything runs, if a stage of the plan lacks what no stage makes: sources, claims, images, weights.

    Also where a claims file is not valid, which would be found out after hours.
    """
    for name in plan.stale:
        stage, scale = name.partition("@")[0], dvc.scale_of(name)
        gone = [
            line.removesuffix(" missing") for line in plan.changes.get(name, ()) if line.endswith(" missing")
        ]
        for path in [*gone, *plan.missing.get(name, ())]:
            if not path.startswith(("data/", "results/")):
                raise UserError(f"{path}: not found, but {name} needs it; restore it, for instance from git")
        try:
            if stage == "fetch" and (path := params.images[scale].data.path) and not expanded(path).exists():
                raise UserError(f"{path}: not found; put the images there or change images.{scale}.data.path")
            if stage == "quality":
                doctor.inception(scale, params.images[scale])
            if stage.endswith("_report") and Path(f"claims/{stage.removesuffix('_report')}.yaml").exists():
                check_claims(stage.removesuffix("_report"))
        except UserError as error:
            raise UserError(f"{name}: {error}") from None


def check_claims(experiment):
    """Read a claims file as the stage that reports on the experiment will; its mistakes are a UserError."""
    kinds = import_module(f"reproduction.{experiment}.report.evidence").KINDS
    claims.load(f"claims/{experiment}.yaml", kinds)


def visible_gpus(params, scale, allow_cpu, ranks=1):
    """How many GPUs Snakemake may hand out, None for no limit; fewer than ``ranks`` are a UserError.

    None at a scale that computes on the CPU, and where jobs share GPUs.
    """
    block = params.images.get(scale)
    if block is None or block.machine.accelerator != "gpu" or allow_cpu:
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


def surroundings(allow_cpu, ranks):
    """The environment of Snakemake and of every stage."""
    environment = dvc.environment() | {RANKS: str(ranks)}
    return environment | ({"MLEGFN_ALLOW_CPU": "1"} if allow_cpu else {})


def write_plan(plan, params, ranks, allow_cpu):
    """Write what the Snakefile reads: the stages to run, what they wait for, and their resources from dvc.yaml's `meta`."""
    shutil.rmtree(RUNS, ignore_errors=True)
    RUNS.mkdir(parents=True)
    definitions, stages = dvc.definitions(), {}
    for name in plan.stale:
        definition = definitions[name.partition("@")[0]]
        meta, module = dict(definition.get("meta", {})), definition["cmd"].split()[2]
        count = ranks if module in MODULES else 1
        block = params.images.get(dvc.scale_of(name))
        on_gpu = (
            meta.pop("gpu", False)
            and block is not None
            and block.machine.accelerator == "gpu"
            and not allow_cpu
        )
        stages[name] = {
            "needs": [need for need in plan.needs[name] if need in plan.stale],
            "threads": 1 if on_gpu else count,
            "resources": meta | ({"gpu": count} if on_gpu else {}),
            "priority": plan.followers(name),
        }
    path = RUNS / f"plan-{os.getpid()}.json"
    path.write_text(json.dumps(stages, indent=1))
    return path


def command(path, cores, gpus, profile):
    """Snakemake's command line."""
    words = [sys.executable, "-m", "snakemake", "--nocolor", "--nolock", "--keep-going", "--drop-metadata"]
    words += ["--config", f"plan={path}"]
    words += ["--profile", str(profile)] if profile else ["--cores", str(cores)]
    return words + (["--resources", f"gpu={gpus}"] if gpus else [])


def run(scale, plan, path, words, environment, cores):
    """Run Snakemake on a plan and show progress; returns the exit code: 0 only if every planned stage has run."""
    log = Path("results", scale, "logs", "snakemake.log")
    log.parent.mkdir(parents=True, exist_ok=True)
    print(
        f"{scale}: {len(plan.stale)} of {len(plan.stages)} stages to run on {cores} core(s); log: {log}",
        flush=True,
    )
    began, markers = time.time(), Path(f"{path}.done")
    with (
        open(log, "w") as output,
        subprocess.Popen(
            words,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # a terminal's Ctrl-C is for this process alone, which passes it on
        ) as snakemake,
        passed_on_to(snakemake) as interrupted,
        Progress(plan.stale, cores, wall_times(plan.stages)) as progress,
    ):
        while snakemake.poll() is None:
            progress.update(finished(markers), running.names(plan.stale))
            dvc.keep_copy()
            time.sleep(POLL_S)
        wait_for_stages(snakemake.pid, plan.stale)
        done = finished(markers)
        progress.update(done, [])
    if interrupted:
        print("mlegfn: interrupted; what was finished stays, the same command goes on", file=sys.stderr)
        return 128 + interrupted[0]
    if set(done) == set(plan.stale) and snakemake.returncode == 0:
        return 0
    return explain(plan.stale, done, log, began)


def finished(markers):
    """The names of the stages whose markers are there, in the order in which they came."""
    with contextlib.suppress(FileNotFoundError):
        entries = [entry for entry in os.scandir(markers) if entry.is_file()]
        return [entry.name for entry in sorted(entries, key=lambda entry: entry.stat().st_mtime)]
    return []


def wait_for_stages(group, names):
    """Wait for stages that still save their state after Snakemake and DVC have ended; kill them after the grace time."""
    deadline = time.monotonic() + grace()
    while running.names(names):
        if time.monotonic() > deadline:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(group, signal.SIGKILL)
            return
        time.sleep(POLL_S)


@contextlib.contextmanager
def passed_on_to(process):
    """Ctrl-C and SIGTERM reach the whole group of ``process`` as SIGTERM; trainings save. Yields those received.

    A second Ctrl-C kills the group at once.
    """

    def pass_on(number):
        again = number == signal.SIGINT and received.count(number) > 1
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL if again else signal.SIGTERM)
        if len(received) == 1:
            print("mlegfn: asked to stop; trainings save their state first", file=sys.stderr)

    with asked_to_stop(pass_on) as received:
        yield received


def show(scale):
    """Where each figure, table and file of verdicts lies, and how many claims got which verdict, at 80 columns."""
    folder = Path("results", scale)
    for kind, ending in (("figures", ".png"), ("tables", ".csv")):
        paths = sorted(folder.glob(f"*/{kind}/*{ending}"))
        if paths:
            print(f"\n{kind.capitalize()}:\n" + "\n".join(f"  {path}" for path in paths))
    for verdict in sorted(folder.glob("*/report/verdict.md")):
        print(f"\n{verdict}:\n  {verdict_counts(verdict.with_suffix('.json'))}")
    free = shutil.disk_usage(".").free / 2**30
    if free < 1:
        print(f"\nmlegfn: only {free:.1f} GiB are left on this disk", file=sys.stderr)


def verdict_counts(path):
    """The verdicts of a verdict.json, most frequent first: ``6 refuted, 2 reproduced, 1 undecided``."""
    verdicts = Counter(claim["verdict"] for claim in read_json(path)["claims"])
    return ", ".join(f"{count} {verdict}" for verdict, count in verdicts.most_common()) or "no claims"

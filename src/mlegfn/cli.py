"""The command line. Imports the standard library only, until a subcommand needs more."""

import argparse
import errno
import os
import re
import sys

from mlegfn.errors import UserError

# One thread a process: results must not depend on the number of cores, and parallelism is the engine's.
ONE_THREAD = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")

# What to lower where a stage runs out of memory.
STAGE_MEMORY = "`batch` or `consistency.chunk` of this scale in params.yaml"


def parser():
    """Every subcommand with its options; ``run`` is the function that it calls with the parsed options."""
    top = argparse.ArgumentParser(prog="mlegfn", description="One command reproduces every figure and table.")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name, run, help, scale=None):
        command = commands.add_parser(name, help=help, description=help)
        command.set_defaults(run=run)
        if scale:
            command.add_argument(
                "--scale",
                default=None if scale == "required" else scale,
                required=scale == "required",
                help="a scale of params.yaml",
            )
        return command

    stage = add("stage", _stage, "run one stage (the engines call this)", scale="required")
    stage.add_argument("name", help="fetch, pretrain, finetune, …: see `mlegfn plan`")
    stage.add_argument("--step", type=int, help="checkpoint, in training steps")
    stage.add_argument("--arm", help="simple, vlb, tbc; for nll and quality also baseline")
    stage.add_argument("--seed", type=int, help="fine-tuning seed")
    stage.add_argument("--problem", help="planar problem")
    stage.add_argument("--family", help="a file of src/mlegfn/families")
    stage.add_argument("--task", help="a task of the scale's block `divergences`")
    stage.add_argument("--allow-cpu", action="store_true", help="run a GPU scale without one")
    stage.add_argument("--ranks", help="processes that share the work of pretrain, finetune and nll")

    graph = add("graph", _graph, "derive graph.yaml from params.yaml")
    graph.add_argument("--check", action="store_true", help="only say whether it is up to date")

    add("plan", _plan, "print a scale's stages as a shell script", scale="digits")
    add("status", _status, "say of each stage whether it is done, running, stale or missing", scale="digits")
    add("doctor", _doctor, "say what a scale needs that this machine lacks", scale="digits")

    reproduce = add("reproduce", _reproduce, "run what is stale, then show the results", scale="digits")
    reproduce.add_argument("--cores", type=int, help="stages at once (default: every core)")
    reproduce.add_argument("--allow-cpu", action="store_true", help="run a GPU scale without one")
    reproduce.add_argument("--ranks", help="processes, and GPUs, of each training and NLL stage (default: 1)")

    _external(add)

    report = add("report", _report, "write one page of every result, to read without server or network")
    report.add_argument(
        "--out", default="report/index.html", metavar="FILE", help="default: report/index.html"
    )
    provenance = add("provenance", _provenance, "say how an artifact was made")
    provenance.add_argument("path", metavar="PATH", help="an artifact, a file inside one, or a stage's name")
    provenance.add_argument("--all", action="store_true", help="of everything that it was made from, too")
    provenance.add_argument("--json", action="store_true", help="as JSON")
    compare = add(
        "compare", _compare, "compare metrics, verdicts and figures of two revisions", scale="digits"
    )
    compare.add_argument("first", metavar="REV", help="a commit, branch or tag of git")
    compare.add_argument("second", metavar="REV2", nargs="?", help="another (default: what lies here now)")
    compare.add_argument("--html", metavar="FILE", help="write one page, with the figures beside each other")

    relock = add(
        "relock", _relock, "record edits of comments, docstrings and annotations without running anything"
    )
    relock.add_argument("revision", nargs="?", default="HEAD", help="a commit with the sources as recorded")
    for name, run, help in (
        ("restore", _restore, "fetch recorded artifacts from the remote, and read every byte"),
        ("record", _record, "share recorded artifacts through the remote"),
        ("verify", _verify, "read every recorded artifact, and say which are damaged"),
    ):
        command = add(name, run, help)
        command.add_argument("--scale", help="a scale of params.yaml (default: all that is recorded)")
    command.add_argument("--remote", action="store_true", help="what the remote has, too")
    command.add_argument(
        "--mend", action="store_true", help="make good what the cache, git or the remote has"
    )
    add("resolve", _resolve, "in a git merge: dvc.lock, graph.json and results/ from both sides")
    add("clean-scale", _clean, "delete one scale's artifacts", scale="required")
    bundle = add("bundle", _bundle, "write a release archive of this commit, ready for Zenodo")
    bundle.add_argument("--out", metavar="FILE.zip", help="default: build/mlegfn-VERSION-COMMIT.zip")
    bundle.add_argument("--with-checkpoints", action="store_true", help="with what DVC's cache holds, too")

    warm = add("warm", _warm, "serve stages from a process that has imported torch already")
    warm.add_argument("socket")
    retry = add(
        "retry-allowed", _retry, "fail if another attempt at a stage makes no sense (profiles use this)"
    )
    retry.add_argument("stage", help="its name in DVC and Snakemake, as in pretrain@digits-300")
    add("dvc", None, "DVC's own command line, but quick with a long dvc.lock")
    return top


def _external(add):
    """The commands for any Diffusers DDPM folder; docs/checkpoints.md has examples."""
    images = "cifar10, digits, scale:NAME (data/NAME), or a folder, .zip or .tar.* with train/ and test/"

    def command(name, help, variances=("large", "small", "analytic")):
        each = add(name, _command, help)
        each.set_defaults(lower="--batch")
        each.add_argument("path", metavar="PATH", help="a Diffusers DDPM folder, or owner/name of the hub")
        each.add_argument("--variance", choices=variances, help="default: what the folder says")
        each.add_argument("--levels", type=_levels, help="grey values of a pixel (default: the data's; 256)")
        each.add_argument("--seed", type=_index, default=0)
        each.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
        each.add_argument(
            "--precision", choices=["fp32", "tf32", "bf16"], default="fp32", help="of the network"
        )
        return each

    nll = command("nll", "print the bits/dim of any Diffusers DDPM checkpoint")
    nll.add_argument("--images", metavar="WHAT", default="cifar10", help=f"{images} (default: cifar10)")
    nll.add_argument("--limit", type=_count, metavar="N", help="only the first N test images")
    nll.add_argument("--estimator", choices=["full", "stratified"], help="default: stratified from T = 200")
    nll.add_argument(
        "--evaluations", type=_count, default=100, metavar="K", help="an image, of stratified (default: 100)"
    )
    nll.add_argument(
        "--decoder", choices=["exact", "tanh"], help="CDF of L_0; tanh is DDPM's (default: exact)"
    )
    nll.add_argument("--batch", type=_count, default=512, help="states evaluated at once (default: 512)")
    nll.add_argument("--json", metavar="FILE", help="write every number here too")

    sample = command("sample", "draw samples of any Diffusers DDPM checkpoint")
    sample.add_argument("--out", required=True, metavar="FILE.png", help="a sheet of all samples")
    sample.add_argument(
        "--npz", metavar="FILE", help="the samples as uint8 [N, H, W, C], 0 … 255, named arr_0"
    )
    sample.add_argument("--count", type=_count, default=64)
    sample.add_argument("--batch", type=_count, default=64, help="samples drawn at once (default: 64)")
    sample.add_argument(
        "--clip",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="clip x̂_0 in each step if the scheduler says so, as diffusers does (default)",
    )

    finetune = command("finetune", "train a Diffusers DDPM checkpoint on, and write another")
    finetune.set_defaults(lower="--batch, or `finetune.consistency.chunk` of the scale in params.yaml")
    finetune.add_argument("--out", required=True, metavar="FOLDER", help="a new Diffusers folder")
    finetune.add_argument("--images", required=True, metavar="WHAT", help=images)
    finetune.add_argument("--arm", choices=["simple", "vlb", "tbc"], default="tbc")
    finetune.add_argument(
        "--scale", default="digits", help="whose `finetune` block has the rest (default: digits)"
    )
    finetune.add_argument("--steps", type=_count)
    finetune.add_argument("--batch", type=_count, help="images a step")
    finetune.add_argument("--lr", type=_positive)
    finetune.add_argument(
        "--evaluate", type=_count, metavar="N", help="bits/dim of N test images before and after"
    )
    for each in (nll, finetune):
        each.add_argument(
            "--variance-images",
            type=_count,
            default=64,
            metavar="N",
            help="training images behind the analytic variances (default: 64)",
        )


def _count(text):
    """A whole number from 1."""
    return _number(text, int, 1)


def _index(text):
    """A whole number from 0."""
    return _number(text, int, 0)


def _levels(text):
    """Grey values that a byte can hold."""
    return _number(text, int, 2, 256)


def _positive(text):
    """A number above 0."""
    return _number(text, float, 5e-324)


def _number(text, kind, least, most=10**9):
    try:
        if least <= (value := kind(text)) <= most:
            return value
    except ValueError:
        pass
    bounds = f"from {least} to {most}" if kind is int else "above 0"
    raise argparse.ArgumentTypeError(
        f"expected a {'whole ' if kind is int else ''}number, {bounds}, got {text!r}"
    )


def main(argv=None):
    """Run one command; returns the exit code.

    0: done, 1: it failed, 2: the user can mend it, 75: interrupted, run it again, 130: Ctrl-C, 143: SIGTERM.
    """
    argv = sys.argv[1:] if argv is None else list(argv)
    if "MLEGFN_LAUNCHER" in os.environ:  # a rank: see pipeline/ranks.py
        import signal

        from mlegfn import warm

        warm.die_with_parent(signal.SIGKILL, int(os.environ["MLEGFN_LAUNCHER"]))
    if argv[:1] and argv[0] in ("stage", "dvc") and "MLEGFN_WARM" in os.environ:
        from mlegfn import warm

        code = warm.request(os.environ["MLEGFN_WARM"], argv)
        if code is not None:
            return code
    return run_here(argv)


def run_here(argv):
    """``main`` without the warm server."""
    options = None
    try:
        if argv[:1] == ["dvc"]:
            return _dvc(argv[1:])
        options = parser().parse_args(argv)
        return options.run(options) or 0
    except UserError as error:
        return complain(error)
    except BrokenPipeError:
        # Whoever read us (`| head`) has had enough; Python would complain again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + 13
    except Exception as error:  # OSError, MemoryError, torch's own of memory: what it is, `explain` knows
        mendable = explain(error, getattr(options, "lower", STAGE_MEMORY))
        if mendable is None:
            raise
        return complain(mendable)
    except KeyboardInterrupt:
        print("mlegfn: interrupted; what was finished stays", file=sys.stderr)
        return 130


def complain(error, who=""):
    """Print a UserError as the user should see it; returns the exit code."""
    print(f"mlegfn: {who}{error}", file=sys.stderr)
    return 2


# How libraries word what the kernel told them: Rust's, Python's (in DVC's messages too), SQLite's.
WORDS = (
    (r"\bos error (\d+)|\[Errno (\d+)\]", None),
    (r"database or disk is full", errno.ENOSPC),
    (r"disk I/O error", errno.EIO),
    (r"readonly database|unable to open database file", errno.EROFS),
)


def explain(error, lower=STAGE_MEMORY, unnamed="a file"):
    """The UserError behind an exception that the machine, not the code, is to blame for; else None.

    ``lower``: the setting that saves memory. ``unnamed``: what to call a file that the error does not name.
    """
    text = str(error)
    number = getattr(error, "errno", None) or _kernel_said(text)
    quoted = re.search(r"""['"]([^'"\n]*/[^'"\n]+)['"]""", text)
    name = getattr(error, "filename", None) or (quoted[1] if quoted else unnamed)
    if number in (errno.ENOSPC, errno.EDQUOT):
        return UserError(
            f"{name}: no space left on the device; free some and run again, what is finished stays"
        )
    if number == errno.EFBIG:
        return UserError(
            f"{name}: larger than a file may be here; see `ulimit -f` and the disk's quota, then run again"
        )
    if number == errno.EIO:
        return UserError(
            f"{name}: the disk failed to read or write ({os.strerror(number)}); is it full, limited or broken?"
        )
    if number in (errno.EACCES, errno.EPERM, errno.EROFS):
        return UserError(
            f"{name}: not permitted ({os.strerror(number)}); give this user the right to it and run again"
        )
    if number in (errno.EISDIR, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP):
        return UserError(
            f"{str(name)[:200]}: cannot be used ({error.strerror}); see what stands there, or rename it"
        )
    memory = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    if memory or "DefaultCPUAllocator" in text:  # torch's word for it on a CPU, in a plain RuntimeError
        return UserError(f"out of memory; lower {lower}")
    return None


def _kernel_said(text):
    """The kernel's error number in a library's message, None without one."""
    for pattern, number in WORDS:
        if match := re.search(pattern, text):
            return number or int(next(filter(None, match.groups())))
    return None


def _stage(options):
    for name in ONE_THREAD:
        os.environ.setdefault(name, "1")
    if options.allow_cpu:
        os.environ["MLEGFN_ALLOW_CPU"] = "1"
    if options.ranks is not None:
        os.environ["MLEGFN_RANKS"] = options.ranks
    from mlegfn.pipeline.stage import run

    key = {k: getattr(options, k) for k in ("step", "arm", "seed", "problem", "family", "task")}
    return run(options.name, options.scale, {k: v for k, v in key.items() if v is not None})


def _graph(options):
    from mlegfn import config, graph

    if options.check:
        return graph.check(config.load())
    print(f"{graph.GRAPH}: {'written' if graph.write() else 'up to date'}")


def _plan(options):
    from mlegfn.pipeline.plan import script

    print(script(options.scale), end="")


def _status(options):
    from mlegfn.pipeline.status import show

    return show(options.scale)


def _provenance(options):
    from mlegfn.pipeline.describe import show

    return show(options.path, options.json, options.all)


def _compare(options):
    from mlegfn.pipeline.compare import compare

    return compare(options.scale, options.first, options.second, options.html)


def _doctor(options):
    from mlegfn.pipeline.doctor import examine

    return examine(options.scale)


def _reproduce(options):
    from mlegfn.pipeline.reproduce import reproduce

    return reproduce(options.scale, options.cores, options.allow_cpu, options.ranks)


def _command(options):
    from importlib import import_module

    return import_module(f"mlegfn.commands.{options.command}").run(options)


def _restore(options):
    from mlegfn.pipeline.share import restore

    return restore(options.scale)


def _record(options):
    from mlegfn.pipeline.share import record

    return record(options.scale)


def _verify(options):
    from mlegfn.pipeline.mend import examine

    return examine(options.scale, options.remote, options.mend)


def _resolve(options):
    from mlegfn.pipeline.merge import resolve

    return resolve()


def _relock(options):
    from mlegfn.pipeline.relock import relock

    return relock(options.revision)


def _clean(options):
    from mlegfn.pipeline.share import clean

    return clean(options.scale)


def _report(options):
    from mlegfn.report.site.build import build

    return build(options.out)


def _bundle(options):
    from mlegfn.pipeline.bundle import bundle

    return bundle(options.out, options.with_checkpoints)


def _warm(options):
    from mlegfn.warm import serve

    return serve(options.socket)


def _retry(options):
    from mlegfn.pipeline.retry import check

    return check(options.stage)


def _dvc(arguments):
    from mlegfn.pipeline import interruption

    return interruption.dvc(arguments)

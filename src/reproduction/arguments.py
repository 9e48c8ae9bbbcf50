"""What can be said on the command line: every subcommand with its options, and the function that it calls.

Imports the standard library only; a function's module is imported when it is called.
"""

import argparse
from importlib import import_module

from mlegfn import __version__


def calls(function, *names):
    """The function ``"module:name"`` of reproduction, given those options; for the one name None, all of them as they are."""

    def run(options):
        module, _, name = function.partition(":")
        given = [options] if names == (None,) else [getattr(options, each) for each in names]
        return getattr(import_module(f"reproduction.{module}"), name)(*given)

    return run


def parser():
    """Every subcommand with its options; ``run`` is the function that it calls with the parsed options."""
    top = argparse.ArgumentParser(prog="mlegfn", description="One command reproduces every figure and table.")
    top.add_argument("--version", action="version", version=f"mlegfn {__version__}")
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

    stage = add("stage", calls("workflow.stage:command", None), "run one stage (dvc.yaml calls this)")
    stage.add_argument("module", help="a module of src/reproduction, as in images.finetune")
    stage.add_argument("scale", help="a scale of params.yaml")
    stage.add_argument("item", nargs="?", help="an arm, a problem, a family, …")
    stage.add_argument("--allow-cpu", action="store_true", help="run a GPU scale without one")
    stage.add_argument("--ranks", help="processes that share the work of pretrain, finetune and nll")

    add(
        "status",
        calls("workflow.status:show", "scale"),
        "say of each stage whether it is done, running or stale, and why",
        scale="digits",
    )
    add(
        "doctor",
        calls("workflow.doctor:examine", "scale"),
        "say what a scale needs that this machine lacks",
        scale="digits",
    )
    reproduce = add(
        "reproduce",
        calls("workflow.reproduce:reproduce", "scale", "cores", "allow_cpu", "ranks", "profile", "dry_run"),
        "run what is stale, then show the results",
        scale="digits",
    )
    reproduce.add_argument("--cores", type=_count, help="stages at once (default: every core)")
    reproduce.add_argument("--allow-cpu", action="store_true", help="run a GPU scale without one")
    reproduce.add_argument("--ranks", help="processes, and GPUs, of each training and NLL stage (default: 1)")
    reproduce.add_argument("--profile", metavar="FOLDER", help="a Snakemake profile, as in profiles/slurm")
    reproduce.add_argument("--dry-run", action="store_true", help="only say what would run, and why")
    new_scale = add(
        "new-scale",
        calls("workflow.new_scale:add", "name", "images", "like"),
        "write a scale of your own images into params.yaml",
    )
    new_scale.add_argument("name", metavar="NAME", help="of the new scale: a-z, 0-9 and _")
    new_scale.add_argument(
        "--images", required=True, metavar="PATH", help="a folder, .zip or .tar.* with train/ and test/"
    )
    new_scale.add_argument(
        "--like", default="digits", metavar="SCALE", help="whose settings it takes over (default: digits)"
    )
    accept = add(
        "accept",
        calls("workflow.accept:accept", "stages"),
        "record an edit of source code that changes no result, without running anything",
    )
    accept.add_argument("stages", nargs="+", metavar="STAGE", help="names as in `mlegfn status`")

    _external(add)

    report = add(
        "report",
        calls("site.build:build", "out"),
        "write one page of every result, to read without server or network",
    )
    report.add_argument(
        "--out", default="report/index.html", metavar="FILE", help="default: report/index.html"
    )
    provenance = add(
        "provenance", calls("workflow.provenance:show", "path", "json"), "say how an artifact was made"
    )
    provenance.add_argument("path", metavar="PATH", help="an artifact, a file inside one, or a stage's name")
    provenance.add_argument("--json", action="store_true", help="as JSON")
    for name, help in (
        ("restore", "fetch recorded artifacts from the remote, and read every byte"),
        ("record", "share recorded artifacts through the remote"),
        ("verify", "read every recorded artifact, and say which are damaged"),
    ):
        command = add(name, calls(f"workflow.share:{name}", "scale"), help)
        command.add_argument("--scale", help="a scale of params.yaml (default: all that is recorded)")
    add("resolve", calls("workflow.resolve:resolve"), "in a git merge: dvc.lock and results/ from both sides")
    add(
        "clean-scale",
        calls("workflow.share:clean", "scale"),
        "delete one scale's artifacts",
        scale="required",
    )
    retry = add(
        "retry-allowed",
        calls("workflow.retry:check", "stage", "plan"),
        "fail if another attempt at a stage makes no sense (the Snakefile asks)",
    )
    retry.add_argument("stage", help="its name, as in finetune@digits-simple_tbc")
    retry.add_argument("--plan", required=True, metavar="FILE", help="the plan of the run")
    return top


def _external(add):
    """The commands for any Diffusers DDPM folder; docs/checkpoints.md has examples."""
    images = "cifar10, digits, scale:NAME (data/NAME), or a folder, .zip or .tar.* with train/ and test/"

    def command(name, help, variances=("large", "small", "analytic")):
        each = add(name, calls(f"commands.{name}:run", None), help)
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
    finetune.set_defaults(
        run=_finetune, lower="--batch, or `finetune.all.consistency.chunk` of the scale in params.yaml"
    )
    finetune.add_argument("--out", required=True, metavar="FOLDER", help="a new Diffusers folder")
    finetune.add_argument("--images", required=True, metavar="WHAT", help=images)
    finetune.add_argument(
        "--arm",
        choices=["simple", "simple_tbc", "reweighted", "vlb", "vlb_tbc"],
        default="simple_tbc",
        help="its likelihood term and its term over chains (default: simple_tbc, the paper's)",
    )
    finetune.add_argument(
        "--scale",
        default="digits",
        help="whose `finetune` block has the rest, of lists the first values (default: digits)",
    )
    finetune.add_argument("--steps", type=_count)
    finetune.add_argument("--batch", type=_count, help="independent images a step")
    finetune.add_argument("--lr", type=_positive)
    finetune.add_argument("--weight", type=_positive, help="λ of the term over chains")
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


def _finetune(options):
    """`mlegfn finetune`: a scale of params.yaml has the settings that the command line does not give."""
    block = import_module("reproduction.params").load().block("images", options.scale)
    return import_module("reproduction.commands.finetune").run(options, block)


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

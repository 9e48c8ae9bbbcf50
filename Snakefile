# The stages live in dvc.yaml alone. Each one that DVC resolves becomes a rule here; the rule asks DVC to run it,
# so that DVC decides by content, records and caches, and Snakemake decides where and when.
#   snakemake --cores all --config scale=digits [targets]
import shlex
import sys

from mlegfn import graph
from mlegfn.pipeline import engine, snakemake_dvc


workdir: workflow.basedir


SCALE = config.get("scale", "digits")
graph.checked(SCALE)
# A job that an executor started in a process of its own has nothing left to decide, and DVC may be busy with others.
PIPELINE = engine.ask_dvc(SCALE) if workflow.is_main_process else engine.read(SCALE)
SCHEDULED = PIPELINE.scheduled()
FOLLOWERS = PIPELINE.followers()

snakemake_dvc.adapt(SCALE)
if workflow.is_main_process:
    snakemake_dvc.ask()
    snakemake_dvc.limit_gpus(workflow)
else:
    os.environ.pop("MLEGFN_WARM", None)  # a server outside a job's allocation would run its stage outside, too
shell.prefix(f"export PATH={shlex.quote(os.path.dirname(sys.executable))}:$PATH; ")


def inputs(stage):
    """What a stale stage reads is new; else what no scheduled stage makes is as DVC wants it."""
    for path in PIPELINE.inputs[stage.name]:
        yield path if PIPELINE.producers.get(path) in SCHEDULED else ancient(path)
    yield snakemake_dvc.ASKED if stage.changes else ancient(snakemake_dvc.ASKED)


rule all:
    default_target: True
    input:
        list(PIPELINE.producers),


for stage in PIPELINE.stages.values():
    threads_of_all, resources_of_all = snakemake_dvc.resources(stage)

    rule:
        name:
            stage.name
        input:
            list(inputs(stage)),
        output:
            [directory(o) if o in stage.directories else o for o in stage.outs],
        priority: FOLLOWERS[stage.name]
        threads: threads_of_all
        resources:
            # A text, so that Snakemake does not count it. Attempts: the profile's `retries`.
            attempt=lambda wildcards, attempt: str(attempt),
            **resources_of_all,
        shell:
            # `exec`: a shell would die of the SIGTERM that the stage behind it is to answer.
            "test {resources.attempt} = 1 || mlegfn retry-allowed {rule} && "
            "exec mlegfn dvc --wait-for-lock repro --single-item {rule}"

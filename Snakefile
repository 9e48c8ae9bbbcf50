# The stages live in dvc.yaml alone. Each one that DVC resolves becomes a rule here; the rule asks DVC to run it,
# so that DVC decides by content, records and caches, and Snakemake decides where and when.
#   snakemake --cores all --config scale=digits [targets]
#   snakemake --report report.html --config scale=digits
import shlex
import sys

from mlegfn.pipeline import engine, snakemake_dvc, view
from mlegfn.pipeline.snakemake_report import Report
from mlegfn.pipeline.stage import log_path


workdir: workflow.basedir


SCALE = config.get("scale", "digits")
# A job that an executor started in a process of its own has nothing left to decide, and DVC may be busy with others.
PIPELINE = view.ask(SCALE) if workflow.is_main_process else engine.read(SCALE)
SCHEDULED = PIPELINE.scheduled()
FOLLOWERS = PIPELINE.followers()
REPORT = Report(SCALE)

snakemake_dvc.adapt(SCALE)
if workflow.is_main_process:
    snakemake_dvc.ask()
    snakemake_dvc.limit_gpus(workflow)
    REPORT.write(PIPELINE.producers)
    REPORT.adapt(PIPELINE.producers)
else:
    # A server outside a job's allocation would run its stage outside, too.
    os.environ.pop("MLEGFN_WARM", None)
# In a container the tools are the container's.
if not workflow.deployment_settings.deployment_method:
    shell.prefix(f"export PATH={shlex.quote(os.path.dirname(sys.executable))}:$PATH; ")


def inputs(stage):
    """What a stale stage reads is new; else what no scheduled stage makes is as DVC wants it."""
    for path in PIPELINE.inputs[stage.name]:
        yield path if PIPELINE.producers.get(path) in SCHEDULED else ancient(path)
    yield snakemake_dvc.ASKED if stage.changes else ancient(snakemake_dvc.ASKED)


def outputs(stage):
    """Files, folders, and what the report shows."""
    for path in stage.outs:
        yield directory(path) if path in stage.directories else REPORT.mark(path)


report: REPORT.description


# Only with `--sdm apptainer`; built by `apptainer build mlegfn.sif apptainer.def`.
container: "mlegfn.sif"


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
            list(outputs(stage)),
        log:
            str(log_path(SCALE, stage.name)),  # the stage's own: whoever runs it writes it
        priority: FOLLOWERS[stage.name]
        threads: threads_of_all
        resources:
            **resources_of_all,
            # A text, so that Snakemake does not count it. Attempts: the profile's `retries`.
            attempt=lambda wildcards, attempt: str(attempt),
        params:
            stage=stage.name,
        shell:
            # `exec`: a shell would die of the SIGTERM that the stage behind it is to answer.
            "test {resources.attempt} = 1 || mlegfn retry-allowed {params.stage} && "
            "exec mlegfn dvc --wait-for-lock repro --single-item {params.stage}"

# DVC decides by content which stages are stale; Snakemake decides where and when they run. A rule is a stage of the plan
# that `mlegfn reproduce` has written, its output a marker of that run: Snakemake holds no artifact. What a stage reads,
# runs and writes stands in dvc.yaml.
import glob
import json
import os
import shlex
import sys

# By hand, the newest plan, which `--dry-run` writes too (docs/engines.md).
PLANS = glob.glob(".snakemake/mlegfn/plan-*.json")
PLAN = config.get("plan") or max(PLANS, key=os.path.getmtime, default=None)
if PLAN is None:
    raise WorkflowError("no plan yet; first: mlegfn reproduce --dry-run --scale NAME")
STAGES = json.loads(open(PLAN).read())  # {stage: {needs, threads, resources, priority}}


def marker(stage):
    return f"{PLAN}.done/{stage}"


# Snakemake formats what it runs, so braces in the path are doubled.
TOOLS = shlex.quote(os.path.dirname(sys.executable))
TOOLS = TOOLS.replace("{", "{{").replace("}", "}}")

# In a container (`--sdm apptainer`) the tools are the container's.
if not workflow.deployment_settings.deployment_method:
    shell.prefix(f"export PATH={TOOLS}:$PATH; ")


container: "mlegfn.sif"


rule all:
    input:
        [marker(stage) for stage in STAGES],


for stage, settings in STAGES.items():

    rule:
        name:
            stage
        input:
            [marker(need) for need in settings["needs"]],
        output:
            touch(marker(stage)),
        priority: settings["priority"]
        threads: settings["threads"]
        resources:
            **settings["resources"],
            # A text, so that Snakemake does not count it. More than one attempt: a profile's `retries`.
            attempt=lambda wildcards, attempt: str(attempt),
        params:
            stage=stage,
            plan=PLAN,
        shell:
            "test {resources.attempt} = 1 || mlegfn retry-allowed {params.stage} --plan {params.plan} && "
            "exec dvc --wait-for-lock repro --single-item {params.stage}"

"""Stage ``family``: one model family as a GFlowNet → its checks, its training on data, its samples.

In:  nothing but the settings and the family's own file, src/mlegfn/families/<family>.py
Out: results/<scale>/families/metrics/<family>.json, results/<scale>/families/samples/<family>.safetensors
"""

import torch

from mlegfn import families
from mlegfn.artifacts import write_bytes, write_json


def run(stage, family):
    """Check the family, and train it with every seed; a seed that is finished is kept."""
    from safetensors.torch import save

    torch.set_num_threads(1)
    metrics, tensors = measure(family, stage.settings, stage.keep)
    for check in metrics["checks"]:
        print(
            f"{family}: {check['what']}: {check['disagreement']:.3g} (at most {check['tolerance']:.3g}, {check['unit']})"
        )
    for entry in metrics["runs"]:
        for what, value in entry["scores"].items():
            print(f"{family} seed {entry['seed']}: {what}: {value:.4f}")
    write_bytes(stage.path("samples", f"{family}.safetensors"), save(tensors))
    write_json(stage.path("metrics", f"{family}.json"), {"scale": stage.scale, **metrics})


def measure(family, settings, keep):
    """A family's checks and its training with all seeds: (metrics, the panels of the first seed).

    :param settings: :class:`reproduction.families.settings.Families`
    :param keep: as :meth:`reproduction.stage.Stage.keep`
    :returns: the contents of the metrics file without the scale; {"panel-0": tensor, …}, float32
    """
    own, loaded = settings.settings[family], families.load(family)
    depends_on = own.model_dump(mode="json")
    checks, _ = keep("checks", depends_on, lambda: ([check.as_json() for check in loaded.checks(own)], {}))
    fits = {}
    for seed in settings.seeds:

        def compute(seed=seed):
            fit = loaded.fit(own, seed)
            panels = [{"title": p.title, "kind": p.kind, "labels": list(p.labels)} for p in fit.panels]
            tensors = {f"panel-{k}": panel.values.float() for k, panel in enumerate(fit.panels)}
            return {"scores": fit.scores, "panels": panels}, tensors

        fits[seed] = keep(f"seed-{seed}", {"seed": seed, **depends_on}, compute)
    value, tensors = fits[settings.seeds[0]]
    return {
        "family": family,
        **loaded.description(),
        "settings": depends_on,
        "checks": checks,
        "runs": [{"seed": seed, "scores": fit["scores"]} for seed, (fit, _) in fits.items()],
        "panels": value["panels"],
    }, tensors

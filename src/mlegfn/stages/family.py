"""Stage ``family``: one model family as a GFlowNet → its checks, its training on data, its samples.

In:  nothing but the settings and the family's own file, src/mlegfn/families/<family>.py
Out: results/<scale>/metrics/families/<family>.json, results/<scale>/families/<family>.safetensors
"""

from mlegfn import families, paths
from mlegfn.artifacts import write_bytes, write_json


def run(scale_name, scale, family):
    import torch
    from safetensors.torch import save

    torch.set_num_threads(1)
    settings = scale.families.of(family)
    loaded = families.load(family)
    checks = loaded.checks(settings)
    for check in checks:
        print(
            f"{family}: {check.what}: {check.disagreement:.3g} (at most {check.tolerance:.3g}, {check.unit})"
        )
    fits = {}
    for seed in scale.families.seeds:
        fits[seed] = loaded.fit(settings, seed)
        for what, value in fits[seed].scores.items():
            print(f"{family} seed {seed}: {what}: {value:.4f}")
    panels = fits[scale.families.seeds[0]].panels
    tensors = {f"panel-{k}": panel.values.detach().float().contiguous() for k, panel in enumerate(panels)}
    write_bytes(paths.results(scale_name, "families", f"{family}.safetensors"), save(tensors))
    write_json(
        paths.results(scale_name, "metrics", "families", f"{family}.json"),
        {
            "scale": scale_name,
            "family": family,
            **loaded.description(),
            "settings": settings.model_dump(),
            "checks": [check.as_json() for check in checks],
            "runs": [{"seed": seed, "scores": fit.scores} for seed, fit in fits.items()],
            "panels": [{"title": p.title, "kind": p.kind, "labels": list(p.labels)} for p in panels],
        },
    )

"""Stage ``baseline_nll``: every checkpoint of every baseline → test bits/dim, per image and per t.

A part is one checkpoint of one baseline.

In:  data/<scale>, results/<scale>/images/checkpoints/baseline
Out: results/<scale>/images/metrics/nll/baseline/<step>-<seed>.json
"""

from reproduction.images.nll import measure_runs


def run(stage):
    measure_runs(stage, "baseline", stage.settings.pretrain.segments)

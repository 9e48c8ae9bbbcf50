"""Every setting of every scale is named by a stage of dvc.yaml; the tests of its name beside each experiment run them."""

import pytest
from helpers.declared import declared, yaml_file
from helpers.parts import leaves

from reproduction.params import Params

SCALES = [(name, scale) for name in Params.EXPERIMENTS for scale in yaml_file("params.yaml")[name]]


@pytest.mark.parametrize("experiment, scale", SCALES)
def test_every_setting_is_named_by_a_stage_that_computes_with_it(experiment, scale):
    """`machine` by none."""
    settings = [".".join(path) for path in leaves(yaml_file("params.yaml")[experiment][scale])]
    stages = list(declared(experiment, scale))
    (report,) = (stage for stage in stages if stage.is_report)
    stages.remove(report)
    for key in settings:
        names = [stage.name for stage in stages if stage.names(f"{experiment}.{scale}.{key}")]
        assert bool(names) != key.startswith("machine."), (key, names)


def test_a_stage_names_no_setting_that_is_not_there():
    """DVC takes a key that is misspelt for one that is missing and goes on."""
    whole = yaml_file("params.yaml")
    for experiment, scale in SCALES:
        for stage in declared(experiment, scale):
            for key in stage.keys:
                value = whole
                for word in key.split("."):
                    assert word in value, f"{stage.name} names {key}"
                    value = value[word]

"""The names of the 2-D problems in params.yaml and claims."""

from typing import Literal

__all__ = ["Problem"]

Problem = Literal["2spirals", "8gaussians", "pinwheel", "circles", "moons", "swissroll", "checkerboard"]

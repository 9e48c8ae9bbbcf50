"""The planar problems: Figure 2."""

"""What the diffusion families share: the planar problem, the score SDEs, Proposition 4."""

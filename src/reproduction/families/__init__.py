"""Every model family as a GFlowNet: Table 1."""

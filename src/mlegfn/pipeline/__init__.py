"""Running the graph of stages: one stage, a whole scale, and what became of it. No stage imports this."""

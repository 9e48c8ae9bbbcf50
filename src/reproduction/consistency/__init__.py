"""What consistency training does to a likelihood, and why: predictions of docs/consistency.md, measured in the plane."""

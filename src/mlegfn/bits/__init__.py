"""GFlowNets over bit strings: one entry is filled at a time, in an order that the backward policy may learn."""

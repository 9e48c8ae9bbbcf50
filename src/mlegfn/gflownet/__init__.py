"""GFlowNets proper: policies on an unnormalised target, rolled out, trained by an objective, and measured."""

"""GFlowNets proper on unnormalised targets: rollouts, policies, losses, training."""

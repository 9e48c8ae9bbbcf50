"""What the stations on likelihoods and samplers share."""

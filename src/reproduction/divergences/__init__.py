"""The second paper (arXiv 2410.09355): divergence objectives and control variates."""

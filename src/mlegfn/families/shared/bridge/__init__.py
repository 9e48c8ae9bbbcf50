"""The Schrödinger bridge: its closed form between Gaussians, its policies, its checks."""

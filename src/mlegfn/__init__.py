"""Generative models as GFlowNets: objectives, pipeline, reports."""

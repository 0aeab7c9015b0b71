"""Particles: ensembles of paths, and flows of points."""

from fpsolve.particles.ensemble import Ensemble
from fpsolve.particles.flow import FlowMap, flow_map
from fpsolve.particles.simulate import simulate

__all__ = ["Ensemble", "FlowMap", "flow_map", "simulate"]

"""Particles: ensembles of paths, and flows of points."""

from fpsolve.particles.ensemble import Ensemble
from fpsolve.particles.flow import FlowMap, flow_map
from fpsolve.particles.schemes import Scheme
from fpsolve.particles.simulate import simulate
from fpsolve.particles.tableaux import SCHEMES

__all__ = ["SCHEMES", "Ensemble", "FlowMap", "Scheme", "flow_map", "simulate"]

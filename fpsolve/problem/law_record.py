"""Laws as plain data, for files: those that are known by numbers, and their images under the maps of fpsolve."""

from __future__ import annotations

from typing import Any

import numpy as np

from fpsolve.errors import InputError
from fpsolve.problem.gamma import GammaMixture
from fpsolve.problem.law import Declared, Law
from fpsolve.problem.maps import Exp, Pushforward, Sinh
from fpsolve.problem.mixtures import KDE, Empirical, GaussianMixture, LaplaceMixture, Normal, PointMass

_LAWS: dict[str, type] = {
    law.__name__: law for law in (Normal, GaussianMixture, KDE, LaplaceMixture, GammaMixture, PointMass, Empirical)
}
_MAPS: dict[str, type] = {"Sinh": Sinh, "Exp": Exp}


def record_of(law: Law) -> dict[str, Any] | None:
    """Name and arguments of a law in types of JSON, or None where numbers do not tell it.

    Examples
    --------
    >>> from fpsolve.problem.law_record import law_of, record_of
    >>> record_of(fps.Normal(0.0, 2.0))
    {'law': 'Normal', 'mean': 0.0, 'std': 2.0}
    >>> law_of(record_of(fps.Normal(0.0, 2.0))) == fps.Normal(0.0, 2.0)
    True
    """
    if type(law) is Pushforward:
        base, kind = record_of(law.base), type(law.map).__name__
        if base is None or _MAPS.get(kind) is not type(law.map):
            return None
        return {"law": "Pushforward", "base": base, "map": {"map": kind, **vars(law.map)}}
    if not isinstance(law, Declared) or _LAWS.get(type(law).__name__) is not type(law):
        return None
    arguments = {name: np.asarray(value).tolist() for name, value in law._arguments().items()}
    return {"law": type(law).__name__, **arguments}


def law_of(record: Any) -> Law:
    """The law of a record; what is not one raises InputError, and bad arguments what the law raises."""
    rule = "a stored law must have a known name and its arguments"
    try:
        arguments = dict(record)
        name = arguments.pop("law")
        if name == "Pushforward":
            mapping = dict(arguments["map"])
            return Pushforward(law_of(arguments["base"]), _MAPS[mapping.pop("map")](**mapping))
        return _LAWS[name](**arguments)
    except (TypeError, KeyError, ValueError) as problem:
        raise InputError(rule, str(problem) or repr(record), "save it again") from problem

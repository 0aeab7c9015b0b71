"""The catalogue: identities with their fixtures, routes and wrong siblings, by id."""

from fpsolve.catalogue.fokker_planck import ITO_STRATONOVICH, STRONG_WEAK
from fpsolve.catalogue.identity import Identity
from fpsolve.catalogue.liouville import DRIFT_FROM_CDF
from fpsolve.catalogue.probability_flow import LIKELIHOOD, MARGINAL_FAMILY, VELOCITY
from fpsolve.catalogue.score_matching import ESM_DSM, TWEEDIE
from fpsolve.catalogue.time_reversal import ANDERSON, JOINT_LAW

IDENTITIES: dict[str, Identity] = {
    identity.id: identity
    for identity in (
        STRONG_WEAK,
        ITO_STRATONOVICH,
        DRIFT_FROM_CDF,
        ANDERSON,
        JOINT_LAW,
        VELOCITY,
        MARGINAL_FAMILY,
        LIKELIHOOD,
        TWEEDIE,
        ESM_DSM,
    )
}

"""The chain, one module a link: ingest, validate, features, value, lifecycle, segments, journeys, actions, report.

A body reads, calls one function of `ml` or `expectations`, writes, and notes what a person wants to see. What assets
have in common (keys, partitions, refusal on missing upstream) is in `microseg_assets.chain`.
"""

from __future__ import annotations

import dagster as dg

from microseg_assets.assets import (
    actions,
    features,
    ingest,
    journeys,
    lifecycle,
    report,
    segments,
    validate,
    value,
)
from microseg_assets.chain import Chain

LINKS = (ingest, validate, features, value, lifecycle, segments, journeys, actions, report)


def assets(chain: Chain) -> list[dg.AssetsDefinition]:
    """Every asset of a project, in the order of the chain."""
    return [asset for link in LINKS for asset in link.assets(chain)]

"""The known propensity of an action against control in randomised campaigns.

Belongs here: reading stated propensities, completing them, and the shares that replace them where none was stated.
Does not belong here: propensities that are estimated from features (see `ml.actions.learners`).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ml.actions.spec import CONTROL
from ml.tables import arm_of

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

_SMOOTHING = 20.0  # weight of the campaign's share in that of a day, in exposures


@dataclass(frozen=True)
class Chances:
    """The propensity of an action against control, for each row of either arm; 0.5, unused, for all other rows.

    Parameters
    ----------
    chance : ndarray of shape (n_rows,)
        Among these rows: the odds are corrected where an arm was sampled.
    design : ndarray of shape (n_rows,)
        By the design alone.
    is_stated : ndarray of shape (n_rows,)
        Whether the propensity was stated; otherwise it is a share of exposures.
    is_complete : bool
        Whether the stated propensities were sufficient; otherwise shares replace those that are missing.
    """

    chance: NDArray[np.float64]
    design: NDArray[np.float64]
    is_stated: NDArray[np.bool_]
    is_complete: bool


def known_chance(rows: pd.DataFrame, treated: NDArray[np.bool_], control: NDArray[np.bool_]) -> Chances:
    """Read the propensity of an action against control in randomised campaigns.

    Each row takes the first of these that is available: the stated propensities of both arms (`propensities`); that of
    its own arm, with that of the other arm where this is the same for all of its rows on that day, or in that campaign;
    in a campaign of two arms, the complement. The mean over the rows of the other arm is not used: in a stratified
    design it mixes strata. Where nothing is stated, the share of the day, smoothed toward that of the campaign,
    replaces it.

    Parameters
    ----------
    rows : pd.DataFrame of shape (n_rows, n_columns)
        Columns campaign_id, action and propensity; optionally propensities, exposed_on and sampled_share.
    treated, control : ndarray of shape (n_rows,)
        Which rows got the action, and which are its controls.

    Returns
    -------
    Chances
        One propensity per row.
    """
    import pandas as pd

    used = treated | control
    frame = rows.loc[used, [name for name in _OF_CHANCE if name in rows.columns]].copy()
    frame["treated"] = treated[used]
    if "exposed_on" not in frame:
        frame["exposed_on"] = 0
    own = pd.to_numeric(frame["propensity"], errors="coerce").astype("float64") if "propensity" in frame else np.nan
    frame["own"] = pd.Series(own, index=frame.index).where(lambda stated: (stated > 0) & (stated < 1))
    other = _constant_of_other_arm(frame, ["campaign_id", "exposed_on"])
    other = other.fillna(_constant_of_other_arm(frame, ["campaign_id"]))
    arms = rows.groupby("campaign_id")["action"].nunique()
    other = other.fillna((1 - frame["own"]).where(frame["campaign_id"].map(arms) <= 2))
    of_action = np.where(frame["treated"], frame["own"], other)
    of_control = np.where(frame["treated"], other, frame["own"])
    design = pd.Series(of_action / (of_action + of_control), index=frame.index)
    if "propensities" in frame and frame["propensities"].notna().any():
        design = _of_every_arm(frame, str(rows.loc[treated, "action"].iloc[0])).fillna(design)
    lacking = design.isna() & frame["own"].notna()
    is_stated = design.notna()
    weight = 1 / (frame["sampled_share"] if "sampled_share" in frame else pd.Series(1.0, index=frame.index))
    design = design.fillna(_share(frame, weight))
    odds = design / (1 - design).clip(lower=1e-9)
    if (weight > 1).any():  # a sampled arm is less frequent among the rows
        sampled = (1 / weight).groupby(frame["treated"]).mean()
        odds = odds * sampled.get(True, 1.0) / sampled.get(False, 1.0)
    chance, by_design, stated = np.full(len(rows), 0.5), np.full(len(rows), 0.5), np.zeros(len(rows), dtype=bool)
    chance[used], by_design[used], stated[used] = odds / (1 + odds), design, is_stated
    return Chances(chance, by_design, stated, not lacking.any())


_OF_CHANCE = ("campaign_id", "action", "propensity", "propensities", "exposed_on", "sampled_share")


def _constant_of_other_arm(frame: pd.DataFrame, group: list[str]) -> pd.Series[float]:
    """The stated propensity of the other arm, for rows in groups whose two arms have one propensity each."""
    stated = frame.groupby([*group, "treated"])["own"].agg(["min", "max", "count"])
    stated.loc[(stated["max"] - stated["min"]) > 1e-6, "min"] = np.nan
    wide = stated["min"].unstack("treated").reindex(columns=[False, True])
    wide[wide.isna().any(axis=1)] = np.nan
    both = frame[group].merge(wide.reset_index(), on=group, how="left").set_axis(frame.index)
    return both[False].where(frame["treated"], both[True]).astype("float64")


def _of_every_arm(frame: pd.DataFrame, action: str) -> pd.Series[float]:
    """The propensity of `action` against control from texts such as ``{"coupon": 0.4, "control": 0.6}``."""
    chances = {text: _parsed(text, action) for text in frame["propensities"].dropna().unique()}
    return frame["propensities"].map(chances).astype("float64")


def _parsed(text: str, action: str) -> float:
    try:
        stated = {arm_of(str(arm), (action,)): float(chance) for arm, chance in json.loads(text).items()}
        of_action, of_control = stated[action], stated[CONTROL]
    except (ValueError, TypeError, AttributeError, KeyError):
        return float("nan")
    return of_action / (of_action + of_control) if of_action > 0 and of_control > 0 else float("nan")


def _share(frame: pd.DataFrame, weight: pd.Series[float]) -> pd.Series[float]:
    """The share of treated exposures on the row's day, smoothed toward that of its campaign."""
    treated = weight * frame["treated"]
    campaign, day = frame["campaign_id"], [frame["campaign_id"], frame["exposed_on"]]
    share = treated.groupby(campaign).transform("sum") / weight.groupby(campaign).transform("sum")
    treated_of_day, size = treated.groupby(day).transform("sum"), weight.groupby(day).transform("sum")
    return (treated_of_day + _SMOOTHING * share) / (size + _SMOOTHING)

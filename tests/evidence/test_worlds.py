"""What `make evidence` prints: all worlds, against what the design's table says about them."""

from __future__ import annotations

from ml.simulate import evidence

# The table of design.md §8, once more, so that no constant in the code can be softened unnoticed.
TABLE = {
    ("clear layers", "nearest centres apart, within-cluster SD"): (4, 4),
    ("clear layers", "clusters"): (3, 5),
    ("clear layers", "smallest share of a stage"): (0.08, 0.08),
    ("clear layers", "customers a stage"): (5_000, 5_000),
    ("overlapping layers", "nearest centres apart, within-cluster SD"): (2.5, 2.5),
    ("overlapping layers", "smallest share of a stage"): (0.08, 0.08),
    ("overlapping layers", "share midway between two centres"): (0.1, 0.1),
    ("no layers", "smallest correlation of logs"): (0.3, 0.7),
    ("no layers", "largest correlation of logs"): (0.3, 0.7),
    ("drifting layers", "the moving centre after six weeks, SD"): (1, 1),
    ("drifting layers", "halves of the split one apart, SD"): (3, 3),
    ("memoryless", "states"): (5, 5),
    ("memoryless", "smallest weekly stay"): (0.75, 0.95),
    ("memoryless", "largest weekly stay"): (0.75, 0.95),
    ("second-order", "shift of a row by the state before"): (0.15, 0.15),
    ("dwell", "odds of leaving, week 8 to week 1"): (0.5, 0.5),
    ("randomised effects", "share of outcomes that are zero"): (0.4, 0.4),
    ("randomised effects", "log-SD of the others"): (1, 1),
    ("randomised effects", "true mean effect of coupon, % of mean outcome"): (8, 8),
    ("randomised effects", "true mean effect of email, % of mean outcome"): (3, 3),
    ("randomised effects", "true mean effect of call, % of mean outcome"): (0, 0),
    ("randomised effects", "SD of customers' effects of coupon, % of outcome SD"): (15, 15),
    ("no effect", "true mean effect of coupon, % of mean outcome"): (0, 0),
    ("constant effect", "true mean effect of coupon, % of mean outcome"): (8, 8),
    ("constant effect", "SD of customers' effects of coupon, % of outcome SD"): (0, 0),
    ("measured confounding", "AUC of the propensity"): (0.85, 0.85),
    ("measured confounding", "AUC of value and recency"): (0.85, 0.85),
    ("measured confounding", "smallest propensity of treatment"): (0.05, 0.05),
    ("measured confounding", "largest propensity of treatment"): (0.95, 0.95),
    ("hidden confounding", "AUC of the propensity"): (0.85, 0.85),
    ("hidden confounding", "AUC of value and recency"): (0.5, 0.5),
}


def test_every_world_of_ten_seeds_is_what_the_design_says() -> None:
    measured = {(one.world, one.mean.name): one for one in evidence.measure()}
    for key, (low, high) in TABLE.items():
        assert (measured[key].mean.low, measured[key].mean.high) == (low, high), key
        assert len(measured[key].moments) >= evidence.SEEDS
    assert [key for key, one in measured.items() if one.is_off] == []

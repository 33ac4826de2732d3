# mypy: ignore-errors
"""The notebook that this project is compared with: pandas, scikit-learn, lifetimes, LightGBM and causalml in one file.

    python notebook.py --data FOLDER --out FOLDER [--as-of 2025-02-03] [--backfill DAYS]

It is what a competent data scientist would run instead: no orchestration, no history, no validation; written to be
fast for what it is (one sort, one integer day column, contiguous slices for windows, categorical keys, capped samples
for every fit). It knows nothing of microseg and runs in an environment of its own (`requirements.txt` beside it, which
`make bench` installs).

For one day: features; lifecycle stages by rules; k-means per stage and layer (k by silhouette on a sample);
micro-segment strings; the same customers seven days earlier and who moved; 90-day LTV by BG/NBD and Gamma-Gamma and by
LightGBM; uplift by an X-learner and per micro-segment. "As of day d" means: everything that happened up to the end of
day d. Prints one line of JSON with seconds and peak memory of each step.

Source: the program `notebook_stack.py` that was written to set this project's limits of time and memory, before the
project was measured against it. The functions are that program's, unchanged. Its comparisons of refits and with the
simulated truth, which are no part of a day, are left out, and its clock separates fitting LightGBM from predicting.
"""

import time

STARTED = time.time()

import argparse  # noqa: E402
import json  # noqa: E402
import resource  # noqa: E402
import warnings  # noqa: E402
from pathlib import Path  # noqa: E402

import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402

WINDOWS = (7, 30, 90, 365)
HORIZON = 90  # days of LTV
OUTCOME = 28  # days of an exposure's outcome window
COHORTS = 4  # weeks of exposures to learn the uplift from
CHURN_AFTER = 60  # days
NO_PURCHASE = 9999.0
LGB = {
    "n_estimators": 200, "learning_rate": 0.05, "num_leaves": 31, "min_child_samples": 50, "verbose": -1,
    "random_state": 0,
}  # fmt: skip


# ── data ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def load(folder):
    """Transactions in time order, with the columns that do not depend on the as-of day worked out once."""
    import pyarrow.parquet as pq

    folder = Path(folder)
    names = pq.read_schema(folder / "transactions.parquet").names
    columns = ["customer_id", "occurred_at", "amount", "category"] + [c for c in ["discount"] if c in names]
    tx = pq.read_table(folder / "transactions.parquet", columns=columns, read_dictionary=["category"]).to_pandas()
    customers = None
    if (folder / "customers.parquet").exists():
        customers = pd.read_parquet(folder / "customers.parquet")
    exposures = None
    if (folder / "exposures.parquet").exists():
        exposures = pd.read_parquet(folder / "exposures.parquet")
        exposures["day"] = day_number(exposures["exposed_at"])
        exposures["action"] = exposures["action"].astype(str)
    return prepare(tx), customers, exposures


def prepare(tx):
    tx["day"] = day_number(tx["occurred_at"])
    del tx["occurred_at"]
    if not tx["day"].is_monotonic_increasing:
        tx = tx.sort_values("day", kind="stable", ignore_index=True)
    tx["customer_id"] = tx["customer_id"].astype("category")  # integer codes: every later groupby is direct
    tx["category"] = tx["category"].astype("category")
    tx["new_day"] = ~tx.duplicated(["customer_id", "day"])
    first = tx.groupby("customer_id", observed=False)["day"].transform("min")
    tx["first_amount"] = tx["amount"].where(tx["day"] == first, 0.0)
    return tx


def day_number(stamps):
    return (stamps.to_numpy("datetime64[D]") - np.datetime64("1970-01-01", "D")).astype("int32")


def spend_after(tx, day, days, index):
    """Net spend per customer in (day, day + days]."""
    lo, hi = np.searchsorted(tx["day"].to_numpy(), [day + 1, day + days + 1])
    s = tx.iloc[lo:hi].groupby("customer_id", observed=False)["amount"].sum()
    return s.reindex(index).fillna(0.0)


# ── features ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def features(tx, day, customers=None, categories=20):
    """One row per known customer, as of the end of `day`: bought at least once, or registered by then."""
    days = tx["day"].to_numpy()
    end = np.searchsorted(days, day + 1)
    past = tx.iloc[:end]
    by = past.groupby("customer_id", observed=False)
    f = by.agg(
        first=("day", "min"),
        last=("day", "max"),
        n=("amount", "size"),
        total=("amount", "sum"),
        days=("new_day", "sum"),
        first_amount=("first_amount", "sum"),
    )
    for w in WINDOWS:
        g = tx.iloc[np.searchsorted(days, day - w + 1) : end].groupby("customer_id", observed=False)
        f[f"n_{w}"] = g.size()
        f[f"sum_{w}"] = g["amount"].sum()
        f[f"days_{w}"] = g["new_day"].sum()
    cut = np.searchsorted(days, day - 30 + 1)
    f["last_before_30"] = tx.iloc[:cut].groupby("customer_id", observed=False)["day"].max()
    f["first_in_30"] = tx.iloc[cut:end].groupby("customer_id", observed=False)["day"].min()

    shares = past.groupby(["customer_id", "category"], observed=False)["amount"].sum().unstack(fill_value=0.0)
    if shares.shape[1] > categories:
        keep = shares.sum().nlargest(categories).index
        shares = shares[keep]
    shares.columns = [f"share_{c}" for c in shares.columns]
    shares = shares.clip(lower=0)
    shares = shares.div(f["total"].where(f["total"] > 0), axis=0)
    f = f.join(shares)
    if "discount" in tx:
        recent = tx.iloc[np.searchsorted(days, day - 90 + 1) : end]
        recent = recent.assign(promo=recent["discount"] > 0)
        g = recent.groupby("customer_id", observed=False).agg(
            p=("promo", "mean"), d=("discount", "sum"), a=("amount", "sum")
        )
        f["promo_share"] = g["p"]
        f["promo_depth"] = g["d"] / (g["d"] + g["a"]).where(lambda x: x > 0)

    f.index = f.index.astype(tx["customer_id"].cat.categories.dtype)
    f = f[f["n"] > 0]
    if customers is not None and "registered_at" in customers:
        known = customers.loc[day_number(customers["registered_at"]) <= day, "customer_id"]
        f = f.reindex(f.index.union(pd.Index(known, name="customer_id")))
    counts = [c for c in f if c.startswith(("n", "sum_", "days", "total", "share_", "promo_", "first_amount"))]
    f[counts] = f[counts].fillna(0.0)
    f["recency"] = (day - f["last"]).fillna(NO_PURCHASE)
    f["tenure"] = (day - f["first"]).fillna(0)
    f["mean_gap"] = ((f["last"] - f["first"]) / (f["days"] - 1).where(f["days"] > 1)).fillna(NO_PURCHASE)
    f["aov"] = (f["total"] / f["n"].where(f["n"] > 0)).fillna(0.0)
    f["trend"] = (f["sum_30"] * 3 - f["sum_90"]) / (f["sum_30"] * 3 + f["sum_90"]).where(lambda x: x > 0)
    f["trend_n"] = (f["days_30"] * 3 - f["days_90"]) / (f["days_30"] * 3 + f["days_90"]).where(lambda x: x > 0)
    f[["trend", "trend_n"]] = f[["trend", "trend_n"]].fillna(0.0)
    f["return_gap"] = (f["first_in_30"] - f["last_before_30"]).fillna(0.0)
    return f.drop(columns=["last_before_30", "first_in_30"])


def model_columns(f):
    return [c for c in f.columns if c not in ("first", "last")]


def stages(f, churn_after=60, new_days=30, star_share=0.10, star_cut=None):
    """Ordered rules, the first that holds wins. Returns the stages and the spend above which one is a star."""
    active = (f["n"] > 0) & (f["recency"] <= churn_after)
    if star_cut is None:
        star_cut = f.loc[active, "sum_90"].quantile(1 - star_share)
    stage = np.select(
        [
            f["n"] == 0,
            ~active,
            f["tenure"] < new_days,
            f["return_gap"] >= churn_after,
            f["sum_90"] >= star_cut,
        ],
        ["prospect", "churn", "new", "reengaged", "star"],
        "active",
    )
    return pd.Series(stage, index=f.index, name="stage"), star_cut


# ── layers ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def layer_matrix(f, layer):
    lg = lambda c: np.log1p(f[c].clip(lower=0))  # noqa: E731
    if layer == "value":
        cols = [lg("sum_90"), lg("sum_365"), lg("aov")]
    elif layer == "engagement":
        cols = [lg("recency"), lg("days_30"), lg("days_90"), lg("mean_gap")]
    elif layer == "momentum":
        cols = [f["trend"], f["trend_n"]]
    elif layer == "promo":
        cols = [f["promo_share"], f["promo_depth"].fillna(0.0)]
    elif layer == "affinity":
        cols = [f[c] for c in f.columns if c.startswith("share_")]
    return np.column_stack(cols).astype(float)


def layer_names(f):
    return ["value", "engagement", "affinity", "promo" if "promo_share" in f else "momentum"]


def fit_layers(f, stage, seed=0, k_max=6, sample=5000, cap=100_000, min_rows=200, k=None):
    """One scaler + k-means per stage and layer; k by silhouette on a sample (or given in `k`)."""
    from sklearn.cluster import KMeans
    from sklearn.metrics import silhouette_score
    from sklearn.preprocessing import StandardScaler

    rng = np.random.default_rng(seed)
    models = {}
    for s in np.unique(stage):
        if s == "prospect":
            continue
        rows = f[stage == s]
        if len(rows) < min_rows:
            continue
        for layer in layer_names(f):
            X = layer_matrix(rows, layer)
            if len(X) > cap:
                X = X[rng.choice(len(X), cap, replace=False)]
            scaler = StandardScaler().fit(X)
            Z = scaler.transform(X)
            if k and (s, layer) in k:
                best = k[s, layer]
            else:
                part = Z[rng.choice(len(Z), min(sample, len(Z)), replace=False)]
                score = {}
                for j in range(2, k_max + 1):
                    labels = KMeans(j, n_init=3, random_state=seed).fit_predict(part)
                    score[j] = silhouette_score(part, labels) if len(np.unique(labels)) > 1 else -1
                best = max(score, key=score.get)
            models[s, layer] = scaler, KMeans(best, n_init=5, random_state=seed).fit(Z)
    return models


def assign(f, stage, models):
    """Letters per layer and the micro-segment string."""
    out = pd.DataFrame({"stage": stage})
    for layer in layer_names(f):
        letter = np.full(len(f), "-", dtype=object)
        for s in out["stage"].unique():
            if (s, layer) in models:
                m = (stage == s).to_numpy()
                scaler, km = models[s, layer]
                letter[m] = np.array(list("ABCDEFGHIJ"), dtype=object)[
                    km.predict(scaler.transform(layer_matrix(f[m], layer)))
                ]
        out[layer] = letter
    parts = out["stage"].astype(str)
    for layer in layer_names(f):
        parts = parts + "|" + layer + "." + out[layer].astype(str)
    out["micro_segment"] = parts
    return out


def movements(before, after):
    """Who moved, including who came in; and the two transition matrices."""
    both = after[["stage", "micro_segment"]].join(before[["stage", "micro_segment"]].add_suffix("_before"), how="outer")
    both = both.fillna({"stage_before": "(entry)", "micro_segment_before": "(entry)"})
    both["moved_stage"] = both["stage"] != both["stage_before"]
    both["moved"] = both["micro_segment"] != both["micro_segment_before"]
    stage_matrix = pd.crosstab(both["stage_before"], both["stage"], normalize="index")
    segment_matrix = both.groupby(["micro_segment_before", "micro_segment"]).size().rename("customers").reset_index()
    return both, stage_matrix, segment_matrix


# ── value ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def fit_bgnbd(f, cap=100_000, seed=0):
    from lifetimes import BetaGeoFitter, GammaGammaFitter

    b = f[f["n"] > 0]
    if len(b) > cap:
        b = b.sample(cap, random_state=seed)
    x, tx_, T = b["days"] - 1, b["last"] - b["first"], b["tenure"]
    unique = pd.DataFrame({"x": x, "t": tx_, "T": T}).groupby(["x", "t", "T"]).size().rename("w").reset_index()
    bg = BetaGeoFitter(penalizer_coef=0.001)
    bg.fit(unique["x"], unique["t"], unique["T"], weights=unique["w"])
    rep = b[(b["days"] > 1) & (b["total"] > b["first_amount"])]
    gg = GammaGammaFitter(penalizer_coef=0.001)
    gg.fit(rep["days"] - 1, (rep["total"] - rep["first_amount"]) / (rep["days"] - 1))
    return bg, gg


def predict_bgnbd(models, f, horizon=HORIZON):
    bg, gg = models
    b = f[f["n"] > 0]
    x, t, T = b["days"] - 1, b["last"] - b["first"], b["tenure"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        purchases = bg.conditional_expected_number_of_purchases_up_to_time(horizon, x, t, T)
        mean = ((b["total"] - b["first_amount"]) / x.where(x > 0)).fillna(0.0)
        value = gg.conditional_expected_average_profit(x, mean)
        alive = bg.conditional_probability_alive(x, t, T)
    out = pd.DataFrame(
        {"bgnbd_purchases": purchases, "bgnbd_alive": alive, "bgnbd_ltv": purchases * value}, index=b.index
    )
    return out.reindex(f.index).fillna({"bgnbd_purchases": 0.0, "bgnbd_ltv": 0.0})


def fit_lgbm_ltv(f, y, columns):
    from lightgbm import LGBMRegressor

    return LGBMRegressor(objective="tweedie", tweedie_variance_power=1.3, **LGB).fit(
        f[columns].to_numpy(np.float32), y.clip(lower=0)
    )


# ── uplift ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def uplift_training(tx, exposures, customers, day, cohorts):
    """The last `cohorts` weeks of exposures whose outcome window has closed, with features from the day before."""
    closed = exposures[exposures["day"] + OUTCOME - 1 <= day]
    if closed.empty:
        return None
    newest = closed["day"].max()
    frames = []
    for i in range(cohorts):
        lo, hi = newest - 7 * (i + 1) + 1, newest - 7 * i
        part = (
            closed[(closed["day"] >= lo) & (closed["day"] <= hi)]
            .drop_duplicates("customer_id")
            .set_index("customer_id")
        )
        if part.empty:
            continue
        first = int(part["day"].min())
        x = features(tx, first - 1, customers)
        x = x.loc[x.index.intersection(part.index)]
        x["action_"] = part["action"].reindex(x.index)
        y = pd.Series(0.0, index=x.index)
        for d, who in part.groupby("day"):
            ids = x.index.intersection(who.index)
            y.loc[ids] = spend_after(tx, int(d) - 1, OUTCOME, ids)
        x["outcome_"] = y
        frames.append(x)
    return pd.concat(frames)


def x_learner(train, f, columns):
    from causalml.inference.meta import BaseXRegressor
    from lightgbm import LGBMRegressor

    arm = train["action_"].to_numpy(str)
    share = pd.Series(arm).value_counts(normalize=True)
    arms = sorted(a for a in share.index if a != "control")
    p_of = lambda n: {a: np.full(n, share[a] / (share[a] + share["control"])) for a in arms}  # noqa: E731
    learner = BaseXRegressor(
        learner=LGBMRegressor(**{**LGB, "n_estimators": 100, "min_child_samples": 100}), control_name="control"
    )
    learner.fit(train[columns].to_numpy(np.float32), arm, train["outcome_"].to_numpy(), p=p_of(len(train)))
    te = learner.predict(f[columns].to_numpy(np.float32), p=p_of(len(f)), verbose=False)
    return pd.DataFrame(te, index=f.index, columns=[f"x_{a}" for a in arms])


def segment_effects(train, segment, floor=30):
    """Difference of means per micro-segment and arm, shrunk to the arm's mean effect (one-level empirical Bayes)."""
    t = pd.DataFrame({"segment": segment, "arm": train["action_"].to_numpy(str), "y": train["outcome_"].to_numpy()})
    g = t.groupby(["segment", "arm"])["y"].agg(["mean", "var", "size"]).unstack()
    out = []
    for arm in sorted(set(t["arm"]) - {"control"}):
        n = g["size"][[arm, "control"]].fillna(0)
        e = g["mean"][arm] - g["mean"]["control"]
        se2 = g["var"][arm] / n[arm] + g["var"]["control"] / n["control"]
        ok = (n.min(axis=1) >= floor) & (se2 > 0)
        overall = t.loc[t["arm"] == arm, "y"].mean() - t.loc[t["arm"] == "control", "y"].mean()
        w = 1 / se2[ok]
        tau2 = (
            max(
                0.0,
                float((w * (e[ok] - overall) ** 2).sum() - (ok.sum() - 1)) / float(w.sum() - (w**2).sum() / w.sum()),
            )
            if ok.sum() > 1
            else 0.0
        )
        shrunk = (overall + tau2 / (tau2 + se2.where(ok)) * (e - overall)).fillna(overall)
        out.append(
            pd.DataFrame(
                {"arm": arm, "effect": e, "se": se2**0.5, "treated": n[arm], "control": n["control"], "shrunk": shrunk}
            )
        )
    return pd.concat(out).reset_index()


# ── the run ───────────────────────────────────────────────────────────────────────────────────────────────────────────


class Clock:
    """Seconds and peak memory of each step."""

    def __init__(self):
        self.seconds, self.peak_mb, self.t = {}, {}, STARTED

    def __call__(self, name):
        now = time.time()
        self.seconds[name] = round(self.seconds.get(name, 0) + now - self.t, 3)
        self.peak_mb[name] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        self.t = now


def value(tx, customers, day, f, columns, clock):
    """LTV of every customer, and both models."""
    bg = fit_bgnbd(f)
    clock("ltv_bgnbd_fit")
    ltv = predict_bgnbd(bg, f)
    clock("ltv_bgnbd_predict")
    f90 = features(tx, day - HORIZON, customers)
    y90 = spend_after(tx, day - HORIZON, HORIZON, f90.index)
    clock("features_90_days_ago")
    lgbm = fit_lgbm_ltv(f90, y90, columns)
    clock("ltv_lightgbm_fit")
    ltv["lgbm_ltv"] = lgbm.predict(f[columns].to_numpy(np.float32))
    clock("ltv_lightgbm_predict")
    return ltv, bg, lgbm


def uplift(tx, exposures, customers, day, f, now, models, cut, columns, out, clock):
    """Effects per customer and micro-segment; None if there is nothing to learn them from."""
    if exposures is None:
        return None
    train = uplift_training(tx, exposures, customers, day, COHORTS)
    clock("uplift_features")
    if train is None or not (train["action_"] == "control").any():
        return None
    effects = x_learner(train, f, columns)
    clock("uplift_x_learner")
    then, _ = stages(train, CHURN_AFTER, star_cut=cut)
    by_segment = segment_effects(train, assign(train, then, models)["micro_segment"].to_numpy())
    by_segment.to_parquet(out / "segment_effects.parquet")
    wide = by_segment.pivot(index="segment", columns="arm", values="shrunk").add_prefix("seg_")
    effects = effects.join(wide.reindex(now["micro_segment"]).fillna(wide.mean()).set_axis(now.index))
    clock("uplift_segments")
    return effects


def write(out, f, now, moves, stage_matrix, segment_matrix, ltv, effects):
    """Every result as a Parquet file."""
    profile = now.join(f[["recency", "sum_90", "days_90", "aov"]]).join(ltv)
    if effects is not None:
        profile = profile.join(effects)
    profile = profile.groupby("micro_segment").agg(
        customers=("recency", "size"), **{c: (c, "mean") for c in profile.select_dtypes("number").columns}
    )
    f.reset_index().to_parquet(out / "customer_features.parquet")
    now.reset_index().to_parquet(out / "micro_segments.parquet")
    profile.reset_index().to_parquet(out / "micro_segment_profiles.parquet")
    moves.reset_index().to_parquet(out / "movements.parquet")
    stage_matrix.reset_index().to_parquet(out / "stage_transitions.parquet")
    segment_matrix.to_parquet(out / "segment_transitions.parquet")
    ltv.reset_index().to_parquet(out / "customer_value.parquet")
    if effects is not None:
        effects.reset_index().to_parquet(out / "customer_effects.parquet")


def backfill(tx, customers, day, days, names, cut, models, bg, lgbm, columns, out):
    """Every one of the last `days` days, models frozen."""
    (out / "backfill").mkdir(exist_ok=True)
    earlier = None
    for d in range(day - days, day + 1):
        x = features(tx, d, customers).reindex(columns=names, fill_value=0.0)
        s = assign(x, stages(x, CHURN_AFTER, star_cut=cut)[0], models)
        v = predict_bgnbd(bg, x)
        v["lgbm_ltv"] = lgbm.predict(x[columns].to_numpy(np.float32))
        if earlier is not None:
            name = f"{np.datetime64(d, 'D')}.parquet"
            x.reset_index().to_parquet(out / "backfill" / f"features-{name}")
            s.join(v).reset_index().to_parquet(out / "backfill" / f"segments-{name}")
            movements(earlier, s)[0].reset_index().to_parquet(out / "backfill" / f"movements-{name}")
        earlier = s


def options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--as-of", help="default: the last day in the transactions")
    parser.add_argument(
        "--backfill", type=int, default=0, metavar="DAYS", help="then the last DAYS days, models frozen"
    )
    return parser.parse_args()


def main():
    a = options()
    warnings.filterwarnings("ignore")  # k-means warns wherever a stage has fewer distinct rows than clusters
    out = Path(a.out)
    out.mkdir(parents=True, exist_ok=True)

    clock = Clock()
    import causalml.inference.meta  # noqa: F401
    import lifetimes  # noqa: F401
    import lightgbm  # noqa: F401
    import sklearn.cluster  # noqa: F401

    clock("imports")
    tx, customers, exposures = load(a.data)
    day = int(tx["day"].max()) if a.as_of is None else int((np.datetime64(a.as_of, "D")).astype(int))
    clock("load")
    f = features(tx, day, customers)
    columns = model_columns(f)
    clock("features")
    stage, cut = stages(f, CHURN_AFTER)
    clock("stages")
    models = fit_layers(f, stage)
    clock("layers_fit")
    now = assign(f, stage, models)
    clock("layers_assign")
    f7 = features(tx, day - 7, customers)
    clock("features_week_ago")
    stage7, _ = stages(f7, CHURN_AFTER, star_cut=cut)
    moves, stage_matrix, segment_matrix = movements(assign(f7, stage7, models), now)
    clock("movement")
    ltv, bg, lgbm = value(tx, customers, day, f, columns, clock)
    effects = uplift(tx, exposures, customers, day, f, now, models, cut, columns, out, clock)
    write(out, f, now, moves, stage_matrix, segment_matrix, ltv, effects)
    clock("write")
    before = clock.peak_mb["write"], sum(clock.seconds.values())
    if a.backfill:
        backfill(tx, customers, day, a.backfill, f.columns, cut, models, bg, lgbm, columns, out)
        clock("backfill")

    print(
        json.dumps(
            {
                "customers": len(f),
                "transactions": int(np.searchsorted(tx["day"].to_numpy(), day + 1)),
                "as_of": str(np.datetime64(day, "D")),
                "segments": int(now["micro_segment"].nunique()),
                "stages": stage.value_counts().to_dict(),
                "moved_share": round(float(moves["moved"].mean()), 4),
                "steps": clock.seconds,
                "seconds": round(before[1], 3),
                "peak_mb": before[0],
                "peak_mb_after": clock.peak_mb,
            }
        )
    )


if __name__ == "__main__":
    main()

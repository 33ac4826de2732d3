"""BG/NBD: how many more purchases a customer makes, and whether it is still alive, from three numbers.

Belongs here: the likelihood and what follows from the parameters. Does not belong here: money (see `gamma_gamma`), and
reading a snapshot (see `closed_form`).
"""

from __future__ import annotations

from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ml.value.likelihood import Counts, Floats, counted, maximise
from ml.value.reasons import Note

NODES = 100
NEAR = 1e-5  # closer to a removable singularity than this, the mean of both sides is taken


class BetaGeoModel:
    """The BG/NBD model of repeat purchases.

    While alive, a customer buys at its own rate (gamma across customers: r, alpha) and may leave for good after any
    purchase with its own probability (beta across customers: a, b).

    Attributes
    ----------
    r_, alpha_, a_, b_ : float
        The parameters; alpha_ in the unit of time of `T`.
    standard_errors_ : dict of str to float
        By parameter; NaN where the likelihood has no curvature.
    log_likelihood_ : float
        At the optimum.
    n_customers_ : float
        The sum of the weights.
    converged_ : bool
        Whether the search ended at a point without slope.
    notes_ : tuple of Note
        Codes of what the data do not determine: nobody bought twice, nobody is seen to leave, and so on.

    References
    ----------
    Fader, P. S., Hardie, B. G. S. and Lee, K. L. (2005). "Counting Your Customers" the Easy Way: An Alternative to the
    Pareto/NBD Model. Marketing Science 24(2), 275-284.

    Examples
    --------
    >>> model = BetaGeoModel().fit([2, 0, 5, 1], [30.4, 0, 20.0, 8.0], [38.9, 38.9, 21.0, 30.0])
    >>> bool(0 < model.p_alive(2, 30.43, 38.86) < 1)
    True

    With the parameters of the paper, in weeks, the customer of its example buys 1.226 times in the next 39:

    >>> round(float(BetaGeoModel.of(0.243, 4.414, 0.793, 2.426).conditional_expected_purchases(39, 2, 30.43, 38.86)), 3)
    1.226
    """

    r_: float
    alpha_: float
    a_: float
    b_: float

    @classmethod
    def of(cls, r: float, alpha: float, a: float, b: float) -> Self:
        """Make a model with known parameters.

        Parameters
        ----------
        r, alpha : float
            Shape and rate of the gamma distribution of purchase rates; alpha is in the unit of time of `T`.
        a, b : float
            Parameters of the beta distribution of the probability to leave.

        Returns
        -------
        BetaGeoModel
            A model that predicts; what only a fit knows is not set.
        """
        model = cls()
        model.r_, model.alpha_, model.a_, model.b_ = float(r), float(alpha), float(a), float(b)
        return model

    def fit(self, frequency: ArrayLike, recency: ArrayLike, T: ArrayLike, weights: ArrayLike | None = None) -> Self:
        """Fit the parameters by maximum likelihood.

        Parameters
        ----------
        frequency : array_like of shape (n_customers,)
            Repeat purchases: purchases after the first.
        recency : array_like of shape (n_customers,)
            Time from the first purchase to the last, 0 without a repeat.
        T : array_like of shape (n_customers,)
            Time from the first purchase to now, in the same unit.
        weights : array_like of shape (n_customers,), optional
            Number of customers each row represents; 1 each by default.

        Returns
        -------
        BetaGeoModel
            The model itself.

        Raises
        ------
        ValueError
            If there is no customer, or a row is impossible (negative, a last purchase later than now, or a repeat
            purchase without time in between).
        """
        x, t_x, age, weight = _checked(frequency, recency, T, weights)
        # Time in units of its mean, so that alpha is of the size of the other parameters whatever the clock.
        unit = max(float(np.average(age, weights=weight)), 1e-9)
        (x, t_x, age), weight = counted((x, t_x / unit, age / unit), weight)

        counts = Counts.of(x, weight)

        def objective(theta: Floats) -> tuple[float, Floats]:
            value, gradient = log_likelihood(np.exp(theta), x, t_x, age, weight, counts)
            return -value, -gradient * np.exp(theta)

        rate = max(float(np.sum(weight * x) / np.sum(weight * age)), 1e-3) if age.any() else 1.0
        starts = [(r, r / rate, a, b) for r in (0.3, 2.0) for a, b in ((0.8, 2.4), (0.05, 2.0))]
        optimum = maximise(objective, starts)
        self.r_, self.alpha_, self.a_, self.b_ = (float(v) for v in optimum.values * [1.0, unit, 1.0, 1.0])
        errors = optimum.errors * [1.0, unit, 1.0, 1.0]
        self.standard_errors_ = {name: float(e) for name, e in zip(("r", "alpha", "a", "b"), errors, strict=True)}
        self.log_likelihood_ = -objective(np.log(optimum.values))[0] - float(np.sum(weight * x)) * float(np.log(unit))
        self.n_customers_ = float(weight.sum())
        self.converged_ = optimum.converged
        self.notes_ = self._notes(x, weight, optimum.at_edge)
        return self

    def p_alive(self, frequency: ArrayLike, recency: ArrayLike, T: ArrayLike) -> Floats:
        """Compute the probability that a customer has not left by T.

        Without a repeat purchase it is 1, since in this model nobody leaves before one.

        Parameters
        ----------
        frequency : array_like of shape (n_customers,)
            Repeat purchases: purchases after the first.
        recency : array_like of shape (n_customers,)
            Time from the first purchase to the last, 0 without a repeat.
        T : array_like of shape (n_customers,)
            Time from the first purchase to now, in the same unit.

        Returns
        -------
        np.ndarray of shape (n_customers,)
            Probabilities, 0 to 1.
        """
        x, t_x, age = (np.asarray(v, dtype=float) for v in (frequency, recency, T))
        odds = _log_left_odds(x, t_x, age, self.r_, self.alpha_, self.a_, self.b_)
        return np.asarray(1 / (1 + np.exp(np.minimum(odds, 700.0))))

    def expected_purchases(self, t: float) -> float:
        """Compute the mean purchases of a new customer within time `t` after its first one, not counting that.

        Parameters
        ----------
        t : float
            Time, in the unit of `T`.

        Returns
        -------
        float
            Expected purchases.
        """
        return float(self._if_alive(t, np.zeros(1), np.zeros(1))[0])

    def conditional_expected_purchases(
        self, t: float, frequency: ArrayLike, recency: ArrayLike, T: ArrayLike
    ) -> Floats:
        """Compute the expected purchases within time `t` after T, given what was seen up to T.

        This is equation 10 of the paper after Euler's transformation of the hypergeometric function, which takes the
        number of purchases out of its exponents, so that large numbers do not overflow.

        Parameters
        ----------
        t : float
            Time ahead, in the unit of `T`.
        frequency : array_like of shape (n_customers,)
            Repeat purchases: purchases after the first.
        recency : array_like of shape (n_customers,)
            Time from the first purchase to the last, 0 without a repeat.
        T : array_like of shape (n_customers,)
            Time from the first purchase to now, in the same unit.

        Returns
        -------
        np.ndarray of shape (n_customers,)
            Expected purchases.
        """
        x, t_x, age = np.broadcast_arrays(*(np.asarray(v, dtype=float) for v in (frequency, recency, T)))
        shape = x.shape
        flat_x, flat_age = x.ravel(), age.ravel()
        # Customers of the same age and count have the same expectation while alive: it is computed once per pair.
        order = np.lexsort((flat_age, flat_x))
        xs, ages = flat_x[order], flat_age[order]
        is_new = np.ones(len(order), dtype=bool)
        is_new[1:] = (xs[1:] != xs[:-1]) | (ages[1:] != ages[:-1])
        pair = np.empty(len(order), dtype=np.int64)
        pair[order] = np.cumsum(is_new) - 1
        values = self._if_alive(t, xs[is_new], ages[is_new])
        return np.asarray(values[pair].reshape(shape) * self.p_alive(x, t_x, age))

    def discounted_expected_purchases(
        self, t: float, rate: float, frequency: ArrayLike, recency: ArrayLike, T: ArrayLike, *, steps: int = 12
    ) -> Floats:
        """Compute expected purchases of which each counts ``(1 + rate) ** -time``.

        Parameters
        ----------
        t : float
            Time ahead, in the unit of `T`.
        rate : float
            Discount rate per unit of time.
        frequency : array_like of shape (n_customers,)
            Repeat purchases: purchases after the first.
        recency : array_like of shape (n_customers,)
            Time from the first purchase to the last, 0 without a repeat.
        T : array_like of shape (n_customers,)
            Time from the first purchase to now, in the same unit.
        steps : int
            Number of equal parts of `t`; the purchases of each are discounted from its middle.

        Returns
        -------
        np.ndarray of shape (n_customers,)
            Discounted expected purchases.
        """
        ends = np.linspace(0, t, steps + 1)
        counts = [self.conditional_expected_purchases(end, frequency, recency, T) for end in ends]
        factors = (1 + rate) ** -((ends[1:] + ends[:-1]) / 2)
        return np.asarray(sum(f * (b - a) for f, a, b in zip(factors, counts, counts[1:], strict=False)))

    def _if_alive(self, t: float, x: Floats, age: Floats) -> Floats:
        """Expected purchases within `t` of a customer who is alive after `x` repeats at `age`."""
        if t <= 0:
            return np.zeros(x.shape)
        if abs(self.a_ - 1) < NEAR:
            return np.asarray((self._series(t, x, age, 1 - NEAR) + self._series(t, x, age, 1 + NEAR)) / 2)
        return self._series(t, x, age, self.a_)

    def _series(self, t: float, x: Floats, age: Floats, a: float) -> Floats:
        from scipy.special import hyp2f1

        r, alpha, b = self.r_, self.alpha_, self.b_
        third = a + b + x - 1
        third = np.where(np.abs(third) < NEAR, NEAR, third)  # the product with the bracket stays finite there
        z = t / (alpha + age + t)
        with np.errstate(all="ignore"):
            bracket = 1 - np.exp((a - 1) * np.log1p(-z)) * hyp2f1(a + b - r - 1, a - 1, third, z)
            expected = third / (a - 1) * bracket
        is_lost = ~np.isfinite(expected)  # SciPy gives up on some parameters, most of them at the edge of their range
        for count in np.unique(x[is_lost]):
            rows = is_lost & (x == count)
            expected[rows] = self._integral(t, float(count), age[rows])
        # Never more than a customer who cannot leave would buy.
        maximum = (r + x) / (alpha + age) * t
        return np.clip(np.where(np.isfinite(expected), expected, maximum), 0.0, maximum)

    def _integral(self, t: float, x: float, age: Floats) -> Floats:
        """The same by quadrature over the chance to leave: E[(1 - (1 + p s)^-(r + x)) / p], s = t / (alpha + age)."""
        from scipy.special import betaincinv

        nodes, weights = np.polynomial.legendre.leggauss(NODES)
        v = (nodes + 1) / 2
        rest = v**4 + (1 - v) ** 4  # nodes crowd at both ends, where the quantiles of p run away
        p = np.maximum(betaincinv(self.a_, self.b_ + x, v**4 / rest), 1e-12)
        weights = weights / 2 * 4 * v**3 * (1 - v) ** 3 / rest**2
        share = t / (self.alpha_ + age)
        gone = -np.expm1(-(self.r_ + x) * np.log1p(np.outer(share, p)))
        # Not as a matrix product: how that adds up a row depends on how many rows there are.
        return np.asarray(np.sum(gone * (weights / p), axis=1))

    def _notes(self, x: Floats, weight: Floats, at_edge: NDArray[np.bool_]) -> tuple[Note, ...]:
        if not np.any(x > 0):
            return (Note.NOBODY_BOUGHT_TWICE,)
        notes: list[Note] = []
        if weight.sum() < 2:
            notes.append(Note.ONE_CUSTOMER)
        if at_edge[2] or self.a_ / (self.a_ + self.b_) < 1e-4:
            notes.append(Note.NO_LEAVING)
        if (at_edge[0] and self.r_ > 1) or at_edge[1]:
            notes.append(Note.ALIKE_IN_RHYTHM)
        if at_edge[3]:
            notes.append(Note.ALIKE_IN_LEAVING)
        return tuple(notes)


def _log_left_odds(x: Floats, t_x: Floats, age: Floats, r: float, alpha: float, a: float, b: float) -> Floats:
    """Log odds of having left: 0 chance (minus infinity) without a repeat purchase."""
    repeats = np.maximum(x, 1)
    odds = np.log(a) - np.log(b + repeats - 1) + (r + x) * (np.log(alpha + age) - np.log(alpha + t_x))
    return np.where(x > 0, odds, -np.inf)


def log_likelihood(
    parameters: Floats, x: Floats, t_x: Floats, age: Floats, weight: Floats, counts: Counts | None = None
) -> tuple[float, Floats]:
    """Weighted log-likelihood (equation 6 of the paper, in logarithms) and its gradient."""
    from scipy.special import digamma, expit, gammaln

    r, alpha, a, b = (float(v) for v in parameters)
    # Gamma functions depend on x alone, which takes few values.
    counts = Counts.of(x, weight) if counts is None else counts
    values, share = counts.values, counts.weight
    total = weight.sum()
    gammas = (
        np.sum(share * (gammaln(r + values) + gammaln(b + values) - gammaln(a + b + values)))
        + total * (gammaln(a + b) - gammaln(r) - gammaln(b) + r * np.log(alpha))
    )  # fmt: skip
    log_age, log_t, rate = np.log(alpha + age), np.log(alpha + t_x), r + x
    repeats = np.maximum(values, 1)
    lead = np.where(values > 0, np.log(a) - np.log(b + repeats - 1), -np.inf)[counts.of_row]
    odds = lead + rate * (log_age - log_t)
    value = gammas + np.sum(weight * (np.logaddexp(0.0, odds) - rate * log_age))

    left = weight * expit(odds)
    by_r = np.sum(share * digamma(r + values)) - total * (digamma(r) - np.log(alpha))
    by_r += np.sum(left * (log_age - log_t)) - np.sum(weight * log_age)
    by_alpha = total * r / alpha - np.sum(weight * rate / (alpha + age))
    by_alpha += np.sum(left * rate * (1 / (alpha + age) - 1 / (alpha + t_x)))
    by_a = total * digamma(a + b) - np.sum(share * digamma(a + b + values)) + left.sum() / a
    by_b = np.sum(share * (digamma(b + values) - digamma(a + b + values))) + total * (digamma(a + b) - digamma(b))
    by_b -= np.sum(left / (b + repeats[counts.of_row] - 1))
    return float(value), np.array([by_r, by_alpha, by_a, by_b])


def _checked(
    frequency: ArrayLike, recency: ArrayLike, T: ArrayLike, weights: ArrayLike | None
) -> tuple[Floats, Floats, Floats, Floats]:
    x, t_x, age = (np.atleast_1d(np.asarray(v, dtype=float)) for v in (frequency, recency, T))
    weight = np.ones(x.shape) if weights is None else np.atleast_1d(np.asarray(weights, dtype=float))
    if not (x.shape == t_x.shape == age.shape == weight.shape) or x.ndim != 1:
        raise ValueError("frequency, recency, T and weights must be arrays of the same length")
    if not x.size or not weight.sum() > 0:
        raise ValueError("there is no customer to learn from")
    wrong = {
        "is not a number or negative": ~np.isfinite(x + t_x + age + weight)
        | (np.min([x, t_x, age, weight], axis=0) < 0),
        "has its last purchase after now (recency > T)": t_x > age,
        "has time between purchases but no repeat purchase": (x == 0) & (t_x > 0),
        "has repeat purchases without time in between: count a day's purchases once": (x > 0) & (t_x == 0),
    }
    for words, rows in wrong.items():
        if rows.any():
            raise ValueError(f"row {int(np.flatnonzero(rows)[0])} {words}; {int(rows.sum())} such rows")
    return x, t_x, age, weight

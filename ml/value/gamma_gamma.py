"""Gamma-Gamma: the mean value of a customer's purchases, from those seen.

Belongs here: the likelihood and what follows from the parameters. Does not belong here: how often customers buy (see
`bgnbd`).
"""

from __future__ import annotations

from typing import Self

import numpy as np
from numpy.typing import ArrayLike

from ml.value.likelihood import Counts, Floats, counted, maximise
from ml.value.reasons import Note


class GammaGammaModel:
    """The Gamma-Gamma model of spend per purchase.

    A customer's purchases scatter around its own mean (gamma with shape p), and means vary over customers (their rate
    is gamma distributed: q, gamma), independently of how often they buy.

    Attributes
    ----------
    p_, q_, gamma_ : float
        The parameters; gamma_ in the currency of `monetary_value`.
    standard_errors_ : dict of str to float
        By parameter; NaN where the likelihood has no curvature.
    log_likelihood_ : float
        At the optimum.
    n_customers_ : float
        The sum of the weights of customers with a purchase of positive value.
    converged_ : bool
        Whether the search ended at a point without slope.
    notes_ : tuple of Note
        Codes of what the data do not determine.

    References
    ----------
    Fader, P. S. and Hardie, B. G. S. (2013). The Gamma-Gamma Model of Monetary Value.
    http://www.brucehardie.com/notes/025/

    Examples
    --------
    >>> model = GammaGammaModel.of(6.25, 3.74, 15.44)
    >>> round(float(model.conditional_expected_average_value(0, 0.0)), 1)
    35.2
    """

    p_: float
    q_: float
    gamma_: float

    @classmethod
    def of(cls, p: float, q: float, gamma: float) -> Self:
        """Make a model with known parameters.

        Parameters
        ----------
        p : float
            Shape of the gamma distribution of a customer's purchases.
        q, gamma : float
            Shape and rate of the gamma distribution across customers; gamma is in currency.

        Returns
        -------
        GammaGammaModel
            A model that predicts; what only a fit knows is not set.
        """
        model = cls()
        model.p_, model.q_, model.gamma_ = float(p), float(q), float(gamma)
        return model

    def fit(self, frequency: ArrayLike, monetary_value: ArrayLike, weights: ArrayLike | None = None) -> Self:
        """Fit the parameters by maximum likelihood.

        Rows without a purchase, or whose mean is not above 0, are left out.

        Parameters
        ----------
        frequency : array_like of shape (n_customers,)
            Number of purchases that the mean was taken over.
        monetary_value : array_like of shape (n_customers,)
            Mean value of these purchases, in currency.
        weights : array_like of shape (n_customers,), optional
            Number of customers each row represents; 1 each by default.

        Returns
        -------
        GammaGammaModel
            The model itself.

        Raises
        ------
        ValueError
            If no row is left, or the arrays do not match.
        """
        x, mean = (np.atleast_1d(np.asarray(v, dtype=float)) for v in (frequency, monetary_value))
        weight = np.ones(x.shape) if weights is None else np.atleast_1d(np.asarray(weights, dtype=float))
        if not x.shape == mean.shape == weight.shape or x.ndim != 1:
            raise ValueError("frequency, monetary_value and weights must be arrays of the same length")
        used = np.isfinite(x + mean + weight) & (x > 0) & (mean > 0) & (weight > 0)
        if not used.any():
            raise ValueError("there is no customer with a purchase of positive value to learn from")
        unit = float(np.average(mean[used], weights=weight[used]))
        (x, mean), weight = counted((x[used], mean[used] / unit), weight[used])

        counts, log_mean = Counts.of(x, weight), np.log(mean)

        def objective(theta: Floats) -> tuple[float, Floats]:
            value, gradient = _log_likelihood(np.exp(theta), x, mean, log_mean, weight, counts)
            return -value, -gradient * np.exp(theta)

        optimum = maximise(objective, [(p, q, (q - 1) / p) for p in (1.0, 6.0) for q in (2.0, 6.0)])
        self.p_, self.q_, self.gamma_ = (float(v) for v in optimum.values * [1.0, 1.0, unit])
        errors = optimum.errors * [1.0, 1.0, unit]
        self.standard_errors_ = {name: float(e) for name, e in zip(("p", "q", "gamma"), errors, strict=True)}
        self.log_likelihood_ = -objective(np.log(optimum.values))[0] - float(weight.sum()) * float(np.log(unit))
        self.n_customers_ = float(weight.sum())
        self.converged_ = optimum.converged
        notes: list[Note] = []
        if weight.sum() < 2:
            notes.append(Note.ONE_CUSTOMER)
        if optimum.at_edge[0] or self.p_ > 1e4:
            notes.append(Note.PURCHASES_ALIKE)
        if optimum.at_edge[1] or optimum.at_edge[2]:
            notes.append(Note.ALIKE_IN_SPEND)
        if self.q_ <= 1:
            notes.append(Note.NO_MEAN)
        self.notes_ = tuple(notes)
        return self

    @property
    def mean_value(self) -> float:
        """Mean value of a purchase over customers in currency, p gamma / (q - 1); infinite if q ≤ 1."""
        return self.p_ * self.gamma_ / (self.q_ - 1) if self.q_ > 1 else float("inf")

    def conditional_expected_average_value(self, frequency: ArrayLike, monetary_value: ArrayLike) -> Floats:
        """Compute the expected value of a customer's purchases, given the mean of those seen.

        It lies between that mean and everybody's; without a purchase it is everybody's. A mean below 0 (more returned
        than bought) counts as 0.

        Parameters
        ----------
        frequency : array_like of shape (n_customers,)
            Number of purchases seen.
        monetary_value : array_like of shape (n_customers,)
            Their mean value, in currency.

        Returns
        -------
        np.ndarray of shape (n_customers,)
            Expected value of a purchase, in currency.
        """
        x, mean = (np.asarray(v, dtype=float) for v in (frequency, monetary_value))
        seen = np.where(x > 0, x * np.maximum(np.nan_to_num(mean), 0.0), 0.0)
        weight = self.p_ * x + self.q_ - 1
        with np.errstate(divide="ignore", invalid="ignore"):
            value = np.where(weight > 0, self.p_ * (self.gamma_ + seen) / weight, np.inf)
        return np.asarray(value)


def _log_likelihood(
    parameters: Floats, x: Floats, mean: Floats, log_mean: Floats, weight: Floats, counts: Counts
) -> tuple[float, Floats]:
    """Weighted log-likelihood of customers' means (equation 1a of the paper) and its gradient."""
    from scipy.special import digamma, gammaln

    p, q, gamma = (float(v) for v in parameters)
    values, share = counts.values, counts.weight
    total, shape, sums = weight.sum(), p * x + q, gamma + mean * x
    log_sum = np.log(sums)
    value = (
        np.sum(share * (gammaln(p * values + q) - gammaln(p * values) + p * values * np.log(values)))
        + total * (q * np.log(gamma) - gammaln(q))
        + np.sum(weight * ((p * x - 1) * log_mean - shape * log_sum))
    )
    by_p = np.sum(share * values * (digamma(p * values + q) - digamma(p * values) + np.log(values)))
    by_p += np.sum(weight * x * (log_mean - log_sum))
    by_q = np.sum(share * digamma(p * values + q)) + total * (np.log(gamma) - digamma(q)) - np.sum(weight * log_sum)
    by_gamma = total * q / gamma - np.sum(weight * shape / sums)
    return float(value), np.array([by_p, by_q, by_gamma])

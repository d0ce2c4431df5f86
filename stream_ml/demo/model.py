"""The demo's model: numbers scaled, categories one-hot, logistic regression.

Delays come in days: a storm makes all flights late. So the intercept learns faster than the weights.
"""

from typing import Any

from river import compose, linear_model, optim, preprocessing

NUMBERS = ("distance", "hour", "month", "weekday")
CATEGORIES = ("carrier", "origin", "destination", "hour", "month", "weekday")


def build() -> Any:
    """A new, untrained pipeline for the flights' features."""
    numbers = compose.Select(*NUMBERS) | preprocessing.StandardScaler()
    categories = compose.Select(*CATEGORIES) | preprocessing.OneHotEncoder(drop_zeros=True)
    return (numbers + categories) | linear_model.LogisticRegression(optim.SGD(0.005), intercept_lr=0.05)

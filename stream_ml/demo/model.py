"""The demo's model: numbers scaled, categories one-hot, logistic regression."""

from typing import Any

from river import compose, linear_model, optim, preprocessing


def build() -> Any:
    """A new, untrained pipeline for the flights' features."""
    numbers = compose.SelectType(int, float) | preprocessing.StandardScaler()
    categories = compose.SelectType(str) | preprocessing.OneHotEncoder()
    return (numbers + categories) | linear_model.LogisticRegression(optim.SGD(0.005))

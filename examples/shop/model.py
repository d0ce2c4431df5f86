"""The model: what `build` gives learns from every label. Change it freely: that begins another lineage."""

from river import compose, linear_model, preprocessing


def build():
    """A new, untrained River estimator; it must be the same each time (give every random part a seed)."""
    numbers = compose.SelectType(int, float) | preprocessing.StandardScaler()
    texts = compose.SelectType(str) | preprocessing.OneHotEncoder(drop_zeros=True)
    return (numbers + texts) | linear_model.LogisticRegression()

"""Words of a review, and naive Bayes over them."""

from river import feature_extraction, naive_bayes


def build():
    return feature_extraction.BagOfWords(on="text", lowercase=True) | naive_bayes.MultinomialNB(alpha=1.0)

"""Looking inside a trained model: what it computes on the way from a text to its predictions, in numbers and pictures.

Nothing in here changes a model: numbers are taken by hooks from outside, which are gone afterwards.
"""

"""The nouns: boards, tiers, recipes, tensor types, manifests, bundles and the files they lie in.

Standard library only, so that both the laptop and the smallest board can import it. Owns no sums:
what fits and how fast it is, is worked out in ``planning``.
"""

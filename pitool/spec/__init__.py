"""The nouns of pitool: boards, tiers, recipes, formats, manifests and the sums over them.

Standard library only, so that both the laptop and the smallest board can import it.
"""

"""The sums over the nouns: bytes, memory, speed, offers, and the verdicts made of them.

Standard library only. Never prints and never looks at this machine: what is here is handed in.
"""

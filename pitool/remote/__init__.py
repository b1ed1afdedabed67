"""Other machines over OpenSSH: for push and for benches of several boards.

Owns no password and no key: what works in the shell works here.
"""

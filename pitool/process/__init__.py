"""Child processes: how one is started, talked with and ended, and what its death means.

Used for what may crash or cannot be interrupted: a loaded model, a technique of the lab, the
quantiser of llama.cpp. Owns the process and the messages; knows nothing of what they say.
"""

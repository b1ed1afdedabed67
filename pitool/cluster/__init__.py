"""One model over several boards, by llama.cpp's RPC backend.

A board serves its CPU and memory (``server``); whoever asks knows the boards by the name of a
cluster (``members``), looks at them before it connects (``connection``) and has the layers split as
the plan says (``loading``). The protocol is llama.cpp's; beside it a board tells how it is.
"""

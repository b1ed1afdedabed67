"""What the board is and how it is doing: detection, memory, sensors.

Reads ``/proc`` and ``/sys`` below a root that can be given, so that a recorded tree stands for a
board. What is missing is None, which means unknown. Standard library only; changes nothing.
"""

"""What makes a model slow here, or stops it, and how to mend it.

``examination`` holds the tables of checks and runs them; the checks stand by topic, and each takes
a ``finding.System`` and returns a ``finding.Finding``. Nothing is changed, nothing needs root.
"""

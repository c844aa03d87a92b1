"""The work of an audit on several processes and machines, by Ray actors.

`driver.py` says who does what, `pool.py` keeps the actors, `worker.py` is one of them.
"""

"""Real runs of `launch.pretrain`, disturbed at random moments, that must end as runs that never were.

`python -m tests.chaos` tries every fault and prints a table. A trial (`trials`) disturbs a run (`runs`), sees
at how it ended, gives the same command again until it is finished, and compares whole state and metrics with
those of an undisturbed run, bit for bit.
"""

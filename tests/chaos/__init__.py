"""Trials that disturb real runs of `launch.pretrain`.

A trial (`trials`) starts a run (`runs`), applies a fault (`process_faults`, `disk_faults`, `number_faults`,
`host_faults`) and looks at how the run ends. Then it gives the same command until the run is finished, and
compares the whole state and all metrics with those of an undisturbed run, bit for bit.

`make chaos` tries every fault at random moments. `tests/endurance/test_chaos*.py` try most faults, at fixed
steps at which the run pauses.
"""

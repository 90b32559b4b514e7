"""Watches one process of a run: signals, hangs, slow steps, losses that are not finite.

=================================  ==========================  =========================  =========
fault                              who notices                 after how long             exit code
=================================  ==========================  =========================  =========
SIGTERM, Ctrl-C                    `signals.StopSignals`       the current step           75, 130
the same while the run starts      `signals.StopSignals`       at most 10 s               143, 130
a second signal                    `signals.StopSignals`       at once                    143, 130
no step, save or evaluation ends   `deadline.Deadline`         `faults.minutes` (30)      70
the interpreter is blocked         `faulthandler`, in C        1.25 × that, plus 1 min    1
a step or a save is slow           `watchdog.Watchdog`         10 × the median            goes on
one host holds up the others       `heartbeats.Heartbeats`     with the slow step         goes on
a loss or gradient is not finite   `loss_guard.LossGuard`      two steps                  goes on
ten of them in a row               `loss_guard.LossGuard`      two steps                  1
a loss jumps                       `loss_guard.LossGuard`      two steps                  goes on
a checkpoint was not saved         `supervisor.Supervisor`     two steps                  1
stdout or stderr is closed         `standard_streams`          at once                    goes on
=================================  ==========================  =========================  =========

`hosts.liveness` notices that another host is gone. `docs/operations.md` has the table of all faults.
"""

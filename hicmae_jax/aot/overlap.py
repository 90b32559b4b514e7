"""How long the messages of a compiled step need the links, and how much of that runs beside other work.

The model:

- In each direction a chip passes on about the bytes of a gather's result or of a scatter's input, and twice
  the bytes of a sum. All its links are busy at the rate that the maker states. Between hosts of GPUs, each
  GPU then passes on its share of them over its own port of the network.
- An instruction takes its roofline time: its arithmetic at the chip's peak, or its bytes, padding included,
  at the bandwidth of main memory, whichever is longer.
- A message that waits costs its whole time. One that runs beside other work costs only what exceeds the time
  of the instructions in its window (`hlo.windows`). A second of work hides one second of messages: messages
  that are on their way together share the links, so they share the work, too.
- Copies that run beside other work themselves, and instructions that send messages, hide nothing.
"""

import dataclasses
from collections.abc import Mapping, Sequence

from hicmae_jax.aot.hlo.collectives import Collective, collectives
from hicmae_jax.aot.hlo.loops import trip_count
from hicmae_jax.aot.hlo.program import Computation, Instruction, Program
from hicmae_jax.aot.hlo.traffic import Executed, branches
from hicmae_jax.aot.hlo.windows import window
from hicmae_jax.training.chips import Chip

_ASYNCHRONOUS_CALLS = ("async-start", "call-start")


@dataclasses.dataclass(frozen=True)
class Message:
    """A message and its time.

    Attributes:
        collective: the message.
        seconds: that it needs the links in a step.
        beside: seconds of those in which other instructions run.
    """

    collective: Collective
    seconds: float
    beside: float


@dataclasses.dataclass(frozen=True)
class Links:
    """The links between the chips that a program is for.

    Attributes:
        chip: whose `links` are known.
        hosts: number of hosts, which matters where a `network` joins them.
        chips: of each host.
    """

    chip: Chip
    hosts: int = 1
    chips: int = 2

    def seconds(self, kind: str, size: float) -> float:
        """The least time that a chip's links need for a message, in seconds.

        Args:
            kind: `all-reduce`, `all-gather`, ….
            size: bytes of the inputs or of the results, whichever are more.
        """
        links, network = self.chip.links, self.chip.network
        assert links, f"the rate of the links of {self.chip.name} is not known"
        crossing = size * (2 if kind == "all-reduce" else 1)
        # Both rates are of both directions together.
        if not network:
            return crossing / (links / 2)
        inside = crossing / (links / 2) if self.chips > 1 else 0.0
        return inside + (crossing / self.chips / (network / 2) if self.hosts > 1 else 0.0)


def messages(program: Program, executed: Sequence[Executed], links: Links) -> list[Message]:
    """Every message of a program with its time, by bytes in a step, the largest first.

    Args:
        program: the compiled step.
        executed: its executed instructions, from `hlo.traffic.Walk`.
        links: between the chips that it was compiled for, whose `bandwidth` is known.
    """
    found = _Timeline(program, executed, links)
    found.visit(program.entry, 1)
    return sorted(found.messages, key=lambda message: -message.collective.total)


class _Timeline:
    """Follows a program and finds, for each message, the work beside it."""

    def __init__(self, program: Program, executed: Sequence[Executed], links: Links) -> None:
        self.messages: list[Message] = []
        self._program = program
        self._executed: Mapping[int, Executed] = {id(each.instruction): each for each in executed}
        self._links, self._chip = links, links.chip

    def visit(self, computation: Computation, times: int) -> float:
        """Times the messages of a computation and of those it calls.

        Args:
            computation: to follow.
            times: how often a step executes it.

        Returns:
            Seconds of its work, each time, that no message of its own runs beside.
        """
        free = {each.name: self._work(each, computation, times) for each in computation}
        started = []
        for instruction in computation:
            for sent in self._sent(instruction):
                sent = dataclasses.replace(sent, times=times)
                if sent.asynchronous:
                    started.append((window(instruction, computation, self._program), sent))
                else:
                    self._add(sent, 0.0)
        for during, sent in sorted(started, key=lambda pair: pair[0].end):
            self._add(sent, self._claim(free, during.beside, self._links.seconds(sent.kind, sent.bytes)))
        return sum(free.values())

    def _add(self, sent: Collective, beside: float) -> None:
        seconds = self._links.seconds(sent.kind, sent.bytes)
        self.messages.append(Message(sent, seconds * sent.times, beside * sent.times))

    @staticmethod
    def _claim(free: dict[str, float], names: Sequence[str], needed: float) -> float:
        """Takes so many seconds of work, or what is left, from some instructions; returns the seconds."""
        taken = 0.0
        for name in names:
            part = min(free[name], needed - taken)
            free[name] -= part
            taken += part
        return taken

    def _sent(self, instruction: Instruction) -> list[Collective]:
        """The messages that an instruction starts, or sends and awaits."""
        parts = [instruction]
        if instruction.opcode in _ASYNCHRONOUS_CALLS:
            parts = list(self._program.called(instruction, "to_apply", "calls"))
        return collectives(self._executed[id(part)] for part in parts if id(part) in self._executed)

    def _work(self, instruction: Instruction, computation: Computation, times: int) -> float:
        """Seconds of an instruction that messages may run beside."""
        opcode, called = instruction.opcode, self._program.called
        if opcode == "while":
            count = trip_count(instruction, computation, self._program) or 1
            parts = (called(instruction, part) for part in ("condition", "body"))
            return count * sum(self.visit(part, times * count) for part in parts)
        if opcode == "conditional":  # only the branch that was walked has executed instructions
            return sum(self.visit(branch, times) for branch in branches(instruction, self._program))
        if opcode == "call":
            return self.visit(called(instruction, "to_apply"), times)
        each = self._executed.get(id(instruction))
        if each is None or each.collectives or opcode.endswith("-start"):
            return 0.0
        assert self._chip.bandwidth, f"the memory bandwidth of {self._chip.name} is not known"
        return max(each.flops / self._chip.flops, each.moved.padded / self._chip.bandwidth)

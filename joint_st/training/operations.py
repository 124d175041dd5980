"""Which operations of a traced step cost most: from a trace of JAX's profiler and the text of the compiled step."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import jax


class Event(NamedTuple):
    """One execution of an operation."""

    name: str
    """Name of the HLO instruction; that of the kernel where XLA does not tell the instruction."""
    start: float
    """Time in ns."""
    duration: float
    """Time in ns, with that of the events inside it."""
    line: str
    """Thread or queue; events of one line follow each other or lie within each other, as a loop and its body do."""
    device: str
    program: str = ""
    """Compiled program, `jit_train_step(7)`; empty if the trace does not tell."""


class Instruction(NamedTuple):
    """What an HLO instruction computes, and the line of the source that asks for it."""

    operation: str = ""
    source: str = ""


class Program(NamedTuple):
    """A compiled program: the name of its module, and its instructions by name."""

    module: str
    instructions: Mapping[str, Instruction]


class Operation(NamedTuple):
    """The cost of an operation, for each step and device."""

    name: str
    instruction: Instruction
    calls: float
    ms: float
    """Time without that of the operations inside it."""
    share: float
    """Part of the time of all operations."""


class Costs(NamedTuple):
    """All operations of the traced steps, the costliest first."""

    operations: list[Operation]
    busy_ms: float
    """Time for each step in which a device ran at least one operation."""
    unknown: float
    """Share of the time in operations that are in none of the programs."""


def costs(events: Sequence[Event], programs: Sequence[Program], steps: int) -> Costs:
    """Return what the operations of some steps cost.

    programs: programs of the steps, in the order in which they first ran. Events of other programs are left out.
    """
    modules = {"", *(program.module for program in programs)}
    events = [event for event in events if event.program.partition("(")[0] in modules]
    instructions = _instructions_by_program(events, programs)
    parts = steps * max(len({event.device for event in events}), 1)
    calls, times = defaultdict(int), defaultdict(float)
    for event, own in zip(events, self_times(events), strict=True):
        key = event.name, instructions[event.program].get(event.name)
        calls[key] += 1
        times[key] += own
    total = sum(times.values())
    found = [
        Operation(name, known or Instruction(), calls[name, known] / parts, time / parts / 1e6, time / total)
        for (name, known), time in times.items()
        if time
    ]
    found.sort(key=lambda operation: -operation.ms)
    unknown = sum(time for (_, known), time in times.items() if known is None)
    return Costs(found, _busy(events) / parts / 1e6, unknown / total if total else 0.0)


def _instructions_by_program(
    events: Sequence[Event], programs: Sequence[Program]
) -> dict[str, Mapping[str, Instruction]]:
    """Return the instructions of each program of a trace.

    A trace has no text of a program, and the programs for several shapes have one name. A program is the one that has
    most of the names; if several have, the one that first ran when it did.
    """
    names: dict[str, set[str]] = {}
    for event in sorted(events, key=lambda event: event.start):
        names.setdefault(event.program, set()).add(event.name)
    found: dict[str, Mapping[str, Instruction]] = {"": {}}
    for n, (program, own) in enumerate(item for item in names.items() if item[0]):
        ranks = [(len(own & one.instructions.keys()), k == n) for k, one in enumerate(programs)]
        found[program] = programs[ranks.index(max(ranks))].instructions if ranks else {}
    return found


def self_times(events: Sequence[Event]) -> list[float]:
    """Return the time of each event without that of the events inside it on its line."""
    times = [event.duration for event in events]
    order = sorted(range(len(events)), key=lambda k: (events[k].line, events[k].start, -events[k].duration))
    around: list[int] = []
    for k in order:
        line, start = events[k].line, events[k].start
        while around and (events[around[-1]].line != line or _end(events[around[-1]]) <= start):
            around.pop()
        if around:
            times[around[-1]] -= min(_end(events[k]), _end(events[around[-1]])) - start
        around.append(k)
    return times


def _end(event: Event) -> float:
    return event.start + event.duration


def _busy(events: Iterable[Event]) -> float:
    """Return the time in ns in which each device ran at least one operation, summed over devices."""
    total, ends = 0.0, defaultdict(float)
    for event in sorted(events, key=lambda event: event.start):
        total += max(_end(event) - max(event.start, ends[event.device]), 0.0)
        ends[event.device] = max(ends[event.device], _end(event))
    return total


# A trace


TRACE = ".xplane.pb"
"""End of the names of the files in which the profiler writes a trace."""


def start_trace(folder: str) -> None:
    """Trace the devices into a folder from here on, without the calls of Python functions, which would slow them down;
    `jax.profiler.stop_trace` ends it."""
    options = jax.profiler.ProfileOptions()
    options.python_tracer_level = 0
    jax.profiler.start_trace(folder, profiler_options=options)


def read_trace(folder: str) -> list[Event]:
    """Return the operations of all devices in the traces of a folder."""
    traces = (jax.profiler.ProfileData.from_file(str(file)) for file in sorted(Path(folder).rglob(f"*{TRACE}")))
    return [event for trace in traces for event in read_events(trace.planes)]


def read_events(planes: Iterable) -> list[Event]:
    """Return the operations of all devices in the planes of a trace, `jax.profiler.ProfileData.planes`.

    TPUs and GPUs have a plane each. On a CPU, the threads of the host's plane run the operations.
    """
    planes = list(planes)
    found = [event for plane in planes if _DEVICE.match(plane.name) for event in _events_of_device(plane)]
    return found or [event for plane in planes if plane.name == "/host:CPU" for event in _events_of_host(plane)]


_DEVICE = re.compile(r"/device:[TG]PU:\d+")


def _events_of_device(plane) -> Iterator[Event]:
    lines = list(plane.lines)
    spans = sorted(
        (event.start_ns, event.start_ns + event.duration_ns, event.name)
        for line in lines
        if line.name == "XLA Modules"
        for event in line.events
    )
    starts = [start for start, _, _ in spans]
    # A TPU has one line of operations. A GPU may have that too, or else one of kernels for each stream.
    chosen = [line for line in lines if line.name == "XLA Ops"] or [
        line for line in lines if line.name.startswith("Stream")
    ]
    for n, line in enumerate(chosen):
        for event in line.events:
            stats = dict(event.stats)
            program = _program(stats)
            if not program and (k := bisect_right(starts, event.start_ns)) and event.start_ns < spans[k - 1][1]:
                program = spans[k - 1][2]
            name = stats.get("hlo_op") or _name(event.name)
            yield Event(name, event.start_ns, event.duration_ns, f"{plane.name} {n}", plane.name, program)


def _events_of_host(plane) -> Iterator[Event]:
    for n, line in enumerate(plane.lines):
        for event in line.events:
            stats = dict(event.stats)
            if name := stats.get("hlo_op"):
                device = str(stats.get("device_ordinal", 0))
                yield Event(name, event.start_ns, event.duration_ns, str(n), device, _program(stats))


def _program(stats: Mapping) -> str:
    return f"{stats['hlo_module']}({stats.get('program_id', '')})" if "hlo_module" in stats else ""


def _name(text: str) -> str:
    """Return the name of an instruction; a TPU's trace has its whole text, `%copy.1 = f32[8] copy(...)`."""
    return text.partition(" = ")[0].removeprefix("%")


# The text of a compiled program


def read_program(text: str) -> Program:
    """Return what the text of a compiled program, `compiled.as_text()`, tells of its instructions."""
    sources = _Sources(text)
    found: dict[str, Instruction] = {}
    fused: dict[str, str] = {}
    roots: dict[str, str] = {}
    computation = ""
    for line in text.splitlines():
        if match := _INSTRUCTION.match(line):
            root, name = match.groups()
            metadata = _OP_NAME.search(line)
            frame = _FRAME.search(line)
            found[name] = Instruction(
                _operation(metadata[1]) if metadata else "", sources[frame[1]] if frame and metadata else ""
            )
            if root:
                roots[computation] = name
            if not metadata and (called := _CALLS.search(line)):
                fused[name] = called[1]
        elif match := _COMPUTATION.match(line):
            computation = match[1]
    for name, called in fused.items():  # the last operation of a fusion tells what it is for
        found[name] = found.get(roots.get(called, ""), Instruction())
    return Program(_MODULE.match(text)[1], found)


_MODULE = re.compile(r"HloModule ([^,\s]+)")
_COMPUTATION = re.compile(r"(?:ENTRY )?%?([\w.\-]+) .*\{$")
_INSTRUCTION = re.compile(r"\s+(ROOT )?%?([\w.\-]+) = ")
_OP_NAME = re.compile(r'metadata=\{[^}]*?op_name="([^"]*)"')
_FRAME = re.compile(r"stack_frame_id=(\d+)")
_CALLS = re.compile(r"calls=%?([\w.\-]+)")


def _operation(op_name: str) -> str:
    """Return the JAX operation at the end of a path such as `jit(step)/transpose(jvp())/while/body/dot_general`."""
    name = op_name.rpartition("/")[2] or op_name
    name = name.removeprefix("jit(").removesuffix(")") if name.startswith("jit(") else name
    if "rematted_computation" in op_name:
        return f"{name}, computed again"
    return f"{name}, backward" if "transpose(" in op_name else name


class _Sources:
    """The stack frames of a program's text, as lines of the source by the number of the innermost frame."""

    def __init__(self, text: str):
        self._files = {key: value.strip('"') for key, value in _table(text, "FileNames")}
        self._functions = {key: value.strip('"') for key, value in _table(text, "FunctionNames")}
        self._places = {key: dict(_FIELD.findall(value)) for key, value in _table(text, "FileLocations")}
        self._frames = {key: dict(_FIELD.findall(value)) for key, value in _table(text, "StackFrames")}
        # XLA prints the number of the caller's frame plus one; the first frame, which has no caller, shows whether.
        self._offset = int(self._frames.get("1", {}).get("parent_frame_id", 0))

    def __getitem__(self, frame: str) -> str:
        """Return function and line of the innermost frame that is in no other package; empty where there is none."""
        while frame in self._frames:
            fields = self._frames[frame]
            place = self._places.get(fields.get("file_location_id", ""), {})
            file = self._files.get(place.get("file_name_id", ""), "")
            if file and _is_own(file):
                function = self._functions.get(place.get("function_name_id", ""), "").rpartition("<locals>.")[2]
                _, inside, shown = file.rpartition(f"/{_PACKAGE}/")
                return f"{function}, {shown if inside else Path(file).name}:{place.get('line', '?')}"
            caller = str(int(fields.get("parent_frame_id", 0)) - self._offset)
            if int(caller) >= int(frame):  # callers come first
                break
            frame = caller
        return ""


def _table(text: str, name: str) -> list[tuple[str, str]]:
    found = re.search(rf"^{name}\n((?:\d+ .*\n)*)", text, re.MULTILINE)
    return [(line.partition(" ")[0], line.partition(" ")[2]) for line in found[1].splitlines()] if found else []


_FIELD = re.compile(r"(\w+)=(\d+)")
_PACKAGE = __name__.partition(".")[0]
_OTHERS = re.compile(r"/(site|dist)-packages/|/lib/python3\.\d+/")


def _is_own(file: str) -> bool:
    """Return whether a file is in this package, or a user's. Programs from a cache name files of other machines."""
    return f"/{_PACKAGE}/" in file or not _OTHERS.search(file)


# What is printed

SHOWN = 10
"""Operations that are printed."""


def describe(found: Costs, step_ms: float, shown: int = SHOWN) -> list[str]:
    """Return the lines of a table of the costliest operations. step_ms: wall time of a step."""
    lines = [
        f"{step_ms:.1f} ms a step; a device computes {found.busy_ms:.1f} ms of them ({found.busy_ms / step_ms:.0%}) and "
        "waits for the host or other devices the rest"
    ]
    head = ("ms a step", "share", "calls a step", "HLO", "operation", "source")
    rows = [
        (
            f"{operation.ms:.2f}",
            f"{operation.share:.1%}",
            f"{operation.calls:.4g}",
            _cut(operation.name, 32),
            _cut(operation.instruction.operation, 32),
            operation.instruction.source,
        )
        for operation in found.operations[:shown]
    ]
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    for row in (head, *rows):
        numbers = [text.rjust(width) for text, width in zip(row[:3], widths[:3], strict=True)]
        words = [text.ljust(width) for text, width in zip(row[3:], widths[3:], strict=True)]
        lines.append("  ".join(numbers + words).rstrip())
    rest = found.operations[shown:]
    if rest:
        lines.append(f"{len(rest)} further operations take {sum(operation.share for operation in rest):.1%}")
    return lines


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"

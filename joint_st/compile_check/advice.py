"""What to change of a config whose step does not fit a chip."""

from __future__ import annotations

from collections.abc import Iterator

from joint_st.compile_check.compiled import Compiled
from joint_st.config import Config
from joint_st.config.devices import check_devices
from joint_st.errors import UserError


def changes(config: Config, compiled: Compiled) -> Iterator[str]:
    """Overrides that make the step smaller, with their reasons, the one that costs least for what it saves first."""
    memory, usable = compiled.memory, compiled.usable
    # Half a chip for the state leaves room for gradients, which are as large as the parameters, and activations.
    if memory.state > usable / 2:
        yield from _cut_state(config, compiled)
    if not config.model.remat:
        yield "--model.remat true: keeps a layer's input alone, and computes the layer again in the backward pass"
    if parts := _accumulation(config, compiled):
        yield f"--training.accumulation {parts}: the same batch in {parts} parts, one after the other"
    rows = config.data.batch_size // (compiled.mesh["data"] * compiled.mesh["fsdp"])
    if rows > 1:
        yield f"--data.batch_size {config.data.batch_size // 2}: {rows} utterances a chip are halved"
    yield "--data.max_seconds lower: attention grows with the square of the longest utterance"


def _cut_state(config: Config, compiled: Compiled) -> Iterator[str]:
    """A larger `fsdp` that brings the state below half a chip, or the largest that the config allows."""
    now = compiled.mesh["fsdp"]
    devices = now * compiled.mesh["data"]
    best = None
    for fsdp in (n for n in range(now + 1, devices + 1) if devices % n == 0):
        changed = config.parallel.model_copy(update={"fsdp": fsdp, "data": -1})
        if _allowed(config.model_copy(update={"parallel": changed}), compiled):
            best = fsdp
            if compiled.memory.state * now / fsdp <= compiled.usable / 2:
                break
    if best:
        yield f"--parallel.fsdp {best}: parameters, their average and the optimizer's state are cut over {best} chips"
    else:
        yield "a smaller --model.width, or a slice whose chips hold more: no axis cuts the state further"


def _accumulation(config: Config, compiled: Compiled) -> int | None:
    """Fewest parts of which one fits beside the state, as far as temporaries shrink with the rows."""
    room = max(compiled.usable - (compiled.memory.total - compiled.memory.temporaries), 1)
    now = config.training.accumulation
    allowed = []
    for parts in range(now + 1, config.data.batch_size + 1):
        if config.data.batch_size % parts or config.data.text_batch_size % parts:
            continue
        changed = config.training.model_copy(update={"accumulation": parts})
        if _allowed(config.model_copy(update={"training": changed}), compiled):
            allowed.append(parts)
    enough = [parts for parts in allowed if compiled.memory.temporaries * now / parts <= room]
    return next(iter(enough), allowed[-1] if allowed else None)


def _allowed(config: Config, compiled: Compiled) -> bool:
    try:
        check_devices(config, compiled.chips)
    except UserError:
        return False
    return True

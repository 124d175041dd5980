"""Whether a config fits the devices at hand."""

from __future__ import annotations

from joint_st.config.schema import Config
from joint_st.errors import UserError


def check_devices(config: Config, device_count: int) -> int:
    """Devices along the data axis of the mesh; refuses what does not divide over them.

    `device_count` counts the devices of all hosts. Raises `UserError` naming the two numbers that clash.
    """
    data = config.parallel.data
    if data == -1:
        data = device_count
    elif device_count % data:
        raise UserError(f"parallel.data: {data} must divide the {device_count} devices; -1 takes all of them")
    parts = config.training.accumulation
    for name in ("batch_size", "text_batch_size"):
        batch = getattr(config.data, name)
        if batch // parts % data:
            per_part = f" / training.accumulation {parts} = {batch // parts}" if parts > 1 else ""
            raise UserError(
                f"data.{name}: {batch}{per_part} must be a multiple of the {data} devices that share a batch"
            )
    if config.evaluation.batch_size % data:
        raise UserError(
            f"evaluation.batch_size: {config.evaluation.batch_size} must be a multiple of "
            f"the {data} devices that share a batch"
        )
    return data

"""The passes of the encoder: `streaming` answers while speech comes, `full_context` once it is over. Each has a head.
The names are the same for attributes of the encoder and of its outputs, fields of the config, choices on the command
line and values in result files. This module imports nothing.
"""

STREAMING = "streaming"
FULL_CONTEXT = "full_context"

PASSES = (STREAMING, FULL_CONTEXT)
"""Names of the passes, in the order in which they are computed and listed in tables."""

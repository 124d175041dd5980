"""The passes of the encoder, each of which is read out by a head: while speech comes, and once it is over.

The one home of their names, which are those of attributes of the encoder and of what it puts out, of fields of the
config, of choices on the command line and of values in result files; imports nothing.
"""

STREAMING = "streaming"
FULL_CONTEXT = "full_context"

PASSES = (STREAMING, FULL_CONTEXT)
"""In the order in which they are computed, and in which tables have them."""

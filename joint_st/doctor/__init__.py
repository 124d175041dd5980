"""`joint-st doctor`: what can be known to go wrong with a run before it costs anything."""

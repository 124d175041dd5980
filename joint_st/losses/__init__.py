"""The losses that training minimises, in one file each."""

from joint_st.losses.base import Column, Found, Loss, Passes, make_losses, passes_of, register_loss
from joint_st.losses.passes import Pass

__all__ = ["Column", "Found", "Loss", "Pass", "Passes", "make_losses", "passes_of", "register_loss"]

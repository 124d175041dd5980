"""Heads, which turn a pass of the encoder into labels, in one file for each kind; and the joint model of encoder and
heads."""

from joint_st.heads.base import Emissions, Head, LabelSpans, PrefixScores, head_kind, register_head

__all__ = ["Emissions", "Head", "LabelSpans", "PrefixScores", "head_kind", "register_head"]

"""Bytes read and written in HBM, counted by hand in programs as libtpu writes them."""

import pytest

from joint_st.compile_check.hbm import hbm_bytes

FAST = "{1,0:T(8,128)S(1)}"
"""Layout of an array that is not in HBM."""

HBM = "{1,0:T(8,128)}"

MIB = 1 << 20
WHOLE = f"f32[1024,256]{HBM}"
"""A MiB."""


def count(*lines: str, others: str = "") -> int:
    parameters = f"  %x = {WHOLE} parameter(0)", f"  %y = {WHOLE} parameter(1)", "  %i = s32[]{:T(128)S(6)} constant(2)"
    return hbm_bytes(
        "\n".join(("HloModule jit_f\n", others, "ENTRY %main.9 (x: f32[]) -> f32[] {", *parameters, *lines, "}"))
    )


@pytest.mark.parametrize(
    "line, expected",
    [
        (f"  ROOT %z = {WHOLE} add(%x, %y)", 3),
        (f'  ROOT %z = {WHOLE} multiply(%x, /*index=1*/%x), metadata={{op_name="f(x) = %y"}}', 2),
        (f"  ROOT %z = f32[1024,256]{FAST} add(%x, %y)", 2),
        (f"  ROOT %z = bf16[1024,256]{HBM} convert(%x)", 1.5),
        ("  ROOT %z = f32[262144]{0:T(1024)} bitcast(%x)", 0),
        (f"  ROOT %z = ({WHOLE}, {WHOLE}) tuple(%x, %y)", 0),
        (f"  ROOT %z = f32[256,256]{HBM} slice(%x), slice={{[0:256], [0:256]}}", 0.5),
        (f"  ROOT %z = f32[256,256]{FAST} dynamic-slice(%x, %i, %i), dynamic_slice_sizes={{256,256}}", 0.25),
        (f"  ROOT %z = (f32[1024,256]{FAST}, {WHOLE}, u32[]{{:S(2)}}) copy-start(%x)", 1),
        (
            f"  ROOT %z = (({WHOLE}), f32[256,256]{FAST}, s32[]{{:S(2)}}) slice-start(%x), slice={{[0:256], [0:256]}}",
            0.25,
        ),
        (f"  ROOT %z = {WHOLE} copy-done(%x)", 0),
        (f"  ROOT %z = {WHOLE} all-reduce-start(%x), replica_groups={{{{0,1}}}}, to_apply=%add", 2),
        (f'  ROOT %z = {WHOLE} custom-call(), custom_call_target="AllocateBuffer"', 0),
    ],
)
def test_each_array_that_is_in_hbm_counts_once(line, expected):
    assert count(line) == pytest.approx(expected * MIB, abs=16)


def test_only_the_replaced_part_is_written():
    update = f"  %u = f32[256,256]{FAST} copy(%i)"
    assert count(update, f"  ROOT %z = {WHOLE} dynamic-update-slice(%x, %u, %i, %i)") == MIB / 4
    part = f'  %u = f32[256,256]{HBM} custom-call(), custom_call_target="AllocateBuffer"'
    assert count(part, f"  ROOT %z = {WHOLE} dynamic-update-slice(%x, %u, %i, %i)") == MIB / 2


def fused(*lines: str) -> str:
    return "\n".join(("%fused (p: f32[], q: f32[]) -> f32[] {", *lines, "}\n"))


P, Q = f"  %p = {WHOLE} parameter(0)", f"  %q = {WHOLE} parameter(1)"
INDEX = "  %j = s32[]{:T(128)S(6)} constant(1)"


def test_inside_of_a_fusion_nothing_is_stored():
    others = fused(P, Q, f"  %s = {WHOLE} add(%p, %q)", f"  ROOT %r = bf16[1024,256]{HBM} convert(%s)")
    assert (
        count(f"  ROOT %z = bf16[1024,256]{HBM} fusion(%x, %y), kind=kLoop, calls=%fused", others=others) == 2.5 * MIB
    )


def test_a_fusion_reads_what_it_cuts_out_even_of_what_it_computes_first():
    cut = f"  %c = f32[256,256]{HBM} dynamic-slice(%s, %j, %j), dynamic_slice_sizes={{256,256}}"
    others = fused(P, Q, INDEX, f"  %s = {WHOLE} negate(%p)", cut, f"  ROOT %r = {WHOLE} broadcast(%c)")
    call = f"  ROOT %z = f32[1024,256]{FAST} fusion(%x, %y), kind=kLoop, calls=%fused"
    assert count(call, others=others) == MIB / 4  # nothing of `y`, which it does not use


def test_a_fusion_writes_what_it_replaces_and_not_what_it_passes_on():
    part = f"  %c = f32[256,256]{HBM} slice(%q), slice={{[0:256], [0:256]}}"
    replaced = f"  %d = {WHOLE} dynamic-update-slice(%p, %c, %j, %j)"
    others = fused(P, Q, INDEX, part, replaced, f"  ROOT %r = ({WHOLE}, {WHOLE}) tuple(%d, %q)")
    call = f"  ROOT %z = ({WHOLE}, {WHOLE}) fusion(%x, %y), kind=kLoop, calls=%fused"
    assert count(call, others=others) == MIB / 2


def test_a_fusion_of_a_fusion():
    inner = f"%within (p: f32[]) -> f32[] {{\n{P}\n  ROOT %r = f32[262144]{{0:T(1024)}} bitcast(%p)\n}}\n"
    nested = "  %n = f32[262144]{0:T(1024)} fusion(%p), kind=kLoop, calls=%within"
    outer = fused(P, nested, "  ROOT %r = f32[]{:T(128)} reduce(%n, %n), dimensions={0}, to_apply=%add")
    assert count("  ROOT %z = f32[]{:T(128)S(6)} fusion(%x), kind=kLoop, calls=%fused", others=inner + outer) == MIB


LOOP = f"""%again (t: (s32[])) -> pred[] {{
  %n = s32[]{{:T(128)}} constant(7)
  %i = s32[]{{:T(128)}} get-tuple-element(%t), index=0
  ROOT %c = pred[]{{:T(512)S(6)}} compare(%i, %n), direction=LT
}}

%body (t: (s32[], f32[])) -> (s32[], f32[]) {{
  %t = (s32[]{{:T(128)}}, {WHOLE}) parameter(0)
  %g = {WHOLE} get-tuple-element(%t), index=1
  ROOT %z = {WHOLE} negate(%g)
}}

"""


def test_loops_count_as_often_as_they_run_and_branches_do_not_add_up():
    loop = f"  %w = (s32[]{{:T(128)}}, {WHOLE}) while(%t), condition=%again, body=%body"
    assert count(loop, others=LOOP) == pytest.approx(7 * 2 * MIB, abs=7 * 8)
    choice = f"  %w = {WHOLE} conditional(%i, %x, %x), branch_computations={{%body, %body}}"
    assert count(choice, others=LOOP) == 2 * MIB
    wrapped = f"  %w = (({WHOLE}), {WHOLE}, u32[]) async-start(%x), calls=%body"
    assert count(wrapped, f"  %d = {WHOLE} async-done(%w), calls=%body", others=LOOP) == 2 * MIB

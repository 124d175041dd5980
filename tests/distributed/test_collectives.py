"""Collectives of a compiled program: in every form that XLA writes them, and as often as they run."""

import pytest

from joint_st.distributed.collectives import Collective, Instruction, collectives, instructions
from tests.tiny import call_on_eight_devices

HEADER = "HloModule jit_f, is_scheduled=true, entry_computation_layout={(f32[8]{0})->f32[8]{0}}, num_partitions=8\n"

EVERYONE = tuple(range(8))


def program(*lines: str, others: str = "") -> str:
    return f"{HEADER}\n{others}\nENTRY %main.9 (x: f32[8]) -> f32[8] {{\n" + "\n".join(lines) + "\n}\n"


@pytest.mark.parametrize(
    "line, expected",
    [
        (
            "  %all-reduce.1 = f32[4,3]{1,0} all-reduce(%x), channel_id=1, replica_groups={{0,1},{2,3},{4,5},{6,7}}, "
            'to_apply=%add, metadata={op_name="jit(f)/dot_general" source_line=3}',
            Instruction("all-reduce", 2, 1, 48, "jit(f)/dot_general", (0, 1)),
        ),
        (
            "  ROOT %r = (bf16[4]{0:T(128)(2,1)}, /*index=1*/f32[]{:T(128)}) all-reduce(%x, %y), "
            "replica_groups=[2,4]<=[8], to_apply=%add",
            Instruction("all-reduce", 4, 1, 12, "", (0, 1, 2, 3)),
        ),
        (
            "  %g = s4[8,2]{1,0:T(8,128)S(1)} all-gather(%x), replica_groups=[4,2]<=[2,2,2]T(1,0,2), dimensions={0}",
            Instruction("all-gather", 2, 1, 8, "", (0, 1)),
        ),
        (
            "  %g = pred[16]{0} all-gather(%x), replica_groups=mesh['a'=2,'b'=4] {'a','b'}, dimensions={0}",
            Instruction("all-gather", 8, 1, 16, "", EVERYONE),
        ),
        (
            "  %g = u8[16]{0} all-gather(%x), replica_groups=mesh['a'=2,'b'=8] {'b':(1)4}, dimensions={0}",
            Instruction("all-gather", 4, 1, 16, "", (0, 2, 4, 6)),
        ),
        (
            "  %g = u8[16]{0} all-gather(%x), replica_groups=mesh['a'=4,'b'=2], device_ids=([2,2,2]T(1,0,2)) {'b'}, "
            "dimensions={0}",
            Instruction("all-gather", 2, 1, 16, "", (0, 1)),
        ),
        (
            "  %g = u8[16]{0} all-gather(%x), replica_groups=mesh['a'=4,'b'=2], device_ids=([2,2,2]T(1,0,2)) {'a'}, "
            "dimensions={0}",
            Instruction("all-gather", 4, 1, 16, "", (0, 4, 2, 6)),
        ),
        (
            "  %g = u8[16]{0} all-gather(%x), replica_groups=mesh['a'=2,'b'=8] {'a','b':(2)2}, dimensions={0}",
            Instruction("all-gather", 4, 1, 16, "", (0, 2, 8, 10)),
        ),
        (
            "  %g = f32[8]{0} all-gather(%x), replica_groups=[2,4]<=[4,2]T(1,0), dimensions={0}",
            Instruction("all-gather", 4, 1, 32, "", (0, 2, 4, 6)),
        ),
        (
            "  %s = f32[2]{0} reduce-scatter(%x), replica_groups={}, dimensions={0}, to_apply=%add",
            Instruction("reduce-scatter", 8, 1, 64, "", EVERYONE),
        ),
        (
            "  %a = (f32[2]{0}, f32[2]{0}) all-to-all(%x, %y), replica_groups={{0,1},{2,3},{4,5},{6,7}}",
            Instruction("all-to-all", 2, 1, 16, "", (0, 1)),
        ),
        (
            "  %send.4 = (f32[5,8]{1,0:T(8,128)}, u32[], token[]) send(%x, %after-all.4), channel_id=6, "
            'is_host_transfer=true, frontend_attributes={_xla_host_transfer_handler_name="xla_megascale_runtime",'
            '_xla_megascale_target="{1,4:5}x{0:7}",_xla_megascale_transfer_type="ALL_REDUCE"}',
            Instruction("all-reduce between slices", 3, 1, 160, ""),
        ),
        (
            "  %p = c64[3]{0} collective-permute(%x), source_target_pairs={{0,1},{1,0}}",
            Instruction("collective-permute", 8, 1, 24, "", (0, 1)),
        ),
        (
            "  %g = (f32[2]{0}, f32[16]{0}) all-gather-start(%x), replica_groups=[1,8]<=[8], dimensions={0}",
            Instruction("all-gather", 8, 1, 64, "", EVERYONE),
        ),
        (
            "  %g = ((f32[2]{0}, f32[1]{0}), (f32[16]{0}, f32[8]{0})) all-gather-start(%x, %y), "
            "replica_groups=[1,8]<=[8], dimensions={0}",
            Instruction("all-gather", 8, 1, 96, "", EVERYONE),
        ),
        (
            "  %r = f32[16]{0} all-reduce-start(%x), replica_groups=[1,8]<=[8], to_apply=%add",
            Instruction("all-reduce", 8, 1, 64, "", EVERYONE),
        ),
        (
            "  %p = (f32[3]{0}, f32[3]{0}, u32[], u32[]) collective-permute-start(%x), source_target_pairs={{0,1}}",
            Instruction("collective-permute", 8, 1, 12, "", (0,)),
        ),
        (
            "  %s = ((f32[16]{0}), f32[2]{0}, u32[]) reduce-scatter-start(%x), replica_groups=[1,8]<=[8]",
            Instruction("reduce-scatter", 8, 1, 64, "", EVERYONE),
        ),
    ],
)
def test_every_form(line, expected):
    assert list(instructions(program(line))) == [expected]


def test_what_is_no_collective_counts_not():
    lines = (
        "  %all-gather-done.1 = f32[16]{0} all-gather-done(%g)",
        "  %x.1 = f32[16]{0} fusion(%all-gather-done.1), kind=kLoop, calls=%fused",
        '  %y = f32[16]{0} custom-call(%x.1), custom_call_target="Sharding", metadata={op_name="all-reduce(x)"}',
    )
    assert collectives(program(*lines)) == []


BODY = """%inner (p: f32[8]) -> f32[8] {
  ROOT %p.1 = f32[8]{0} collective-permute(%p), source_target_pairs={{0,1},{1,0}}
}

%step.2 (p: (s32[], f32[8])) -> (s32[], f32[8]) {
  %r = f32[8]{0} all-reduce(%x), replica_groups=[1,8]<=[8], to_apply=%add
  %w = (s32[], f32[8]) while(%t), condition=%again, body=%deep, backend_config={"known_trip_count":{"n":"3"}}
}

%deep (p: (s32[], f32[8])) -> (s32[], f32[8]) {
  %f = f32[8]{0} fusion(%x), kind=kCustom, calls=%inner
}

%wrapped (p: f32[8]) -> f32[1] {
  ROOT %s.1 = f32[1]{0} reduce-scatter(%p), replica_groups=[1,8]<=[8], to_apply=%add
}

%again (p: (s32[], f32[8])) -> pred[] {
  ROOT %c = pred[] compare(%i, %n), direction=LT
}
"""


def test_loops_and_what_is_called():
    lines = (
        "  %w = (s32[], f32[8]{0}) while(%t), condition=%again, body=%step.2, "
        'backend_config={"known_induction_variable":{"tuple_index":"0"},"known_trip_count":{"n":"5"}}',
        "  %u = (s32[], f32[8]{0}) while(%t), condition=%again, body=%deep",
        "  %c = f32[8]{0} conditional(%i, %x, %x), branch_computations={%inner, %inner}",
        "  %a = ((f32[8]{0}), f32[1]{0}, u32[]) async-start(%x), calls=%wrapped",
        "  %b = f32[1]{0} async-done(%a), calls=%wrapped",
    )
    assert collectives(program(*lines, others=BODY)) == [
        Collective("collective-permute", 8, 5 * 3 + 1 + 2, (5 * 3 + 1 + 2) * 32),
        Collective("all-reduce", 8, 5, 5 * 32),
        Collective("reduce-scatter", 8, 1, 32),
    ]


def on_eight_devices():
    """Compile programs whose traffic is known."""
    import jax
    import jax.numpy as jnp
    from jax.sharding import AxisType, PartitionSpec

    mesh = jax.make_mesh((2, 4), ("a", "b"), axis_types=(AxisType.Auto,) * 2)

    def of_device(x):
        def body(x, _):
            return jax.lax.pmean(x, "b"), jax.lax.all_gather(x[0], "a")

        x, gathered = jax.lax.scan(body, x, length=7)
        moved = jax.lax.ppermute(x, "b", [(i, (i + 1) % 4) for i in range(4)])
        return jax.lax.psum_scatter(moved, "b", tiled=True), gathered.sum(0)

    whole, cut = PartitionSpec(), PartitionSpec("b")
    jitted = jax.jit(jax.shard_map(of_device, mesh=mesh, in_specs=whole, out_specs=(cut, whole), check_vma=False))
    found = {one.kind: one for one in collectives(jitted.lower(jnp.ones((8, 5))).compile().as_text())}
    assert found["all-reduce"] == Collective("all-reduce", 4, 7, 7 * 8 * 5 * 4)
    assert found["all-gather"] == Collective("all-gather", 2, 7, 7 * 2 * 5 * 4)
    assert found["collective-permute"][2:] == (1, 8 * 5 * 4)
    assert found["reduce-scatter"] == Collective("reduce-scatter", 4, 1, 8 * 5 * 4)


def test_of_compiled_programs():
    call_on_eight_devices("tests.distributed.test_collectives:on_eight_devices")

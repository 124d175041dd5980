"""A trace of some steps: what is traced, what its operations cost, and what they are called."""

from __future__ import annotations

import re

import jax
import jax.numpy as jnp
import pytest

from joint_st import storage
from joint_st.errors import UserError
from joint_st.runs.directory import RunDirectory
from joint_st.training import operations
from joint_st.training.operations import Event, Instruction, Program, costs, read_events, read_program, self_times
from joint_st.training.profile import Profile, traced_steps

MS = 1e6


def event(name: str, start: float, end: float, line: str = "a", device: str = "0", program: str = "jit_step(1)"):
    """An event from `start` to `end`, in ms."""
    return Event(name, start * MS, (end - start) * MS, line, device, program)


# Which steps


@pytest.mark.parametrize(
    "asked, start, last, text_first, expected",
    [
        (None, 0, 3, 0, range(0)),
        (range(0), 0, 100, 0, range(10, 15)),
        (range(0), 40, 100, 0, range(50, 55)),
        (range(0), 0, 100, 30, range(40, 45)),
        (range(0), 20, 100, 30, range(40, 45)),
        (range(0), 0, 12, 0, range(7, 12)),
        (range(0), 0, 33, 30, range(28, 33)),
        (range(0), 0, 2, 0, range(0, 2)),
        (range(3, 8), 0, 8, 0, range(3, 8)),
        (range(3, 8), 40, 100, 30, range(43, 48)),
    ],
)
def test_traced_steps(asked, start, last, text_first, expected):
    assert traced_steps(asked, start, last, text_first) == expected


def test_steps_that_there_are_not():
    message = (
        "--profile 10:15: this start has 8 steps (training.steps 8, 0 of them done); "
        "name steps up to 8, as --profile 3:8"
    )
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        traced_steps(range(10, 15), 0, 8)


@pytest.mark.parametrize(
    "asked, start, last, told",
    [
        (range(0), 100, 100, "this start has 0 steps (training.steps 100, 100 of them done), too few for --profile\n"),
        (range(0), 120, 100, "this start has 0 steps (training.steps 100, 120 of them done), too few for --profile\n"),
        (
            range(3, 8),
            98,
            100,
            "this start has 2 steps (training.steps 100, 98 of them done), too few for --profile 3:8\n",
        ),
    ],
)
def test_a_run_that_goes_on_with_too_few_steps_is_not_traced(capsys, asked, start, last, told):
    """A job that is queued again has the same command, and must not fail for it."""
    assert traced_steps(asked, start, last) == range(0)
    assert capsys.readouterr().err == f"profile  nothing is traced: {told}"


# What they cost


def test_time_of_inner_events_does_not_count_for_the_outer_one():
    events = [
        event("dot", 1, 4),
        event("while", 0, 10),  # as in a trace, events come in any order
        event("call", 4, 9),
        event("add", 5, 6),
        event("add", 6, 8),
        event("after", 10, 12),
        event("dot", 0, 5, line="b"),  # at the same time as the loop, and not in it
        event("late", 4, 7, line="b"),  # begins before `dot` ends
    ]
    assert [time / MS for time in self_times(events)] == [3, 2, 2, 1, 2, 2, 4, 3]
    assert self_times([]) == []


def test_costs():
    dot, add = Instruction("dot_general", "f, a.py:3"), Instruction("add", "g, a.py:9")
    program = Program("jit_step", {"dot": dot, "add": add, "while": Instruction("while")})
    step = [
        event("while", 0, 10),
        event("dot", 0, 4),
        event("dot", 4, 8),
        event("add", 12, 13),
        event("kernel", 13, 14, program=""),
        event("dot", 20, 90, program="jit_evaluate(2)"),
    ]
    # Two steps on two devices, which do the same.
    events = [
        one._replace(start=one.start + k * 100 * MS, device=device, line=device)
        for k in range(2)
        for device in "01"
        for one in step
    ]
    found = costs(events, [program], steps=2)
    assert [(one.name, one.instruction, one.calls, one.ms) for one in found.operations] == [
        ("dot", dot, 2, pytest.approx(8)),
        ("while", Instruction("while"), 1, pytest.approx(2)),
        ("add", add, 1, pytest.approx(1)),
        ("kernel", Instruction(), 1, pytest.approx(1)),
    ]
    assert [one.share for one in found.operations] == pytest.approx([8 / 12, 2 / 12, 1 / 12, 1 / 12])
    assert found.busy_ms == pytest.approx(12) and found.unknown == pytest.approx(1 / 12)
    # Threads of one device at the same time: it is busy once.
    both = [event("dot", 0, 4), event("dot", 1, 6, line="b")]
    assert costs(both, [program], steps=1).busy_ms == pytest.approx(6)
    assert costs([], [program], steps=1) == ([], 0, 0)


def test_programs_of_several_shapes_have_one_name():
    long, short = (Program("jit_step", {"a": Instruction(one), "b": Instruction(one)}) for one in ("long", "short"))
    other = Program("jit_step", {"a": Instruction("other"), "c": Instruction("other")})
    events = [event("a", 5, 6, program="jit_step(1)"), event("a", 0, 1, program="jit_step(7)")]
    # By their names both could be either: the order in which they ran tells.
    found = costs(events, [long, short], 1)
    assert {one.instruction.operation for one in found.operations} == {"long", "short"}
    events = [event("a", 0, 1), event("c", 1, 2), event("a", 2, 3, program="jit_step(2)")]
    found = costs(events, [long, other], 1)
    assert {(one.name, one.instruction.operation) for one in found.operations} == {("a", "other"), ("c", "other")}


def test_the_table():
    dot = Instruction("dot_general, backward", "Attention.__call__, models/attention.py:30")
    program = Program("jit_step", {"fusion.1": dot})
    small = [event(f"add.{n}", 10 + n / 10, 10 + n / 10 + 0.01) for n in range(12)]
    lines = operations.describe(costs([event("fusion.1", 0, 9), *small], [program], 1), step_ms=20)
    assert lines[0].startswith("20.0 ms a step; a device computes 9.1 ms of them (46%)")
    assert lines[1].split() == "ms a step share calls a step HLO operation source".split()
    assert re.split(r"\s{2,}", lines[2].strip()) == ["9.00", "98.7%", "1", "fusion.1", *dot]
    assert len(lines) == 13 and lines[-1] == "3 further operations take 0.3%"


# What they are called

TEXT = """\
HloModule jit_step, is_scheduled=true, entry_computation_layout={(f32[8]{0})->f32[8]{0}}

FileNames
1 "/elsewhere/joint_st/training/step.py"
2 "/usr/lib/python3.11/site-packages/joint_st/models/attention.py"
3 "/usr/lib/python3.11/site-packages/flax/linear.py"

FunctionNames
1 "make_step.<locals>.step"
2 "Attention.__call__"
3 "Linear.__call__"

FileLocations
1 {file_name_id=1 function_name_id=1 line=10 end_line=10 column=2 end_column=14}
2 {file_name_id=2 function_name_id=2 line=20 end_line=20 column=2 end_column=14}
3 {file_name_id=3 function_name_id=3 line=30 end_line=30 column=2 end_column=14}

StackFrames
1 {file_location_id=1 parent_frame_id=1}
2 {file_location_id=2 parent_frame_id=2}
3 {file_location_id=3 parent_frame_id=3}

%fused_computation.1 (p.1: f32[8]) -> f32[8] {
  %p.1 = f32[8]{0} parameter(0)
  ROOT %dot.7 = f32[8]{0} dot(%p.1, %p.1), metadata={op_name="jit(step)/transpose(jvp())/while/body/dot_general" stack_frame_id=3}
}

ENTRY %main.3 (x: f32[8]) -> f32[8] {
  %x = f32[8]{0} parameter(0), metadata={op_name="x"}
  %fusion.1 = f32[8]{0} fusion(%x), kind=kLoop, calls=%fused_computation.1
  %copy.2 = f32[8]{0} copy(%fusion.1)
  ROOT %add-1.2 = f32[8]{0} add(%fusion.1, %copy.2), metadata={op_name="jit(step)/rematted_computation/add" stack_frame_id=1}
}
"""


def test_text_of_a_program():
    found = read_program(TEXT)
    attention = Instruction("dot_general, backward", "Attention.__call__, models/attention.py:20")
    assert found == Program(
        "jit_step",
        {
            "p.1": Instruction(),
            "dot.7": attention,
            "x": Instruction("x"),
            "fusion.1": attention,
            "copy.2": Instruction(),
            "add-1.2": Instruction("add, computed again", "step, training/step.py:10"),
        },
    )
    # A version of XLA that counts callers' frames as it says.
    plain = TEXT.replace(" parent_frame_id=1}", "}")
    plain = plain.replace("parent_frame_id=2", "parent_frame_id=1").replace("parent_frame_id=3", "parent_frame_id=2")
    assert read_program(plain) == found


# Traces


def planes(text: str):
    """Planes of a trace that is written as a text protobuf."""
    data = jax.profiler.ProfileData.text_proto_to_serialized_xspace(text)
    return jax.profiler.ProfileData.from_serialized_xspace(data).planes


def test_trace_of_a_tpu():
    """Names are whole instructions, and the modules' line tells the program."""
    found = read_events(
        planes("""
        planes {
          name: "/device:TPU:1"
          event_metadata { key: 1 value { id: 1 name: "jit_step(96464)" } }
          event_metadata { key: 2 value { id: 2 name: "%fusion.1 = f32[8]{0} fusion(f32[8]{0} %x), kind=kLoop" } }
          event_metadata { key: 3 value { id: 3 name: "%while.2 = f32[8]{0} while(f32[8]{0} %x)" } }
          lines { name: "Steps" events { metadata_id: 1 offset_ps: 0 duration_ps: 9000000 } }
          lines { name: "XLA Modules" events { metadata_id: 1 offset_ps: 1000000 duration_ps: 8000000 } }
          lines {
            name: "XLA Ops"
            events { metadata_id: 3 offset_ps: 1000000 duration_ps: 6000000 }
            events { metadata_id: 2 offset_ps: 2000000 duration_ps: 3000000 }
            events { metadata_id: 2 offset_ps: 9500000 duration_ps: 1000000 }
          }
          lines { name: "Async XLA Ops" events { metadata_id: 2 offset_ps: 0 duration_ps: 9000000 } }
        }
        planes { name: "/host:CPU" }
        """)
    )
    assert [(one.name, one.start, one.duration, one.program) for one in found] == [
        ("while.2", 1000, 6000, "jit_step(96464)"),
        ("fusion.1", 2000, 3000, "jit_step(96464)"),
        ("fusion.1", 9500, 1000, ""),
    ]
    assert {one.device for one in found} == {"/device:TPU:1"} and self_times(found)[0] == 3000


def test_trace_of_a_gpu():
    """Each stream has a line of kernels, which tell instruction and program."""
    found = read_events(
        planes("""
        planes {
          name: "/device:GPU:0"
          event_metadata { key: 1 value { id: 1 name: "sm90_gemm_f32" } }
          event_metadata { key: 2 value { id: 2 name: "MemcpyH2D" } }
          stat_metadata { key: 1 value { id: 1 name: "hlo_op" } }
          stat_metadata { key: 2 value { id: 2 name: "hlo_module" } }
          stat_metadata { key: 3 value { id: 3 name: "program_id" } }
          lines {
            name: "Stream #13(Compute)"
            events {
              metadata_id: 1 offset_ps: 1000000 duration_ps: 2000000
              stats { metadata_id: 1 str_value: "gemm.4" }
              stats { metadata_id: 2 str_value: "jit_step" }
              stats { metadata_id: 3 int64_value: 7 }
            }
          }
          lines { name: "Stream #14(MemcpyH2D)" events { metadata_id: 2 offset_ps: 0 duration_ps: 9000000 } }
          lines { name: "Launch Stats" events { metadata_id: 1 offset_ps: 0 duration_ps: 9000000 } }
        }
        """)
    )
    assert [(one.name, one.program) for one in found] == [("gemm.4", "jit_step(7)"), ("MemcpyH2D", "")]
    assert len({one.line for one in found}) == 2


def double(w, x):
    def body(x, _):
        return jnp.tanh(x @ w), None

    return jax.lax.scan(body, x, None, length=3)[0]


@pytest.fixture(scope="module")
def step():
    """A small compiled function."""
    x = jnp.ones((64, 64))
    return jax.jit(double).lower(x, x).compile(), x


def traced(step, run: RunDirectory, steps: range, batches: int) -> None:
    program, x = step
    one = Profile(run, steps)
    for number in range(batches):
        with one.step(number, program, x):
            x = program(x, x)
        with one.paused():
            pass
        if one.ends_with(number):
            one.write(x)
    one.close()


def test_trace_of_this_machine(step, tmp_path, capsys):
    traced(step, RunDirectory(tmp_path), range(2, 4), batches=6)
    folder = tmp_path / "profile" / "plugins" / "profile" / "steps_3_to_4"
    assert sorted(path.name.partition(".")[2].split(".", 9)[-2:] for path in folder.iterdir()) == [
        ["json", "gz"],
        ["xplane", "pb"],
    ]
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "profile  steps 3 to 4 will be traced"
    assert (
        said[1] == f"profile  steps 3 to 4: trace in {tmp_path}/profile; `pip install xprof tensorboard`, then one of"
    )
    assert said[2:4] == [f"         {one} --logdir {tmp_path}/profile" for one in ("xprof", "tensorboard")]
    assert re.match(r"profile  \d+\.\d ms a step; a device computes \d+\.\d ms of them", said[4])
    rows = [re.split(r"\s{2,}", line.strip()) for line in said[6:]]
    product, hyperbola = (next(row for row in rows if row[4:5] == [name]) for name in ("dot_general", "tanh"))
    for row in (product, hyperbola):
        assert row[2] == "3" and re.fullmatch(r"body, test_profile\.py:\d+", row[5])
    assert len(rows) <= operations.SHOWN + 1


def test_trace_in_a_bucket(step, cloud, bucket):
    traced(step, RunDirectory(storage.path(f"gs://{bucket}/run")), range(0, 1), batches=1)
    names = [name for name in cloud.buckets[bucket] if name.startswith("run/profile/plugins/profile/steps_1_to_1/")]
    assert sorted(name.rpartition(".")[2] for name in names) == ["gz", "pb"]


def test_training_ends_first(step, tmp_path, capsys):
    traced(step, RunDirectory(tmp_path), range(1, 9), batches=3)
    assert "training ended before the last of steps 2 to 9; no trace was written" in capsys.readouterr().err
    assert not (tmp_path / "profile").exists()
    traced(step, RunDirectory(tmp_path), range(0, 1), batches=1)  # the profiler is free again


def test_a_trace_that_cannot_be_written(step, tmp_path, capsys):
    (tmp_path / "profile").write_text("")
    traced(step, RunDirectory(tmp_path), range(0, 1), batches=1)
    said = capsys.readouterr().err
    assert re.search(r"profile  .*/profile/plugins/.*: could not be written: .*; it was written to ", said)
    assert "dot_general" in said

import subprocess
import sys

from joint_st.distributed.host_memory import TUNABLES, VARIABLE, settings


def test_only_where_a_cpu_computes_and_the_user_has_not_chosen(tmp_path):
    assert settings({}, tmp_path) == {VARIABLE: TUNABLES}
    assert settings({VARIABLE: ""}, tmp_path) == {}
    (tmp_path / "nvidia0").touch()
    assert settings({}, tmp_path) == {}
    assert settings({"JAX_PLATFORMS": "cpu"}, tmp_path) == {VARIABLE: TUNABLES}


def test_the_program_starts_again_with_its_arguments_and_its_process():
    program = (
        "import os, sys; from joint_st.distributed.host_memory import keep_host_memory; keep_host_memory(); "
        "print(os.getpid(), sys.argv[1:], os.environ['GLIBC_TUNABLES'], sys.flags.optimize)"
    )
    child = subprocess.Popen(
        [sys.executable, "-O", "-c", program, "a b", "--c"],
        env={"JAX_PLATFORMS": "cpu"},
        stdout=subprocess.PIPE,
        text=True,
    )
    said, _ = child.communicate(timeout=60)
    assert said == f"{child.pid} ['a b', '--c'] {TUNABLES} 1\n"

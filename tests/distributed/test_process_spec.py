"""Which process of how many this one is."""

import pytest

from joint_st.distributed.process_spec import ProcessSpec, detected_process, device_detection, stated_process
from joint_st.errors import UserError

SLURM = {
    "SLURM_JOB_ID": "4099",
    "SLURM_STEP_NODELIST": "node[007-009],other",
    "SLURM_NTASKS": "4",
    "SLURM_PROCID": "2",
    "SLURM_LOCALID": "0",
    "SLURM_STEP_NUM_TASKS": "4",
}


def detected(monkeypatch, variables):
    tpu = ("TPU_WORKER_HOSTNAMES", "TPU_PROCESS_ADDRESSES", "TPU_SKIP_MDS_QUERY")
    for name in ("OMPI_MCA_orte_hnp_uri", "OMPI_COMM_WORLD_SIZE", *tpu, *SLURM):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return detected_process(1)


def test_three_options_state_it():
    assert stated_process("host-a:8476", 4, 3) == ProcessSpec("host-a:8476", 4, 3)
    assert stated_process(None, None, None) is None


@pytest.mark.parametrize(
    "options, message",
    [
        (("host-a:1", None, None), "--processes and --process: missing; say --coordinator, --processes, --process"),
        ((None, 2, 0), "--coordinator: missing; say"),
        (("host-a", 2, 0), "--coordinator host-a: written HOST:PORT"),
        (("host-a:http", 2, 0), "--coordinator host-a:http: written HOST:PORT"),
        (("host-a:70000", 2, 0), "--coordinator host-a:70000: written HOST:PORT"),
        (("host-a:1", 2, 2), "--process 2: counted from 0, so below --processes 2"),
    ],
)
def test_options_that_state_nothing_are_refused(options, message):
    with pytest.raises(UserError) as error:
        stated_process(*options)
    assert str(error.value).startswith(message)


def test_a_machine_without_a_cluster_is_alone(monkeypatch):
    assert detected(monkeypatch, {}) is None


def test_slurm(monkeypatch):
    # JAX's port: the job's number modulo 4096 above 61440.
    assert detected(monkeypatch, SLURM) == ProcessSpec("node007:61443", 4, 2, "slurm")


@pytest.mark.parametrize(
    "variables, message",
    [
        ({**SLURM, "SLURM_NTASKS": "four"}, "slurm: the cluster does not say which processes there are (invalid"),
        (
            {"OMPI_COMM_WORLD_SIZE": "four"},
            "OMPI_COMM_WORLD_SIZE=four: no number of processes; unset it, or say --coord",
        ),
        ({"OMPI_COMM_WORLD_SIZE": ""}, "OMPI_COMM_WORLD_SIZE=: no number of processes"),
    ],
)
def test_a_variable_that_is_no_number_is_told(monkeypatch, variables, message):
    with pytest.raises(UserError) as error:
        detected(monkeypatch, variables)
    assert str(error.value).startswith(message)


def test_a_process_alone_on_its_host_has_all_devices_of_it():
    slurm, stated = ProcessSpec("a:1", 3, 1, "slurm"), ProcessSpec("a:1", 3, 1)
    assert device_detection(slurm, ("a", "b", "c")) == "deactivate"
    assert device_detection(slurm, ("a", "b", "b")) == "slurm"
    assert device_detection(stated, ("a", "a", "a")) == "deactivate"


@pytest.mark.parametrize(
    "variables",
    [
        {"SLURM_JOB_ID": "4099", "SLURM_NTASKS": "4"},  # salloc's shell on a login node
        SLURM | {"SLURM_STEP_NUM_TASKS": "1"},  # its shell on a node of the allocation
        SLURM | {"SLURM_STEP_NUM_TASKS": "1", "SLURM_NTASKS": "1"},  # srun of one task
    ],
)
def test_a_shell_under_slurm_is_alone(monkeypatch, variables):
    assert detected(monkeypatch, variables) is None


def test_open_mpi(monkeypatch):
    variables = {
        "OMPI_MCA_orte_hnp_uri": "1531576320.0;tcp://10.96.0.1,10.148.0.1:34911",
        "OMPI_COMM_WORLD_SIZE": "2",
        "OMPI_COMM_WORLD_RANK": "1",
    }
    found = detected(monkeypatch, variables)
    assert found[1:] == (2, 1, "ompi") and found.coordinator.startswith("10.96.0.1:")


def test_open_mpi_5_is_refused_rather_than_trained_many_times(monkeypatch):
    with pytest.raises(UserError, match="Open MPI from version 5 on .* --process .OMPI_COMM_WORLD_RANK"):
        detected(monkeypatch, {"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "1"})
    assert detected(monkeypatch, {"OMPI_COMM_WORLD_SIZE": "1", "OMPI_COMM_WORLD_RANK": "0"}) is None


def test_tpu_of_kubernetes(monkeypatch):
    from jax._src.clusters import cloud_tpu_cluster

    monkeypatch.setattr(cloud_tpu_cluster, "running_in_cloud_tpu_vm", True)
    one = {"TPU_WORKER_ID": "1", "MEGASCALE_NUM_SLICES": "1", "MEGASCALE_SLICE_ID": "0"}
    one["MEGASCALE_COORDINATOR_ADDRESS"] = "localhost"
    assert detected(monkeypatch, one | {"TPU_WORKER_HOSTNAMES": "localhost,worker-1"}) == ProcessSpec(
        "localhost:8482", 2, 1, "gketpu"
    )
    assert detected(monkeypatch, one | {"TPU_WORKER_HOSTNAMES": "localhost", "TPU_WORKER_ID": "0"}) is None


def test_a_cluster_that_does_not_answer_is_told(monkeypatch):
    from jax._src.clusters import cloud_tpu_cluster

    def unreachable(key):
        raise ConnectionError("no route to metadata")

    monkeypatch.setattr(cloud_tpu_cluster, "running_in_cloud_tpu_vm", True)
    monkeypatch.setattr(cloud_tpu_cluster, "get_metadata", unreachable)
    with pytest.raises(UserError, match="gcetpu: the cluster does not say .*no route to metadata.*; say --coord"):
        detected(monkeypatch, {})

"""`launch/tpu_vm.sh` against a cloud of files: what it requests, what it runs there, and how it recovers from
losses."""

from __future__ import annotations

import signal

import pytest

from tests.launch.scripts import git

WHERE = ("--name", "pod", "--zone", "europe-west4-b")
QUICK = ("--type", "v5litepod-16", "--poll", 0.2)
TRAIN = ("--", "joint-st", "train", "my config.py", "--workdir", "gs://bucket/run")


def launch(scripts, *options, command=TRAIN, timeout=1000):
    return scripts.run("tpu_vm.sh", *WHERE, *QUICK, *options, *command, timeout=timeout)


def verbs(scripts) -> list[str]:
    """Return the calls of gcloud, without those that only ask."""
    calls = [call.split() for call in scripts.calls()]
    return [f"{call[2]} {call[3]}" for call in calls if call[3] != "describe"]


ONE_LAUNCH = ["tpu-vm scp"] + 3 * ["tpu-vm ssh"]


def test_asks_waits_copies_installs_and_runs_on_all_workers(scripts, checkout):
    scripts.do.write_text('echo "worker $WORKER in $PWD"\n')
    result = launch(scripts, "--spot", "--create-flag=--labels=team=speech")
    assert result.returncode == 0, result.stderr
    tree = git(checkout, "rev-parse", "HEAD^{tree}").strip()
    lines = result.stdout.splitlines()
    assert lines[-1] == f"worker 0 in {scripts.folder}/worker-0/joint_st/{tree}"
    assert "worker-1: started" in lines and not any("worker 1 in" in line for line in lines)
    for i in (0, 1):
        assert scripts.calls(f"do.calls-{i}") == ["train my config.py --workdir gs://bucket/run"]
    assert verbs(scripts) == ["queued-resources create", *ONE_LAUNCH]
    (create,) = [call for call in scripts.calls() if "create" in call]
    assert "--accelerator-type v5litepod-16 --runtime-version v2-alpha-tpuv5-lite --spot --labels=team=speech" in create
    for state in ("ACCEPTED", "PROVISIONING", "READY"):
        assert f"tpu_vm.sh: pod is {state}\n" in result.stderr
    assert not list((scripts.folder / "tmp").iterdir())


def test_again_takes_what_is_there_and_installs_nothing_twice(scripts):
    assert launch(scripts).returncode == 0
    result = launch(scripts)
    assert result.returncode == 0 and result.stdout.count("installed already") == 2
    assert verbs(scripts) == ["queued-resources create", *ONE_LAUNCH, *ONE_LAUNCH]


def test_left_and_taken_up_again_it_is_still_the_same_training(scripts):
    scripts.do.write_text("echo began; touch $CLOUD/ready-$WORKER; until [ -e $CLOUD/go ]; do sleep 0.05; done\n")
    first = scripts.start("tpu_vm.sh", *WHERE, *QUICK, *TRAIN)
    scripts.wait_for("ready-*", 2)
    first.send_signal(signal.SIGINT)
    _, errors = first.communicate(timeout=100)
    assert first.returncode == 130 and "the same line shows it again" in errors
    other = launch(scripts, command=("--", "joint-st", "train", "other.py", "--workdir", "gs://bucket/other"))
    assert other.returncode == 1 and "runs something else" in other.stderr
    (scripts.folder / "go").touch()
    second = launch(scripts)
    assert second.returncode == 0 and "began" in second.stdout
    assert len(scripts.calls("do.calls-0")) in (1, 2)  # it may have ended before it was shown again


@pytest.mark.parametrize(
    ("weather", "end"), [("echo SUSPENDED > $CLOUD/queue", "sleep 300"), ("echo PREEMPTED > $CLOUD/vm", "exit 1")]
)
def test_taken_away_it_is_deleted_asked_for_again_and_goes_on(scripts, weather, end):
    scripts.do.write_text(f"[ $RUN = 2 ] && echo goes on && exit; [ $WORKER = 1 ] || {{ {weather}; }}; {end}\n")
    result = launch(scripts, "--spot", "--delete-at-end")
    assert result.returncode == 0, result.stderr
    assert result.stdout.endswith("goes on\n") and "relaunch 1 of 20" in result.stderr
    assert [verb for verb in verbs(scripts) if verb.startswith("queued")] == [
        "queued-resources create",
        "queued-resources delete",
        "queued-resources create",
        "queued-resources delete",
    ]
    assert not (scripts.folder / "queue").exists()


@pytest.mark.parametrize("status", [75, 134])
def test_a_worker_that_restarts_takes_the_others_with_it(scripts, status):
    # Worker 1 is killed as by a restart of its machine; worker 0 then ends, as joint-st does.
    scripts.do.write_text(
        "[ $RUN = 2 ] && echo goes on && exit\n"
        "if [ $WORKER = 1 ]; then kill -KILL -- -$(cat ~/joint_st/job/session); fi\n"
        f"sleep 0.5; exit {status}\n"
    )
    result = launch(scripts)
    assert result.returncode == 0, result.stderr
    assert result.stdout.endswith("goes on\n") and "a worker was lost; relaunch 1 of 20" in result.stderr
    assert [verb for verb in verbs(scripts) if verb.startswith("queued")] == ["queued-resources create"]


def test_a_worker_that_cannot_be_asked_how_it_ended_was_lost(scripts):
    scripts.do.write_text("[ $RUN = 2 ] && echo goes on && exit; exit 75\n")
    (scripts.folder / "fail").write_text("worker.sh report")
    result = launch(scripts)
    assert result.returncode == 0, result.stderr
    assert result.stdout.endswith("goes on\n") and "a worker was lost; relaunch 1 of 20" in result.stderr


def test_relaunches_have_a_limit(scripts):
    scripts.do.write_text("echo SUSPENDED > $CLOUD/queue; sleep 300\n")
    result = launch(scripts, "--max-relaunches", 1)
    assert result.returncode == 1
    assert result.stderr.endswith("error: pod was taken away or restarted, after 1 relaunches (--max-relaunches)\n")
    assert verbs(scripts).count("queued-resources create") == 2


def test_a_lost_connection_is_no_relaunch_as_long_as_the_command_runs(scripts):
    (scripts.folder / "cut").write_text("worker.sh follow")
    scripts.do.write_text(
        'until [ "$(grep -c "worker.sh follow" $CLOUD/calls)" = 2 ]; do sleep 0.05; done; echo it ends\n'
    )
    result = launch(scripts, "--max-relaunches", 0)
    assert result.returncode == 0, result.stderr
    assert "the connection was lost; the command goes on" in result.stderr and "relaunch" not in result.stderr
    assert result.stdout.endswith("it ends\n") and len(scripts.calls("do.calls-0")) == 1


def test_a_command_that_is_started_again_after_a_lost_connection_is_a_relaunch(scripts):
    scripts.do.write_text("exit 255\n")
    result = launch(scripts, "--max-relaunches", 1)
    assert result.returncode == 1 and len(scripts.calls("do.calls-0")) == 2
    assert result.stderr.endswith("error: the connection was lost, after 1 relaunches (--max-relaunches)\n")


def test_where_the_state_is_not_told_the_command_goes_on_and_that_is_said(scripts):
    scripts.do.write_text("[ $WORKER = 1 ] || echo describe > $CLOUD/fail; sleep 300\n")
    result = launch(scripts)
    assert result.returncode == 1
    error, hint = result.stderr.splitlines()[-2:]
    assert "error: pod: gcloud did not tell its state in 5 tries" in error
    assert "what was started on pod goes on: the same line shows it again, --stop ends it" in hint


@pytest.mark.parametrize("first", [7, 75])
def test_a_command_that_fails_ends_it_with_its_status_and_what_each_worker_says(scripts, first):
    # With 75 joint-st says that another of its processes is gone: worker 1, which failed.
    scripts.do.write_text(f'echo "error of worker $WORKER"; [ $WORKER = 1 ] && exit 7; sleep 3; exit {first}\n')
    result = launch(scripts)
    assert result.returncode == 7
    assert "worker-1: ended with status 7\nerror of worker 1\n" in result.stdout
    assert "the command ended with status 7" in result.stderr
    assert verbs(scripts).count("queued-resources create") == 1 and len(scripts.calls("do.calls-0")) == 1


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("describe", "gcloud did not tell its state in 5 tries"),
        ("queued-resources create", "pod could not be created"),
        ("scp", "the checkout could not be installed on pod"),
        ("worker.sh start", "the command could not be started on pod"),
    ],
)
def test_gcloud_fails(scripts, pattern, message):
    (scripts.folder / "fail").write_text(pattern)
    result = launch(scripts)
    assert result.returncode == 1
    assert "PERMISSION_DENIED: not for you" in result.stderr
    assert message in result.stderr.splitlines()[-1]


def test_gcloud_hangs(scripts):
    (scripts.folder / "hang").write_text("scp")
    result = launch(scripts, "--timeout", 4)
    assert result.returncode == 1
    assert "gcloud compute tpus tpu-vm scp took more than 4 s and was ended (--timeout)" in result.stderr


def test_a_request_that_fails_is_not_repeated(scripts):
    (scripts.folder / "granted").write_text("FAILED\n")
    result = launch(scripts)
    assert result.returncode == 1
    assert "no such type in this zone" in result.stdout + result.stderr
    assert result.stderr.endswith("error: the request for pod failed (see above)\n")
    assert verbs(scripts) == ["queued-resources create"]
    # The next line finds it, deletes it, and asks again.
    (scripts.folder / "granted").unlink()
    assert launch(scripts).returncode == 0
    assert verbs(scripts)[1:3] == ["queued-resources delete", "queued-resources create"]


def test_without_a_queue(scripts):
    scripts.do.write_text("[ $RUN = 2 ] && exit; echo PREEMPTED > $CLOUD/vm; sleep 300\n")
    result = launch(scripts, "--no-queue")
    assert result.returncode == 0, result.stderr
    made = [verb for verb in verbs(scripts) if verb.split()[1] in ("create", "delete")]
    assert made == ["tpu-vm create", "tpu-vm delete", "tpu-vm create"]


def test_stop_and_delete(scripts):
    scripts.do.write_text(
        'trap "echo saved; exit 143" TERM; touch $CLOUD/ready-$WORKER\nwhile :; do sleep 0.05; done\n'
    )
    process = scripts.start("tpu_vm.sh", *WHERE, *QUICK, *TRAIN)
    scripts.wait_for("ready-*", 2)
    stopped = scripts.run("tpu_vm.sh", *WHERE, "--stop")
    assert stopped.returncode == 0 and "worker-1: stopped" in stopped.stdout
    output, errors = process.communicate(timeout=100)
    assert process.returncode == 143 and output.endswith("saved\n"), errors
    assert "stopped; the same line goes on" in errors
    for _ in range(2):
        assert scripts.run("tpu_vm.sh", *WHERE, "--poll", 0.1, "--delete").returncode == 0
    assert verbs(scripts).count("queued-resources delete") == 1
    nothing = scripts.run("tpu_vm.sh", *WHERE, "--stop")
    assert nothing.returncode == 1 and "nothing to stop: pod is ABSENT" in nothing.stderr


def test_changes_are_refused_or_taken_along(scripts, checkout, tmp_path):
    scripts.checkout = tmp_path / "changed"
    git(tmp_path, "clone", "--quiet", checkout, scripts.checkout)
    (scripts.checkout / "constraints.txt").write_text("changed\n")
    (scripts.checkout / "new.py").write_text("new\n")
    before = git(scripts.checkout, "status", "--porcelain")
    refused = launch(scripts)
    assert refused.returncode == 2 and "add --uncommitted" in refused.stderr and refused.stderr.count("\n") == 1
    assert scripts.calls() == []
    scripts.do.write_text("cat constraints.txt new.py\n")
    result = launch(scripts, "--uncommitted")
    assert result.returncode == 0 and result.stdout.endswith("changed\nnew\n"), result.stderr
    assert git(scripts.checkout, "status", "--porcelain") == before


def nest(checkout):
    (checkout / "nested").mkdir()
    git(checkout / "nested", "init", "--quiet")


def damage(checkout):
    (checkout / ".git" / "index").write_bytes(b"no index")


@pytest.mark.parametrize(("harm", "told"), [(nest, "'nested/' does not have a commit"), (damage, "index file")])
def test_a_checkout_that_git_cannot_read_whole_is_not_launched_without_its_changes(
    scripts, checkout, tmp_path, harm, told
):
    scripts.checkout = tmp_path / "changed"
    git(tmp_path, "clone", "--quiet", checkout, scripts.checkout)
    (scripts.checkout / "new.py").write_text("new\n")
    harm(scripts.checkout)
    result = launch(scripts, "--uncommitted")
    assert result.returncode == 1, result.stderr
    assert told in result.stderr and "error: git could not read all of" in result.stderr.splitlines()[-1]
    assert scripts.calls() == [] and not list((scripts.folder / "tmp").iterdir())


def test_a_dry_run_leaves_the_archive_of_a_launch_that_copies_it(scripts, checkout):
    """Two launches of the same commit, for two TPUs, must not take each other's archive away either."""
    tree = git(checkout, "rev-parse", "HEAD^{tree}").strip()
    other = scripts.folder / "tmp" / f"joint_st-{tree}.tar.gz"
    other.write_text("of another launch\n")
    for options in (("--dry-run",), ()):
        assert launch(scripts, *options).returncode == 0
        assert other.read_text() == "of another launch\n"


def test_a_run_that_stays_on_the_workers_is_noted(scripts):
    result = launch(scripts, "--dry-run", command=("--", "joint-st", "train", "c.py", "--workdir", "runs/c"))
    assert result.returncode == 0 and "note: no gs:// path" in result.stderr


def test_what_is_missing_is_told_in_one_line(scripts):
    result = scripts.run("tpu_vm.sh", "--zone", "europe-west4-b")
    assert result.returncode == 2 and result.stderr.count("\n") == 1
    for option in ("--name (", "--type (", "-- COMMAND ("):
        assert option in result.stderr
    for options, words in (
        (("--spot", "--reserved"), "--spot --reserved: one or the other"),
        (("--type", "h100"), "name one with --runtime"),
        (("--poll", "often"), "--poll often: a number of seconds"),
        (("--max-relaunches", "-1"), "--max-relaunches -1: a whole number"),
        (("--max-relaunches", "010"), "--max-relaunches 010: a whole number"),
        (("--zones", "a"), "--zones: unknown option"),
        (("--zone",), "--zone takes a value"),
    ):
        result = launch(scripts, *options)
        assert result.returncode == 2 and words in result.stderr and result.stderr.count("\n") == 1
    assert scripts.calls() == []

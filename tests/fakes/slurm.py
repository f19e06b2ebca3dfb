"""A real SLURM on loopback: munged, slurmctld and a slurmd for each node, of this test alone."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol", "squeue")
START_S = 60.0
SYSTEM_FOLDERS = "/usr/sbin:/sbin"
# Job numbers begin with the port: jobs of two of these SLURMs have folders of different names.
# OverTimeLimit gives a busy machine two minutes more, after the signal, to write its checkpoints.
# The devices only let SLURM count two GPUs on each node and set CUDA_VISIBLE_DEVICES.
GPUS = ("/dev/null", "/dev/zero")
SETTINGS = """
ClusterName=fixture
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort={port}
FirstJobId={port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge/socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/log/slurmctld
SlurmdLogFile={folder}/log/slurmd-%n
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/builtin
SchedulerParameters=sched_interval=1,batch_sched_delay=0
ReturnToService=2
KillWait=30
MessageTimeout=60
OverTimeLimit=2
GresTypes=gpu
NodeName={names} NodeHostname=localhost NodeAddr=127.0.0.1 Port={ports} CPUs=4 Gres=gpu:2
PartitionName=short Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


@dataclass
class Slurm:
    """A running SLURM; its commands use it if they get `environment`."""

    folder: Path
    environment: dict[str, str]

    def submit(self, *command: object, cwd: Path) -> str:
        """Send a batch job; returns its number."""
        return self.run("sbatch", "--parsable", *command, cwd=cwd).strip()

    def run(self, *command: object, cwd: Path | None = None) -> str:
        """Run a command of SLURM and return what it printed."""
        words = [str(word) for word in command]
        done = subprocess.run(
            words, env=self.environment, cwd=cwd or self.folder, text=True, timeout=120,
            check=False, capture_output=True,
        )  # fmt: skip
        assert done.returncode == 0, f"{words}: {done.stderr}"
        return done.stdout

    def state(self, job: str) -> str:
        """The state of a job or of the tasks of an array, e.g. RUNNING."""
        return self.field(job, "JobState")

    def field(self, job: str, name: str) -> str:
        """What SLURM shows under a name for a job; several values of an array with commas."""
        shown = self.run("scontrol", "show", "job", job, "--oneliner")
        found = [word.partition("=")[2] for word in shown.split() if word.startswith(f"{name}=")]
        return ",".join(sorted(set(found)))

    def wait(self, job: str, states: Sequence[str], limit_s: float) -> str:
        """Wait until a job, or every task of an array, has one of these states."""
        end = time.monotonic() + limit_s
        while (now := self.state(job)) not in states:
            assert time.monotonic() < end, f"job {job} is {now}\n{self.run('squeue')}"
            time.sleep(0.5)
        return now


@contextmanager
def slurm(nodes: int = 2, **others: str) -> Iterator[Slurm]:
    """SLURM with nodes n1, n2, ...; skips the test if it is not installed.

    Several slurmd on one machine need a SLURM that was built with --enable-multiple-slurmd, as
    Debian's is. `others` are further settings of slurm.conf.
    """
    path = f"{os.environ['PATH']}:{SYSTEM_FOLDERS}"
    if missing := [name for name in PROGRAMS if shutil.which(name, path=path) is None]:
        pytest.skip(f"SLURM is not installed: {missing[0]} is missing (apt-get install slurm-wlm)")
    folder = Path(tempfile.mkdtemp(prefix="fssplat-slurm-"))
    environment = {**os.environ, "PATH": path, "SLURM_CONF": str(folder / "slurm.conf")}
    for name in [name for name in environment if name.startswith(("SLURM_JOB", "SBATCH_"))]:
        del environment[name]
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        _configure(folder, nodes, others)
        names = [f"n{number}" for number in range(1, nodes + 1)]
        munge = folder / "munge"
        _start(stack, environment, folder, "munged", "--foreground", "--force",
               f"--socket={munge}/socket", f"--key-file={munge}/key", f"--pid-file={munge}/pid",
               f"--log-file={munge}/log", f"--seed-file={munge}/seed")  # fmt: skip
        _until((munge / "socket").exists, "munged did not start")
        _start(stack, environment, folder, "slurmctld", "-D", "-c")
        for name in names:
            _start(stack, environment, folder, "slurmd", "-D", "-N", name)
        found = Slurm(folder, environment)
        stack.callback(_cancel_all, found)
        _until(lambda: _idle(environment) == len(names), "the nodes of SLURM did not become idle")
        yield found


def _configure(folder: Path, nodes: int, others: dict[str, str]) -> None:
    folder.chmod(0o755)  # other users send jobs too
    for name in ("munge", "state", "spool", "log"):
        (folder / name).mkdir()
    (folder / "munge" / "key").write_bytes(os.urandom(1024))
    (folder / "munge" / "key").chmod(0o400)
    first = _free_ports(nodes + 1)
    text = SETTINGS.format(
        folder=folder,
        user=pwd.getpwuid(os.getuid()).pw_name,
        port=first,
        names=f"n[1-{nodes}]",
        ports=f"{first + 1}-{first + nodes}" if nodes > 1 else first + 1,
    )
    text += "".join(f"{name}={value}\n" for name, value in others.items())
    (folder / "slurm.conf").write_text(text)
    gpus = "".join(f"NodeName=n[1-{nodes}] Name=gpu File={device}\n" for device in GPUS)
    (folder / "gres.conf").write_text(gpus)


def _free_ports(count: int) -> int:
    """The first of `count` free ports in a row."""
    while True:
        with closing(socket.socket()) as probe:
            probe.bind(("127.0.0.1", 0))
            first = int(probe.getsockname()[1])
        if first + count < 65536 and all(_free(first + one) for one in range(count)):
            return first


def _free(port: int) -> bool:
    with closing(socket.socket()) as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def _start(
    stack: ExitStack, environment: dict[str, str], folder: Path, program: str, *options: str
) -> None:
    """Start a server that ends with the stack."""
    with (folder / "log" / f"{program}.screen").open("ab") as screen:
        process = subprocess.Popen(
            [program, *options], env=environment, cwd=folder, stdout=screen, stderr=screen
        )
    stack.callback(_end, process)


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(20)


def _idle(environment: dict[str, str]) -> int:
    """Number of nodes that take jobs."""
    command = ["sinfo", "--noheader", "--Node", "--format=%t"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return done.stdout.split().count("idle")


def _cancel_all(running: Slurm) -> None:
    """End all jobs and wait until none of their processes is left."""
    with suppress(AssertionError):  # the servers may be dead
        jobs = running.run("squeue", "--noheader", "--format=%i").split()
        if not jobs:
            return
        running.run("scancel", "--signal=KILL", "--full", *jobs)
        running.run("scancel", *jobs)
        _until(lambda: not running.run("squeue", "--noheader").strip(), "jobs of SLURM do not end")


def _until(true: Callable[[], bool], complaint: str) -> None:
    end = time.monotonic() + START_S
    while not true():
        assert time.monotonic() < end, complaint
        time.sleep(0.2)

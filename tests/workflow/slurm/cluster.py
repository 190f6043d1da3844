"""SLURM on this machine for the length of a test: munged, slurmctld and slurmd as children of the test process.

No database: squeue is the only way to ask for a job, so a finished job must be remembered (MinJobAge).
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

SYSTEM_CONF = Path("/etc/slurm/slurm.conf")
"""Where srun inside a job looks: the executor plug-in hands no SLURM_CONF on."""

_TOOLS = ("munged", "munge", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scontrol")
_SEARCH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin"])

_CONF = """\
ClusterName=certlip
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
SlurmctldPort={port}
SlurmdPort={next_port}
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SchedulerParameters=sched_interval=1,batch_sched_delay=0
EnforcePartLimits=ALL
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=1
JobAcctGatherParams=OverMemoryKill
MinJobAge=3600
KillWait=2
ReturnToService=2
SlurmdParameters=config_overrides
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={memory_mb} State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


def why_not() -> str | None:
    """Why no cluster can be started here; None if one can."""
    missing = [tool for tool in _TOOLS if shutil.which(tool, path=_SEARCH) is None]
    if missing:
        return f"{', '.join(missing)} not found: install slurm-wlm and munge"
    if (os.cpu_count() or 1) < 2:
        return "two processors are needed"
    if os.geteuid() != 0:
        return "slurmd must run as root"
    if SYSTEM_CONF.exists():
        return f"{SYSTEM_CONF} exists: this machine has a SLURM of its own"
    return None


class Cluster:
    """One node with the processors of this machine; `folder` must be empty and have a short name (sockets)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.daemons: list[subprocess.Popen[bytes]] = []
        self.environment = {**os.environ, "PATH": _SEARCH, "SLURM_CONF": str(folder / "slurm.conf")}

    def start(self) -> None:
        """Bring all daemons up; RuntimeError, with the end of its log, if one of them does not come."""
        self._configure()
        munge = ["--socket", str(self.folder / "munge.socket")]
        key = ["--key-file", str(self.folder / "munge.key"), "--seed-file", str(self.folder / "seed")]
        pid = ["--pid-file", str(self.folder / "munged.pid")]
        self._launch("munged", "--foreground", "--force", *munge, *key, *pid)
        self._wait("munged", lambda: self.answer("munge", "-S", munge[1], "-n") != "")
        self._launch("slurmctld", "-D", "-i")
        self._wait("slurmctld", lambda: " UP" in self.answer("scontrol", "ping"))
        self._launch("slurmd", "-D", "-N", self.host)
        self._wait("slurmd", lambda: self.answer("sinfo", "-h", "-o", "%T") in ("idle", "mixed"))

    def stop(self) -> None:
        """Cancel the jobs, end the daemons, and take the link away."""
        try:
            self.answer("scancel", "--user=root")
            self._until(10, lambda: self.answer("squeue", "-h", "-t", "running,completing") == "")
        finally:
            for daemon in reversed(self.daemons):
                daemon.terminate()
                try:
                    daemon.wait(10)
                except subprocess.TimeoutExpired:
                    daemon.kill()
                    daemon.wait()
            if SYSTEM_CONF.is_symlink() and SYSTEM_CONF.readlink() == self.folder / "slurm.conf":
                SYSTEM_CONF.unlink()

    @property
    def host(self) -> str:
        return socket.gethostname().partition(".")[0]

    def answer(self, *command: str) -> str:
        """What a SLURM command prints; empty if it fails."""
        done = subprocess.run(
            command, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False
        )
        return done.stdout.strip() if done.returncode == 0 else ""

    def _configure(self) -> None:
        for name in ("state", "spool", "log"):
            (self.folder / name).mkdir(parents=True)
        self.folder.chmod(0o755)
        key = self.folder / "munge.key"
        key.touch(mode=0o600)
        key.write_bytes(os.urandom(128))
        memory_mb = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2**20 * 9 // 10
        port = _free_port()
        values = {"host": self.host, "folder": self.folder, "port": port, "next_port": _free_port()}
        conf = self.folder / "slurm.conf"
        conf.write_text(_CONF.format(**values, cpus=os.cpu_count(), memory_mb=memory_mb))
        SYSTEM_CONF.parent.mkdir(exist_ok=True)
        SYSTEM_CONF.unlink(missing_ok=True)  # a link to nothing: of a test that was killed
        SYSTEM_CONF.symlink_to(conf)

    def _launch(self, *command: str) -> None:
        with open(self.folder / "log" / f"{command[0]}.log", "wb") as log:
            self.daemons.append(
                subprocess.Popen(command, env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            )

    def _wait(self, name: str, ready: Callable[[], bool]) -> None:
        if not self._until(60, lambda: ready() or self.daemons[-1].poll() is not None) or not ready():
            tail = (self.folder / "log" / f"{name}.log").read_text(errors="replace")[-2000:]
            raise RuntimeError(f"{name} did not come up: {tail}")

    @staticmethod
    def _until(seconds: float, condition: Callable[[], bool]) -> bool:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if condition():
                return True
            time.sleep(0.1)
        return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])

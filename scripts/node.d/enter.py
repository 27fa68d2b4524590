"""Runs one command in a test node and takes everything of the node away again, however it ends.

Three processes:
  supervisor  the one that scripts/node becomes; holds the node's lock, forwards signals, cleans up
  init        PID 1 of the node; makes the namespaces and mounts, runs the command, reaps
  watcher     in a session of its own; waits for the lock and cleans up if the supervisor was killed

The supervisor's death kills init (PR_SET_PDEATHSIG, and a pipe that closes the race before it is set); init's death
makes the kernel kill every process of the PID namespace, and with the last one go the mount, network, UTS, IPC and
cgroup namespaces. What outlives processes is cgroups and the run directory: both are listed under a lock that the
kernel releases, so the watcher, or the next node, removes them.
"""

import argparse
import ctypes
import errno
import fcntl
import json
import os
import select
import shutil
import signal
import socket
import stat
import struct
import subprocess
import sys
import time

LIBC = ctypes.CDLL(None, use_errno=True)
CLONE = {"mnt": 0x00020000, "cgroup": 0x02000000, "uts": 0x04000000, "ipc": 0x08000000, "pid": 0x20000000, "net": 0x40000000}
MS = {"nosuid": 2, "nodev": 4, "noexec": 8, "bind": 4096, "rec": 16384, "private": 1 << 18, "shared": 1 << 20}
MNT_DETACH = 2
PR_SET_PDEATHSIG = 1
SYS_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1
OVERLAYFS_MAGIC = 0x794C7630

# What went wrong before the command could run; as in chroot(1) and env(1).
EXIT_SETUP, EXIT_CANNOT_EXEC, EXIT_NOT_FOUND = 125, 126, 127
# How long the command may take to end after a signal was forwarded before the node is killed.
GRACE_SECONDS = 10
# How long cgroups may stay busy after the last process was killed.
CLEANUP_SECONDS = 30
FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)
DEVICES = ("null", "zero", "full", "random", "urandom", "tty", "kmsg", "fuse", "userfaultfd", "net/tun")
LOOP_DEVICES = 16


class NodeError(Exception):
    """Something that keeps the node from being entered; the message is for the user."""


def call(name, *args):
    if getattr(LIBC, name)(*args) != 0:
        number = ctypes.get_errno()
        what = " ".join(a.decode() for a in args if isinstance(a, bytes))
        raise NodeError(f"Cannot {name} {what}: {os.strerror(number)}")


def mount(source, target, kind=None, flags=0, data=None):
    as_bytes = [None if s is None else s.encode() for s in (source, target, kind)]
    call("mount", *as_bytes, ctypes.c_ulong(flags), None if data is None else data.encode())


# cgroups -------------------------------------------------------------------------------------------------------


def own_cgroups():
    """[(controllers, path)] of /proc/self/cgroup; controllers is '' for the v2 hierarchy."""
    with open("/proc/self/cgroup") as f:
        for line in f:
            _, controllers, path = line.rstrip("\n").split(":", 2)
            yield controllers, path


def cgroup_mounts():
    """{controllers: (mount point, root of the mount in its hierarchy)}, as this machine mounts them."""
    found = {}
    with open("/proc/self/mountinfo") as f:
        for line in f:
            left, right = line.rstrip("\n").split(" - ", 1)
            fields, (kind, _, options) = left.split(" "), right.split(" ", 2)
            if kind == "cgroup2":
                found.setdefault("", (fields[4], fields[3]))
            elif kind == "cgroup":
                for option in options.split(","):
                    found.setdefault(option, (fields[4], fields[3]))
    return found


def node_cgroups(name):
    """[(controllers, directory)] of the cgroups that the node called NAME gets, one in each mounted hierarchy."""
    mounts = cgroup_mounts()
    pure_v2 = set(mounts) == {""}
    result = []
    for controllers, path in own_cgroups():
        place = mounts.get(controllers.split(",")[0])
        if place is None:
            continue
        point, root = place
        below = os.path.relpath(path, root)
        # With v2 a cgroup that holds processes cannot give controllers to its children; only the root can.
        parent = point if below.startswith("..") or pure_v2 else os.path.normpath(os.path.join(point, below))
        result.append((controllers, os.path.join(parent, name)))
    if not result:
        raise NodeError("Cannot find a cgroup hierarchy: mount /sys/fs/cgroup first")
    return result


def write(path, text):
    with open(path, "w") as f:
        f.write(text)


def make_cgroups(cgroups):
    for controllers, path in cgroups:
        parent = os.path.dirname(path)
        if controllers == "":
            delegate(parent)
        try:
            os.mkdir(path)
        except OSError as e:
            raise NodeError(f"Cannot make the node's cgroup {path}: {e.strerror}") from e
        if "cpuset" in controllers.split(","):
            # A new v1 cpuset is empty, and no process can enter an empty one.
            for name in ("cpuset.cpus", "cpuset.mems"):
                with open(os.path.join(parent, name)) as f:
                    write(os.path.join(path, name), f.read())


def delegate(path):
    """Gives the children of a v2 cgroup every controller that can be given."""
    with open(os.path.join(path, "cgroup.controllers")) as f:
        for controller in f.read().split():
            try:
                write(os.path.join(path, "cgroup.subtree_control"), f"+{controller}")
            except OSError:
                pass  # in use by a v1 hierarchy, or not ours to give: the node does without


def thaw_cgroup(path):
    """Lets go what is frozen in a cgroup: a v1 freezer keeps a process from dying, also by SIGKILL (a dump that was cut short)."""
    for directory, _, _ in os.walk(path):
        state = os.path.join(directory, "freezer.state")
        try:
            if os.path.exists(state):
                write(state, "THAWED")
        except (FileNotFoundError, NodeError):
            pass  # removed meanwhile


def remove_cgroup(path):
    """Removes a cgroup with all below it; True when it is gone."""
    for directory, _, _ in os.walk(path, topdown=False):
        try:
            os.rmdir(directory)
        except FileNotFoundError:
            pass
        except OSError as e:
            if e.errno == errno.EBUSY:
                return False
            raise
    return not os.path.exists(path)


# The node's directory and its lock ----------------------------------------------------------------------------


class Run:
    """The directory of one running node: NODE_DIR/run/NAME, with NAME.lock beside it."""

    def __init__(self, base, name):
        self.name, self.path, self.lock_path = name, os.path.join(base, name), os.path.join(base, name + ".lock")
        self.cgroup_list = os.path.join(self.path, "cgroups")

    def lock(self, block):
        """The locked descriptor; None when somebody else holds the lock (or, blocking, when it is all cleaned up)."""
        try:
            fd = os.open(self.lock_path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | (0 if block else fcntl.LOCK_NB))
        except BlockingIOError:
            os.close(fd)
            return None
        return fd

    def create(self):
        while True:
            fd = os.open(self.lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(fd, fcntl.LOCK_EX)
            # Another node's sweep may have taken and removed the new file before it was locked.
            try:
                if os.stat(self.lock_path).st_ino == os.fstat(fd).st_ino:
                    break
            except FileNotFoundError:
                pass
            os.close(fd)
        os.mkdir(self.path, 0o700)
        return fd

    def clean(self):
        """Removes the cgroups and the directory. The caller holds the lock."""
        try:
            with open(self.cgroup_list) as f:
                cgroups = json.load(f)
        except (FileNotFoundError, ValueError):
            cgroups = []  # killed before the list was written whole: no cgroup was made yet
        deadline = time.monotonic() + CLEANUP_SECONDS
        for path in cgroups:
            while not remove_cgroup(path):
                for each in cgroups:
                    thaw_cgroup(each)
                if time.monotonic() > deadline:
                    raise NodeError(f"Cannot remove the cgroup {path}: it is still busy after {CLEANUP_SECONDS} s")
                time.sleep(0.02)
        while os.path.isdir(self.path):
            try:
                shutil.rmtree(self.path)
            except OSError:
                # the last process of the node is still writing into it
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
        try:
            os.unlink(self.lock_path)
        except FileNotFoundError:
            pass


def sweep(base):
    """Cleans up after nodes whose supervisor and watcher were both killed; the number of nodes still running."""
    running = 0
    for entry in sorted(os.listdir(base)):
        if not entry.endswith(".lock"):
            # The lock is made before the folder and removed after it: one without the other is a remnant.
            if not os.path.exists(os.path.join(base, entry + ".lock")):
                shutil.rmtree(os.path.join(base, entry), ignore_errors=True)
            continue
        run = Run(base, entry.removesuffix(".lock"))
        fd = run.lock(block=False)
        if fd is None:
            running += 1
            continue
        try:
            run.clean()
        finally:
            os.close(fd)
    return running


def start_watcher(run, held):
    """Forks twice, so that the watcher belongs to nobody here. Of our descriptors it keeps only HELD, the locks that
    stand for what is still being cleaned up, so that nobody waits for it at the end of a pipe."""
    first = os.fork()
    if first != 0:
        _, status = os.waitpid(first, 0)
        if status != 0:
            raise NodeError("Cannot start the process that cleans up after a killed node")
        return
    code = 1
    try:
        os.setsid()
        if os.fork() != 0:
            code = 0
            return
        null = os.open("/dev/null", os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(null, fd)
        # The run's lock belongs to the open file that fork shares: keeping it would be waiting for ourselves.
        low = 3
        for fd in sorted(held) + [65536]:
            os.closerange(low, fd)
            low = fd + 1
        os.chdir("/")
        for number in FORWARDED:
            signal.signal(number, signal.SIG_IGN)
        fd = run.lock(block=True)
        if fd is not None and os.path.exists(run.lock_path):
            run.clean()
    finally:
        os._exit(code)


# The inside ---------------------------------------------------------------------------------------------------


def mount_root(options, run):
    """The Debian root below an overlay of this run, so that nodes share it and none changes it."""
    root = os.path.join(run.path, "root")
    upper, work = os.path.join(run.path, "upper"), os.path.join(run.path, "work")
    mount("overlay", root, "overlay", 0, f"lowerdir={options.root},upperdir={upper},workdir={work}")
    return root


def bind(source, target):
    if os.path.isdir(source):
        os.makedirs(target, exist_ok=True)
    elif not os.path.exists(target):
        os.makedirs(os.path.dirname(target), exist_ok=True)
        open(target, "w").close()
    # Not recursive: the checkout may hold the node directory, and with it the root that is being put together.
    mount(source, target, None, MS["bind"])


def mount_dev(root):
    dev = root + "/dev"
    mount("tmpfs", dev, "tmpfs", MS["nosuid"], "mode=755,size=1m")
    for name in DEVICES + tuple(n for n in sorted(os.listdir("/dev")) if n.startswith("nvidia")):
        try:
            info = os.stat("/dev/" + name)
        except OSError:
            continue  # this kernel does not have it
        if not stat.S_ISCHR(info.st_mode):
            continue
        os.makedirs(os.path.dirname(f"{dev}/{name}"), exist_ok=True)
        os.mknod(f"{dev}/{name}", stat.S_IFCHR, info.st_rdev)
        os.chmod(f"{dev}/{name}", stat.S_IMODE(info.st_mode))
    if os.path.exists("/dev/loop-control"):
        os.mknod(dev + "/loop-control", stat.S_IFCHR | 0o660, os.stat("/dev/loop-control").st_rdev)
        for n in range(LOOP_DEVICES):
            os.mknod(f"{dev}/loop{n}", stat.S_IFBLK | 0o660, os.makedev(7, n))
    for name in ("pts", "shm"):
        os.mkdir(f"{dev}/{name}")
    mount("devpts", dev + "/pts", "devpts", MS["nosuid"] | MS["noexec"], "newinstance,ptmxmode=0666,mode=620,gid=5")
    mount("tmpfs", dev + "/shm", "tmpfs", MS["nosuid"] | MS["nodev"], "mode=1777")
    for link, to in (("ptmx", "pts/ptmx"), ("fd", "/proc/self/fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")):
        os.symlink(to, f"{dev}/{link}")


def mount_cgroups(root, cgroups):
    """The hierarchies of the machine, each showing the node's own cgroup as its root."""
    base = root + "/sys/fs/cgroup"
    if [c for c, _ in cgroups] == [""]:
        mount("cgroup2", base, "cgroup2", MS["nosuid"] | MS["nodev"] | MS["noexec"])
        # The node's root must be empty of processes before it can give controllers to containers.
        os.mkdir(base + "/init")
        write(base + "/init/cgroup.procs", "0")
        delegate(base)
        return
    mount("tmpfs", base, "tmpfs", MS["nosuid"] | MS["nodev"] | MS["noexec"], "mode=755,size=1m")
    for controllers, _ in cgroups:
        if controllers == "":
            os.mkdir(base + "/unified")
            mount("cgroup2", base + "/unified", "cgroup2", MS["nosuid"] | MS["nodev"] | MS["noexec"])
            continue
        name = controllers.removeprefix("name=")
        os.mkdir(f"{base}/{name}")
        data = f"none,{controllers}" if controllers.startswith("name=") else controllers
        mount("cgroup", f"{base}/{name}", "cgroup", MS["nosuid"] | MS["nodev"] | MS["noexec"], data)
        for alias in name.split(","):
            if alias != name:
                os.symlink(name, f"{base}/{alias}")


def loopback_up():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        request = struct.pack("16sh22x", b"lo", 0)
        flags = struct.unpack("16sh22x", fcntl.ioctl(s, SIOCGIFFLAGS, request))[1]
        fcntl.ioctl(s, SIOCSIFFLAGS, struct.pack("16sh22x", b"lo", flags | IFF_UP))


def build_node(options, run, cgroups):
    for _, path in cgroups:
        write(os.path.join(path, "cgroup.procs"), "0")
    call("unshare", CLONE["mnt"] | CLONE["uts"] | CLONE["ipc"] | CLONE["net"] | CLONE["cgroup"])
    mount(None, "/", None, MS["rec"] | MS["private"])
    root = mount_root(options, run)
    mount("proc", root + "/proc", "proc", MS["nosuid"] | MS["nodev"] | MS["noexec"])
    mount("sysfs", root + "/sys", "sysfs", MS["nosuid"] | MS["nodev"] | MS["noexec"])
    mount_dev(root)
    mount_cgroups(root, cgroups)
    mount("tmpfs", root + "/run", "tmpfs", MS["nosuid"] | MS["nodev"], "mode=755")
    os.mkdir(root + "/run/lock")
    mount("tmpfs", root + "/tmp", "tmpfs", MS["nosuid"] | MS["nodev"], "mode=1777")
    for pair in options.bind:
        source, target = pair.split(":", 1)
        bind(source, root + target)
    socket.sethostname("thaw-node")
    loopback_up()
    new_root = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    # Whoever joins a mount namespace, as runc does for exec, starts at the namespace's own root. If this machine is a
    # chroot, that root lies above ours and pivot_root would leave it there; joining one's own namespace goes up to it.
    own = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    call("setns", own, CLONE["mnt"])
    os.close(own)
    os.fchdir(new_root)
    os.close(new_root)
    # pivot_root(".", "."): the old root ends up on top of the new one and is then detached.
    if LIBC.syscall(SYS_PIVOT_ROOT[os.uname().machine], b".", b".") != 0:
        raise NodeError(f"Cannot pivot_root: {os.strerror(ctypes.get_errno())}")
    call("umount2", b".", MNT_DETACH)
    os.chdir("/")
    # containerd and CRI want images and sandboxes below a shared mount.
    mount(None, "/", None, MS["rec"] | MS["shared"])


def exec_command(options):
    for number in FORWARDED + (signal.SIGPIPE, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    environment = dict(pair.split("=", 1) for pair in options.env)
    os.environ["PATH"] = environment.get("PATH", os.environ["PATH"])
    try:
        os.chdir(options.workdir)
        os.execvpe(options.command[0], options.command, environment)
    except FileNotFoundError:
        print(f"error: Cannot find {options.command[0]} in the node", file=sys.stderr)
        os._exit(EXIT_NOT_FOUND)
    except OSError as e:
        print(f"error: Cannot run {options.command[0]}: {e.strerror}", file=sys.stderr)
        os._exit(EXIT_CANNOT_EXEC)


def exit_code(status):
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def init(options, run, cgroups, lifeline):
    """PID 1. Returns the exit status of the command; returning ends the node."""
    wake_read, wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    pending = []
    for number in FORWARDED:
        signal.signal(number, lambda n, _: pending.append(n))
    signal.signal(signal.SIGCHLD, lambda n, _: None)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if select.select([lifeline], [], [], 0)[0]:
        return EXIT_SETUP  # the supervisor died before it was watched
    try:
        stage(options, run)
        build_node(options, run, cgroups)
    except (NodeError, OSError) as e:
        print(f"error: {e}", file=sys.stderr)
        return EXIT_SETUP
    command = os.fork()
    if command == 0:
        exec_command(options)
    while True:
        while pending:
            os.kill(command, pending.pop(0))
        # PID 1 is the parent of every orphan: reaping all of them is its job, and its only other child is the command.
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return EXIT_SETUP
            if pid == command:
                return exit_code(status)
            if pid == 0:
                break
        ready = select.select([wake_read, lifeline], [], [])[0]
        if lifeline in ready:
            return EXIT_SETUP
        os.read(wake_read, 4096)


# The outside --------------------------------------------------------------------------------------------------


def reap(node, cgroups):
    """Waits for init; its wait status. The kernel keeps it until every process of the node is dead."""
    gone = os.pidfd_open(node)
    while not select.select([gone], [], [], 1)[0]:
        with open(f"/proc/{node}/cmdline", "rb") as f:
            ending = f.read() == b""  # without memory: it is on its way out
        if ending:
            for _, path in cgroups:
                thaw_cgroup(path)
    os.close(gone)
    return os.waitpid(node, 0)[1]


def supervise(node, cgroups, terminal):
    """Waits for init, forwarding signals; its exit status."""
    asked = False

    def forward(number, _):
        nonlocal asked
        # A terminal sends its own signals to the whole foreground group, the command included.
        if not (terminal and number in (signal.SIGINT, signal.SIGQUIT)):
            os.kill(node, number)
            if number not in (signal.SIGUSR1, signal.SIGUSR2) and not asked:
                asked = True
                signal.alarm(GRACE_SECONDS)

    for number in FORWARDED:
        signal.signal(number, forward)
    signal.signal(signal.SIGALRM, lambda *_: os.kill(node, signal.SIGKILL))
    status = reap(node, cgroups)
    signal.alarm(0)
    for number in FORWARDED:
        signal.signal(number, signal.SIG_IGN)
    return exit_code(status)


def end(node, cgroups):
    """Kills and reaps init when waiting for it was cut short."""
    try:
        os.kill(node, signal.SIGKILL)
        reap(node, cgroups)
    except (ProcessLookupError, ChildProcessError):
        pass


def check_filesystem(path):
    buffer = ctypes.create_string_buffer(256)
    LIBC.statfs(path.encode(), buffer)
    if ctypes.c_long.from_buffer(buffer).value == OVERLAYFS_MAGIC:
        raise NodeError(
            f"Cannot use {path}: it lies on overlayfs, and a node needs overlays of its own. "
            "Set THAW_NODE_DIR to a folder on ext4 or xfs"
        )


def stage(options, run):
    """Installs thaw into the node as a package would, from what was built last."""
    target = os.path.join(run.path, "thaw")
    links = os.path.join(run.path, "upper/usr/local/bin")
    done = subprocess.run([options.stage, "--partial", "--criu", options.criu, "--links", links, target], check=False)
    if done.returncode != 0:
        raise NodeError("Cannot stage thaw into the node (see above)")


def enter(options):
    base = os.path.join(options.node_dir, "run")
    os.makedirs(base, mode=0o700, exist_ok=True)
    check_filesystem(base)
    if any(c in options.node_dir for c in ":,\\"):
        raise NodeError(f"Cannot use {options.node_dir}: an overlay's path must be free of ':', ',' and '\\'")
    sweep(base)
    run = Run(base, f"{options.suite}-{os.getpid()}-{time.monotonic_ns():x}")
    run_lock = run.create()
    node = None
    try:
        start_watcher(run, options.hold)
        for name in ("root", "upper", "work", "state"):
            os.mkdir(os.path.join(run.path, name), 0o755)
        state = options.persist or os.path.join(run.path, "state")
        options.bind.append(f"{state}:/state")
        for name in ("containerd", "thaw", "docker-registry"):
            os.makedirs(os.path.join(state, name), mode=0o700, exist_ok=True)
            options.bind.append(f"{os.path.join(state, name)}:/var/lib/{name}")
        options.bind.append(f"{os.path.join(run.path, 'thaw')}:/opt/thaw")
        cgroups = node_cgroups("thaw-node-" + run.name)
        write(run.cgroup_list, json.dumps([path for _, path in cgroups]))
        make_cgroups(cgroups)
        lifeline_read, lifeline_write = os.pipe2(os.O_CLOEXEC)
        # Only children are affected: the next one is PID 1 of the node.
        call("unshare", CLONE["pid"])
        sys.stdout.flush()
        node = os.fork()
        if node == 0:
            os.close(lifeline_write)
            code = EXIT_SETUP
            try:
                code = init(options, run, cgroups, lifeline_read)
            finally:
                sys.stderr.flush()
                os._exit(code)
        os.close(lifeline_read)
        code = supervise(node, cgroups, os.isatty(0))
        node = None
        return code
    finally:
        if node is not None:
            end(node, cgroups)
        run.clean()
        os.close(run_lock)


def main():
    parser = argparse.ArgumentParser(prog="scripts/node.d/enter.py", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--node-dir", required=True)
    parser.add_argument("--sweep", action="store_true", help="only clean up; exit status 1 while nodes are running")
    parser.add_argument("--suite", default="")
    parser.add_argument("--root", help="the Debian root")
    parser.add_argument("--criu", help="the Debian root that CRIU is taken from")
    parser.add_argument("--stage", help="scripts/stage")
    parser.add_argument("--persist", help="the folder that is /state; without it /state goes with the node")
    parser.add_argument("--bind", action="append", default=[])
    parser.add_argument("--env", action="append", default=[])
    parser.add_argument("--workdir", default="/thaw")
    parser.add_argument("--hold", action="append", type=int, default=[], help="a descriptor kept until all is clean")
    parser.add_argument("command", nargs="*")
    options = parser.parse_args()
    os.umask(0o022)
    for fd in options.hold:
        os.set_inheritable(fd, False)
    try:
        if options.sweep:
            base = os.path.join(options.node_dir, "run")
            return 1 if os.path.isdir(base) and sweep(base) > 0 else 0
        return enter(options)
    except (NodeError, OSError) as e:
        print(f"error: {e}", file=sys.stderr)
        return EXIT_SETUP


if __name__ == "__main__":
    sys.exit(main())

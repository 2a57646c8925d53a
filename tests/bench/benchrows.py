# SPDX-License-Identifier: BSD-2-Clause
"""What is measured: one row a piece of work, the peer's command and ours, and the bar
that the project set itself. A row that cannot run here says why."""
import os
import shutil

from benchdata import run
from benchrun import remove

QEMU_NAME = {"vhd": "vpc"}


class Missing(Exception):
    """Why a row cannot run on this machine."""


class Row:
    """bar: the ratio of wall time that is to be reached; cpu, size: of CPU time and of the
    room that the result takes, if any."""

    cwd = None
    durable = False
    shares = False      # extents: then its time is that of a file system's transactions
    warm = ()

    def __init__(self, name, bar, cpu=None, size=None):
        self.name = name
        self.bars = [(what, limit) for what, limit in (("wall", bar), ("cpu", cpu), ("size", size))
                     if limit]

    def before(self, command):
        """What a command needs afresh each time, not measured."""

    def room(self, data):
        """Where the results go."""
        return data.dir

    def inputs(self, data):
        """All files that are read."""
        return self.sources(data)

    def others(self, data, scratch):
        """The peer's other ways to do the same: it is measured by the quickest."""
        return []


class Convert(Row):
    """One image into another. format of a source: its suffix."""

    def __init__(self, name, bar, source, fmt, durable=False, peer_options=(), our_options=(),
                 cpu=None, size=None):
        super().__init__(name, bar, cpu, size)
        self.source, self.fmt, self.durable = source, fmt, durable
        self.peer_options, self.our_options = peer_options, our_options

    def commands(self, data, scratch):
        source = self.sources(data)[0]
        src = self.source.rsplit(".", 1)[1]
        outs = [os.path.join(scratch, who + "." + self.fmt) for who in ("peer", "ours")]
        cache = ["-t", "writeback"] if self.durable else []
        peer = ["qemu-img", "convert", "-f", QEMU_NAME.get(src, src), "-O",
                QEMU_NAME.get(self.fmt, self.fmt), "-m", "8", "-W", *cache, *self.peer_options,
                source, outs[0]]
        chain = ["--chain"] if self.source.startswith("c") else []
        ours = ["smd-img", "convert", "-f", src, "-O", self.fmt, *cache, *chain,
                *self.our_options, source, outs[1]]
        return (peer, outs[0]), (ours, outs[1])

    def sources(self, data):
        return [data.get(self.source)]

    def inputs(self, data):
        if not self.source.startswith("c"):
            return self.sources(data)
        below = ["c%d.qcow2" % i for i in range(1, int(self.source[1]))]
        return [data.get(name) for name in ["ext4.qcow2", *below, self.source]]

    def check(self, data, scratch):
        """Both results are the source's disk."""
        src = self.source.rsplit(".", 1)[1]
        for who in ("peer", "ours"):
            run("qemu-img", "compare", "-f", QEMU_NAME.get(src, src), "-F",
                QEMU_NAME.get(self.fmt, self.fmt), self.sources(data)[0],
                os.path.join(scratch, who + "." + self.fmt))


class CopyRaw(Convert):
    """A raw disk as it is, beside what copies files and disks, too."""

    def others(self, data, scratch):
        (peer, out), _ = self.commands(data, scratch)
        source = self.sources(data)[0]
        copy = 'cp "$1" "$2"' + (' && sync "$2"' if self.durable else "")
        ways = [copy]
        if shutil.which("nbdcopy"):     # it wants a file of that size
            ways.append('truncate -r "$1" "$2" && exec nbdcopy --destination-is-zero '
                        '--connections=4 %s"$1" "$2"' % ("--flush " if self.durable else ""))
        return [(["sh", "-c", way, "sh", source, out], out) for way in ways]


class Reflink(Convert):
    """One image into another on a file system where both can share extents; the peer's
    way there is -C, which keeps it from working with eight requests at a time."""

    shares = True

    def __init__(self, fs, name, bar, source, fmt):
        super().__init__(fs + ": " + name, bar, source, fmt)
        self.fs = fs

    def room(self, data):
        if os.getuid() != 0:
            raise Missing("only root can mount")
        if not shutil.which("mkfs." + self.fs):
            raise Missing("mkfs.%s is not installed" % self.fs)
        try:
            return data.mount(self.fs)
        except OSError as why:
            raise Missing(why) from None

    def sources(self, data):
        return [data.get_on(self.fs, self.source)]

    def others(self, data, scratch):
        (peer, out), _ = self.commands(data, scratch)
        at = peer.index("-m")
        return [(peer[:at] + ["-C"] + peer[at + 3:], out)]

    def check(self, data, scratch):
        super().check(data, scratch)
        ours = os.path.join(scratch, "ours." + self.fmt)
        if self.fmt == "qcow2":
            run("qemu-img", "check", "-q", ours)
        elif self.fmt == "vhd" and shutil.which("vhd-util"):
            run("vhd-util", "check", "-n", ours)


class Compare(Row):
    def sources(self, data):
        return [data.get("ext4.raw"), data.get("ext4.qcow2")]

    def commands(self, data, scratch):
        a, b = self.sources(data)
        arguments = ["compare", "-f", "raw", "-F", "qcow2", a, b]
        return (["qemu-img", *arguments], None), (["smd-img", *arguments], None)

    def check(self, data, scratch):
        pass        # the exit status said that they are equal


class Commit(Row):
    """A delta into its parent, durable: theirs in qcow2, ours in the format named."""

    def __init__(self, name, bar, fmt):
        super().__init__(name, bar)
        self.fmt = fmt

    def sources(self, data):
        return [data.get("ext4.qcow2"), data.get("c1.qcow2")]

    def commands(self, data, scratch):
        self.cwd, self.data = scratch, data
        self.before(None)
        peer = ["qemu-img", "commit", "-q", "-t", "writeback", "-d", "leaf.qcow2"]
        ours = ["smd-img", "commit", "-t", "writeback", "ours." + self.fmt]
        return (peer, None), (ours, None)

    def copy(self, source, name):
        shutil.copyfile(source, os.path.join(self.cwd, name))

    def before(self, command):
        self.copy(self.data.get("ext4.qcow2"), "base.qcow2")
        self.copy(self.data.get("c1.qcow2"), "leaf.qcow2")
        run("qemu-img", "rebase", "-u", "-F", "qcow2", "-b", "base.qcow2", "leaf.qcow2",
            cwd=self.cwd)
        if self.fmt == "qcow2":
            remove(os.path.join(self.cwd, "ours.qcow2"))
            os.link(os.path.join(self.cwd, "leaf.qcow2"), os.path.join(self.cwd, "ours.qcow2"))
        else:
            self.copy(self.data.get("ext4.vhd"), "base.vhd")
            run("smd-img", "convert", "-f", "qcow2", "-O", self.fmt, "--chain", "-B",
                "base." + self.fmt, "-F", self.fmt, "leaf.qcow2", "ours." + self.fmt,
                cwd=self.cwd)
        os.sync()       # what was made here is nobody's to write back

    def check(self, data, scratch):
        pass        # tests/ show what commit leaves; here the base is made anew


class Coalesce(Commit):
    """The same VHDs, by what XenServer does it with."""

    def __init__(self, name, bar):
        super().__init__(name, bar, "vhd")

    def room(self, data):
        if not shutil.which("vhd-util"):
            raise Missing("vhd-util is not installed (blktap has it)")
        return super().room(data)

    def commands(self, data, scratch):
        _, ours = super().commands(data, scratch)
        return (["vhd-util", "coalesce", "-n", "ours.vhd"], None), ours


def rows():
    return [
        Convert("raw -> qcow2", 0.50, "ext4.raw", "qcow2"),
        Convert("raw -> vhd", 0.52, "ext4.raw", "vhd"),
        Convert("qcow2 -> raw", 0.60, "ext4.qcow2", "raw"),
        CopyRaw("raw -> raw", 1.00, "ext4.raw", "raw"),
        Convert("fragmented qcow2 -> raw", 0.45, "frag.qcow2", "raw"),
        Convert("vhd -> raw", 0.60, "ext4.vhd", "raw"),
        Convert("vhd -> qcow2", 0.50, "ext4.vhd", "qcow2"),
        Convert("qcow2 -> vhd", 0.50, "ext4.qcow2", "vhd"),
        Convert("chain of 6 -> raw", 0.62, "c5.qcow2", "raw"),
        Convert("chain of 6 -> qcow2", 0.60, "c5.qcow2", "qcow2"),
        Convert("durable raw -> qcow2", 0.60, "ext4.raw", "qcow2", durable=True, cpu=0.40),
        Convert("durable raw -> vhd", 0.55, "ext4.raw", "vhd", durable=True, cpu=0.65),
        Convert("durable qcow2 -> raw", 0.48, "ext4.qcow2", "raw", durable=True, cpu=0.35),
        CopyRaw("durable raw -> raw", 1.05, "ext4.raw", "raw", durable=True),
        Convert("zlib qcow2 -> raw", 0.30, "ext4.zlib.qcow2", "raw"),
        Convert("zstd qcow2 -> raw", 0.42, "ext4.zstd.qcow2", "raw"),
        Convert("raw -> compressed qcow2", 0.10, "ext4.raw", "qcow2", peer_options=["-c"],
                our_options=["-c"], size=1.10),
        Convert("raw -> small qcow2", 0.40, "ext4.raw", "qcow2", peer_options=["-c"],
                our_options=["--small"], size=0.95),
        Convert("raw -> zstd qcow2", 0.60, "ext4.raw", "qcow2",
                peer_options=["-c", "-o", "compression_type=zstd"],
                our_options=["-c", "-o", "compression_type=zstd"], size=1.02),
        Convert("20 GiB nearly empty -> qcow2", 0.70, "sparse20.raw", "qcow2"),
        Convert("20 GiB nearly empty -> vhd", 0.65, "sparse20.raw", "vhd"),
        Convert("incompressible raw -> qcow2", 1.00, "rand1g.raw", "qcow2"),
        Compare("compare raw, qcow2", 0.12),
        Commit("commit of a qcow2 delta", 1.00, "qcow2"),
        Commit("VHD coalesce, durable", 0.70, "vhd"),
        Coalesce("VHD coalesce, vhd-util", 0.25),
        Reflink("btrfs", "raw -> qcow2", 0.06, "ext4.raw", "qcow2"),
        Reflink("btrfs", "raw -> vhd", 0.06, "ext4.raw", "vhd"),
        Reflink("btrfs", "qcow2 -> raw", 0.15, "ext4.qcow2", "raw"),
        Reflink("btrfs", "vhd -> qcow2", 0.15, "ext4.vhd", "qcow2"),
        Reflink("xfs", "raw -> qcow2", 0.45, "ext4.raw", "qcow2"),
        Reflink("xfs", "raw -> vhd", 0.25, "ext4.raw", "vhd"),
        Reflink("xfs", "qcow2 -> raw", 0.35, "ext4.qcow2", "raw"),
        Reflink("xfs", "vhd -> qcow2", 0.25, "ext4.vhd", "qcow2"),
    ]

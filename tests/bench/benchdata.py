# SPDX-License-Identifier: BSD-2-Clause
"""The disks that are measured: made here, of this machine's own files, the same for the
same machine. Each is made when the first row asks for it."""
import ctypes
import fcntl
import os
import random
import re
import shutil
import struct
import subprocess

MIB = 1 << 20
GIB = 1 << 30
CLUSTER = 65536
FALLOC_PUNCH = 3        # FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE of <linux/falloc.h>
GETFLAGS, SETFLAGS = 0x80086601, 0x40086602     # FS_IOC_GETFLAGS, _SETFLAGS of <linux/fs.h>
TOPDIR = 0x00020000     # FS_TOPDIR_FL, chattr +T
TREES = ["/usr/bin", "/usr/include", "/usr/lib/gcc", "/usr/lib/x86_64-linux-gnu",
         "/usr/lib/python3", "/usr/lib/python3.11", "/usr/lib/llvm-14", "/usr/lib/jvm",
         "/usr/share/doc", "/usr/share/man", "/usr/share/perl", "/usr/share/locale",
         "/usr/lib/go-1.19", "/usr/lib/aarch64-linux-gnu"]
QEMU_NAME = {"vhd": "vpc"}


def run(*argv, **kw):
    """Run a program that must succeed; its standard output."""
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **kw)
    if done.returncode != 0:
        raise SystemExit("bench: %s: %s" % (" ".join(argv)[:200], done.stderr.strip()[-400:]))
    return done.stdout


def punch(fd, offset, count):
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.fallocate(fd, FALLOC_PUNCH, ctypes.c_long(offset), ctypes.c_long(count)) != 0:
        raise OSError(ctypes.get_errno(), "fallocate")


def spread(directory):
    """What is made in the directory lies apart from each other. An ext4 without a journal
    reuses no inode within minutes, and looks at each of those that were deleted in its
    group before it makes a file: a row that deletes 10 000 would slow what comes next."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        flags = struct.unpack("i", fcntl.ioctl(fd, GETFLAGS, bytes(4)))[0]
        fcntl.ioctl(fd, SETFLAGS, struct.pack("i", flags | TOPDIR))
    except OSError:
        pass            # another file system
    finally:
        os.close(fd)


class Data:
    """Images by name, in one directory."""

    def __init__(self, directory, scale):
        self.dir = directory
        self.scale = scale      # 1.0: the sizes the bars were set with
        self.mounted = []
        spread(directory)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for mount in self.mounted:
            run("umount", mount)
            os.rmdir(mount)

    def path(self, name):
        return os.path.join(self.dir, name)

    # -- file systems that share extents --

    def mount(self, fs):
        """The directory where a file system of its own is mounted: kept in a file, with
        the images that were put into it. Raises OSError where there can be none."""
        mount = self.path(fs)
        if mount in self.mounted:
            return mount
        image = self.path(fs + ".img")
        if not os.path.exists(image):
            run("truncate", "-s", str(16 * GIB), image + ".part")
            run("mkfs." + fs, "-q", image + ".part")
            os.rename(image + ".part", image)
        os.makedirs(mount, exist_ok=True)
        if not os.path.ismount(mount):
            done = subprocess.run(["mount", "-o", "loop", image, mount],
                                  stderr=subprocess.PIPE, text=True, check=False)
            if done.returncode != 0:
                os.rmdir(mount)
                raise OSError(done.stderr.strip())
        self.mounted.append(mount)
        return mount

    def get_on(self, fs, name):
        """The path of an image that was brought to such a file system, and shares with none
        there: a raw one with its holes, some of which xfs fills when cp makes them."""
        path = os.path.join(self.mount(fs), name)
        if not os.path.exists(path):
            if name.endswith(".raw"):
                run("qemu-img", "convert", "-f", "raw", "-O", "raw", self.get(name),
                    path + ".part")
            else:
                run("cp", "--reflink=never", self.get(name), path + ".part")
            os.rename(path + ".part", path)
        return path

    def get(self, name):
        """The path of an image; made if it is not there yet."""
        path = self.path(name)
        if not os.path.exists(path):
            getattr(self, "make_" + re.sub(r"\W", "_", name))(path + ".part")
            os.rename(path + ".part", path)
        return path

    # -- raw --

    def fill(self, tree, wanted):
        """Copy files of the machine into a directory until it has so many bytes."""
        os.mkdir(tree)
        left = wanted
        for top in TREES:
            for directory, _, names in sorted(os.walk(top)):
                into = tree + directory
                for name in sorted(names):
                    source = os.path.join(directory, name)
                    if os.path.islink(source) or not os.path.isfile(source):
                        continue
                    os.makedirs(into, exist_ok=True)
                    shutil.copyfile(source, os.path.join(into, name))
                    left -= os.path.getsize(source)
                    if left <= 0:
                        return

    def make_ext4_raw(self, path):
        """4 GiB of ext4, a third of it files, after two fifths of as many again were
        removed: the free space is holes, as after fstrim."""
        tree = self.path("tree")
        self.fill(tree, int(2.6 * GIB * self.scale))
        run("truncate", "-s", str(int(4 * GIB * max(self.scale, 0.1))), path)
        run("mkfs.ext4", "-q", "-F", "-d", tree, path)
        files = sorted(os.path.join(d, n)[len(tree):] for d, _, ns in os.walk(tree) for n in ns)
        gone = random.Random(45).sample(files, int(0.42 * len(files)))
        shutil.rmtree(tree)
        script = self.path("rm.script")
        with open(script, "w") as f:
            f.writelines('rm "%s"\n' % name for name in gone)
        run("debugfs", "-w", "-f", script, path)
        os.unlink(script)
        self.trim(path)

    def trim(self, path):
        fd = os.open(path, os.O_RDWR)
        for line in run("dumpe2fs", path).splitlines():
            found = re.match(r"  Free blocks: (.+)", line)
            for part in found.group(1).split(", ") if found else []:
                first, _, last = part.partition("-")
                punch(fd, int(first) * 4096, (int(last or first) - int(first) + 1) * 4096)
        os.close(fd)

    def make_sparse20_raw(self, path):
        """20 GiB with 245 MiB of data in runs all over it."""
        rng = random.Random(20)
        size = 20 * GIB
        with open(path, "wb") as f:
            f.truncate(size)
            for i in range(980):
                f.seek(size // 980 * i)
                f.write(rng.randbytes(256 << 10))

    def make_rand1g_raw(self, path):
        rng = random.Random(1)
        with open(path, "wb") as f:
            for _ in range(int(256 * self.scale) or 1):
                f.write(rng.randbytes(4 * MIB))

    # -- what qemu-img makes of it --

    def converted(self, path, fmt, *options):
        run("qemu-img", "convert", "-f", "raw", "-O", QEMU_NAME.get(fmt, fmt), *options,
            self.get("ext4.raw"), path)

    def make_ext4_qcow2(self, path):
        self.converted(path, "qcow2")

    def make_ext4_vhd(self, path):
        run("smd-img", "convert", "-f", "raw", "-O", "vhd", self.get("ext4.raw"), path)

    def make_ext4_zlib_qcow2(self, path):
        self.converted(path, "qcow2", "-c", "-m", "8", "-W")

    def make_ext4_zstd_qcow2(self, path):
        self.converted(path, "qcow2", "-c", "-m", "8", "-W", "-o", "compression_type=zstd")

    def make_frag_qcow2(self, path):
        """The same image with its data clusters in random order: only the places and
        the L2 entries change, so that the refcounts stay true."""
        source = self.get("ext4.qcow2")
        shutil.copyfile(source, path)
        with open(source, "rb") as old, open(path, "r+b") as new:
            header = old.read(104)
            n_l1, l1_offset = struct.unpack(">IQ", header[36:48])
            old.seek(l1_offset)
            l1 = struct.unpack(">%dQ" % n_l1, old.read(8 * n_l1))
            entries = []        # (where the entry lies, its cluster)
            for table in l1:
                at = table & 0x00fffffffffffe00
                if not at:
                    continue
                old.seek(at)
                for i, entry in enumerate(struct.unpack(">%dQ" % (CLUSTER // 8),
                                                        old.read(CLUSTER))):
                    if entry & 0x00fffffffffffe00:
                        entries.append((at + 8 * i, entry & 0x00fffffffffffe00))
            places = [cluster for _, cluster in entries]
            random.Random(100).shuffle(places)
            for (at, cluster), place in zip(entries, places):
                old.seek(cluster)
                new.seek(place)
                new.write(old.read(CLUSTER))
                new.seek(at)
                new.write(struct.pack(">Q", place | 1 << 63))

    # -- chains: each layer names the one below --

    def edits(self, path, seed, count, longest):
        """Random writes of 4 KiB and more, through qemu-io."""
        rng = random.Random(seed)
        size = os.path.getsize(self.get("ext4.raw"))
        script = "".join("write -P %d %d %d\n" % (
            rng.randrange(1, 256), rng.randrange(0, (size - longest) // 4096) * 4096,
            rng.randrange(1, longest // 4096 + 1) * 4096) for _ in range(count))
        run("qemu-io", "-f", "qcow2", "-t", "unsafe", path, input=script)

    def overlay(self, path, parent, seed, count=600, longest=MIB):
        run("qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b",
            os.path.basename(parent), path, cwd=self.dir)
        self.edits(path, seed, count, longest)

    def make_c1_qcow2(self, path):
        self.overlay(path, self.get("ext4.qcow2"), 1)

    def make_c2_qcow2(self, path):
        self.overlay(path, self.get("c1.qcow2"), 2)

    def make_c3_qcow2(self, path):
        self.overlay(path, self.get("c2.qcow2"), 3)

    def make_c4_qcow2(self, path):
        self.overlay(path, self.get("c3.qcow2"), 4)

    def make_c5_qcow2(self, path):
        self.overlay(path, self.get("c4.qcow2"), 5)

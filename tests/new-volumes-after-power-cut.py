#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""VDI.create, snapshot and clone answer when the journal is durable, and the new images a moment
later. A power cut between them, whatever it leaves of these, loses none: the next start makes
them again. Nobody writes to one before it is on the disk, or once that has failed; what
another program wrote to one stays; and a disk that hangs keeps nobody of another SR waiting."""
import sqlite3
import threading

from smdtest import *

requires("qemu-io")
SIZE = 8 * MIB
FORMATS = ["raw", "vhd", "qcow2"]


class Faults:
    def __init__(self, directory):
        self.directory = directory

    def set(self, name, text=""):
        with open(os.path.join(self.directory, name), "w") as f:
            f.write(text)

    def clear(self, name):
        os.unlink(os.path.join(self.directory, name))

    def power_cut(self, smd):
        """The daemon is gone, and what its database had not synced."""
        smd.kill()
        self.clear("hold-images")
        shutil.copy(os.path.join(self.directory, "durable"),
                    os.path.join(smd.state, "smd.db-wal"))


def lose_all(path):
    os.unlink(path)


def lose_bytes(path):
    os.truncate(path, 0)


def lose_half(path):
    os.truncate(path, os.path.getsize(path) // 2)


def lose_name(path):
    os.rename(path, os.path.join(os.path.dirname(path), "tmp-" + os.path.basename(path)))


def lose_nothing(path):
    assert os.path.exists(path), path


def lose_pages(path):
    with open(path, "r+b") as f:
        f.write(bytes(4096))


def journal(smd):
    db = sqlite3.connect(os.path.join(smd.state, "smd.db"))
    try:
        return db.execute("SELECT plan FROM jobs").fetchall()
    finally:
        db.close()


def check(smd, sr, contents):
    expect_eq(journal(smd), [], "journal")
    smd.expect_files_of_rows(sr)
    smd.check_chains(sr)
    for vdi, content in contents.items():
        expect_eq(smd.vdi_sha256(vdi), content, "content of " + smd.vdi_file(vdi))


def disks(smd):
    """The path and the digest of one with something on it, and of one without."""
    paths = [os.path.join(smd.dir, name) for name in ("disk.raw", "empty.raw")]
    for path, runs in zip(paths, (24, 0)):
        fill_raw(path, SIZE, runs=runs)
    return [(path, sha256_of_file(path)) for path in paths]


def after_power_cut(smd, faults, lose):
    sr = smd.make_sr(lose.__name__)
    smd.hold_collector(sr)
    (disk, full), (_, nothing) = disks(smd)
    contents, new = {}, []
    bases = [smd.make_vdi(sr, SIZE, fmt) for fmt in FORMATS]
    for base in bases:
        smd.import_vdi(base, disk)
    faults.set("hold-images")
    for fmt in FORMATS:
        new.append(smd.make_vdi(sr, SIZE, fmt))
        contents[new[-1]] = nothing
    for base in bases:
        new += [smd.call("VDI.snapshot", base, {}), base]
        contents[new[-2]] = contents[base] = full
    paths = [smd.vdi_file(vdi) for vdi in new]
    assert len(journal(smd)) == 6, journal(smd)
    faults.power_cut(smd)
    for path in paths:
        lose(path)
    smd.start()
    check(smd, sr, contents)
    smd.import_vdi(new[0], disk)
    smd.call("VDI.clone", new[0], {})
    expect_eq(smd.vdi_sha256(new[0]), full, "written to afterwards")


def writing_waits(smd, faults):
    """For the syncs, and for the journal to forget."""
    sr = smd.make_sr("waits")
    (disk, full), _ = disks(smd)
    faults.set("hold-images")
    vdi = smd.make_vdi(sr, SIZE, "qcow2")
    errors = []

    def write():
        try:
            smd.import_vdi(vdi, disk)
        except Exception as e:      # the main thread has it
            errors.append(e)
    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    writer.join(1)
    assert writer.is_alive() and not errors, errors
    expect_eq(subprocess.run(["qemu-io", "-r", "-f", "qcow2", "-c", "read -P 0 0 %d" % SIZE,
                              smd.vdi_file(vdi)], stdout=subprocess.DEVNULL).returncode, 0)
    expect_eq(len(journal(smd)), 1, "promises")
    faults.clear("hold-images")
    writer.join(60)
    assert not writer.is_alive() and not errors, errors
    expect_eq(journal(smd), [], "journal")
    expect_eq(smd.vdi_sha256(vdi), full, "content")


def others_may_write(smd, faults):
    """Programs that go by the file, and know no journal."""
    sr = smd.make_sr("others")
    faults.set("hold-images")
    vdis = {fmt: smd.make_vdi(sr, SIZE, fmt) for fmt in FORMATS}
    for fmt, vdi in vdis.items():
        run("qemu-io", "-f", qemu_format(fmt), "-c", "write -P 7 1M 64k", smd.vdi_file(vdi))
    opened = smd.make_vdi(sr, SIZE, "raw")
    with open(smd.vdi_file(opened), "r+b") as f:
        assert image_lock(f, True)
        faults.power_cut(smd)
        smd.start()
        check(smd, sr, {})
        f.write(b"still open")
    with open(smd.vdi_file(opened), "rb") as f:
        expect_eq(f.read(10), b"still open", "what another program has open")
    for fmt, vdi in vdis.items():
        run("qemu-io", "-r", "-f", qemu_format(fmt), "-c", "read -P 7 1M 64k", smd.vdi_file(vdi))


def disk_fails(smd, faults):
    sr = smd.make_sr("fails")
    (disk, full), _ = disks(smd)
    faults.set("fail-images")
    vdi = smd.make_vdi(sr, SIZE, "vhd")
    expect_error("IMAGE_IO", smd.call, "VDI.snapshot", vdi, {})
    for said in "is made again when that is attached again", "PBD.unplug and PBD.plug of the SR":
        assert said in smd.read_log(), said
    faults.clear("fail-images")
    expect_error("IMAGE_IO", smd.call, "VDI.resize", vdi, str(2 * SIZE))
    pbd = smd.call("SR.get_PBDs", sr)[0]
    smd.call("PBD.unplug", pbd)
    smd.call("PBD.plug", pbd)
    check(smd, sr, {})
    smd.import_vdi(vdi, disk)
    expect_eq(smd.vdi_sha256(vdi), full, "content")


def left_over(smd, faults):
    """A promise that could not be kept goes with its VDI, and nothing comes back."""
    sr = smd.make_sr("left over")
    pbd = smd.call("SR.get_PBDs", sr)[0]
    faults.set("fail-images")
    vdis = [smd.make_vdi(sr, SIZE, fmt) for fmt in FORMATS]
    forgotten, comes_back = smd.make_vdi(sr, SIZE, "raw"), smd.make_vdi(sr, SIZE, "raw")
    path = smd.vdi_file(forgotten)
    for vdi in vdis:
        smd.call("VDI.destroy", vdi)
    smd.call("VDI.forget", forgotten)
    smd.call("VDI.forget", comes_back)
    os.unlink(path)
    expect_eq(journal(smd), [], "journal")
    faults.clear("fail-images")
    smd.call("PBD.unplug", pbd)
    smd.call("PBD.plug", pbd)
    smd.call("SR.scan", sr)
    smd.expect_files_of_rows(sr)
    vdi, = smd.vdis_of(sr)
    (disk, full), _ = disks(smd)
    smd.import_vdi(vdi, disk)
    expect_eq(smd.vdi_sha256(vdi), full, "content of what was forgotten and came back")


def one_hangs(smd, faults):
    good, bad = smd.make_sr("good"), smd.make_sr("bad")
    (disk, full), _ = disks(smd)
    old = smd.make_vdi(good, SIZE, "vhd")
    smd.call("SR.scan", good)
    faults.set("hold-images", "/bad/")
    stuck = smd.make_vdi(bad, SIZE, "qcow2")
    for vdi in [smd.make_vdi(good, SIZE, fmt) for fmt in FORMATS * 30]:
        smd.call("VDI.destroy", vdi)
    smd.call("VDI.snapshot", smd.call("VDI.snapshot", old, {}), {})
    smd.import_vdi(old, disk)
    smd.call("SR.scan", good)
    assert stuck in str(smd.call("VDI.get_all")) and len(journal(smd)) == 1, journal(smd)
    faults.clear("hold-images")
    smd.call("VDI.destroy", stuck)


def no_room(smd, faults):
    """In an SR that is nearly full each is on the disk before the answer, which may be no."""
    path = os.path.join(smd.dir, "small")
    os.mkdir(path)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32m", "none", path],
                      stderr=subprocess.DEVNULL).returncode != 0:
        return print("nothing can be mounted")
    try:
        sr = smd.make_sr("small")
        vdi = smd.make_vdi(sr, SIZE, "raw")
        smd.call("SR.scan", sr)
        faults.set("fail-images")
        expect_error("IMAGE_IO", smd.make_vdi, sr, SIZE, "qcow2")
        expect_error("IMAGE_IO", smd.call, "VDI.snapshot", vdi, {})
        faults.clear("fail-images")
        expect_eq(list(smd.vdis_of(sr)), [vdi], "VDIs")
        check(smd, sr, {})
        smd.call("PBD.unplug", smd.call("SR.get_PBDs", sr)[0])
    finally:
        run("umount", "-l", path)


def nobody_waits(smd):
    """What ends an SR's use, or reads all of it, has the new volumes on the disk first."""
    sr = smd.make_sr("hurries")
    pbd = smd.call("SR.get_PBDs", sr)[0]
    vdis = [smd.make_vdi(sr, SIZE, fmt) for fmt in FORMATS * 30]
    smd.call("SR.scan", sr)
    expect_eq(journal(smd), [], "journal")
    smd.call("VDI.snapshot", vdis[0], {})
    smd.call("VDI.snapshot", vdis[1], {})
    smd.call("PBD.unplug", pbd)
    expect_eq(journal(smd), [], "journal")
    smd.call("PBD.plug", pbd)
    for vdi in vdis[3:]:
        smd.call("VDI.destroy", vdi)
    smd.make_vdi(sr, SIZE, "raw")
    smd.stop()
    expect_eq(journal(smd), [], "journal")
    smd.start()
    smd.expect_files_of_rows(sr)


def wrapper(directory, text):
    path = os.path.join(directory, "worker")
    with open(path, "w") as f:
        f.write("#!/bin/bash\n" + text)
    os.chmod(path, 0o755)
    return path


def workers_die(env, faults):
    """Who looks whether another program has written to the image, for one."""
    left = os.path.join(faults.directory, "left")
    worker = wrapper(faults.directory, """
        n=$(cat %s 2>/dev/null || echo 0)
        echo $((n - 1)) >%s
        [ $n = 1 ] && kill -9 $$
        exec %s "$@"
        """ % (left, left, os.environ["SMD_WORKER"]))
    env = dict(env, SMD_WORKER=worker)
    for death in 2, 3, 4:       # the first one is asked for the formats
        faults.set("left", "0")
        with Smd(env=env, config="warm_worker_seconds = 0\n") as smd:
            faults.set("hold-images")
            vdi = smd.make_vdi(smd.make_sr("dies"), SIZE, "qcow2")
            run("qemu-io", "-f", "qcow2", "-c", "write -P 7 1M 64k", smd.vdi_file(vdi))
            faults.power_cut(smd)
            faults.set("left", str(death))
            smd.start()
            run("qemu-io", "-r", "-f", "qcow2", "-c", "read -P 7 1M 64k", smd.vdi_file(vdi))


def says_it_twice(env, faults):
    """A worker that a base has taken over."""
    worker = wrapper(faults.directory, """
        exec %s "$@" > >(sed -u 's/^{"made":true}$/&\\n&/')
        """ % os.environ["SMD_WORKER"])
    env = dict(env, SMD_WORKER=worker)
    with Smd(env=env, config="warm_worker_seconds = 0\n") as smd:
        sr = smd.make_sr("twice")
        (disk, full), _ = disks(smd)
        vdi = smd.make_vdi(sr, SIZE, "vhd")
        smd.import_vdi(vdi, disk)
        snapshot = smd.call("VDI.snapshot", vdi, {})
        smd.call("SR.scan", sr)
        smd.hold_collector(sr)
        check(smd, sr, {vdi: full, snapshot: full})


with tempfile.TemporaryDirectory(prefix="smd-test-faults.") as directory:
    faults = Faults(directory)
    env = {"SMD_FAULT_DIR": directory,
           "LD_PRELOAD": os.path.join(BUILD, "tests", ".libs", "fault-sync.so"),
           "ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":verify_asan_link_order=0"}
    with Smd(env=env) as smd:
        for lose in (lose_nothing, lose_all, lose_name, lose_bytes, lose_half, lose_pages):
            after_power_cut(smd, faults, lose)
        writing_waits(smd, faults)
        others_may_write(smd, faults)
        disk_fails(smd, faults)
        left_over(smd, faults)
        one_hangs(smd, faults)
        no_room(smd, faults)
        nobody_waits(smd)
    workers_die(env, faults)
    says_it_twice(env, faults)

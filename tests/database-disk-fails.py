#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""The disk under the database fails as a VDI's move is committed: neither volume goes,
smd ends, and the next start finds the disk and has it moved, with and without a power
cut between."""
import shutil
from smdtest import *

SIZE = 8 * MIB


def disk_fails(faults):
    with open(os.path.join(faults, "fail"), "w"):
        pass


def expect_end(smd):
    expect_eq(smd.process.wait(60), 1, "exit status")
    assert "stopping: the disk under the database in " + smd.state in smd.read_log()


def begin_move(smd, vdi, target):
    task = smd.call("Async.VDI.pool_migrate", vdi, target,
                    {"dest-img-format": "qcow2", "bytes-per-second": str(4 * MIB)})
    while float(smd.call("task.get_record", task)["progress"]) < 0.2:
        time.sleep(0.02)


def start_again(smd, faults, power_cut):
    os.unlink(os.path.join(faults, "fail"))
    if power_cut:
        shutil.copy(os.path.join(faults, "durable"), os.path.join(smd.state, "smd.db-wal"))
    smd.start()


def check(smd, faults, first, second, power_cut):
    raw = os.path.join(smd.dir, "disk.raw")
    fill_raw(raw, SIZE)
    digest = sha256_of_file(raw)
    vdi = smd.make_vdi(first, SIZE, "raw")
    smd.import_vdi(vdi, raw)
    source = smd.vdi_file(vdi)
    begin_move(smd, vdi, second)
    disk_fails(faults)
    expect_end(smd)
    assert "stays in the journal until smd has been started again" in smd.read_log()
    expect_eq(sha256_of_file(source), digest, "the source")

    start_again(smd, faults, power_cut)
    smd.wait_jobs()
    vdis = smd.call("VDI.get_all")
    expect_eq(len(vdis), 1, "VDIs after the start")
    expect_eq(smd.call("VDI.get_SR", vdis[0]), second, "SR")
    expect_eq(sha256_of_disk(smd.vdi_file(vdis[0]), smd.vdi_format(vdis[0])), digest, "the disk")
    for sr in (first, second):
        volumes = [name for name in os.listdir(smd.sr_path(sr)) if not name.startswith(".")]
        expect_eq(len(volumes), len(smd.call("SR.get_VDIs", sr)), "volumes: %r" % volumes)
    smd.call("VDI.destroy", vdis[0])


with tempfile.TemporaryDirectory(prefix="smd-test-faults.") as faults:
    env = {"SMD_FAULT_DIR": faults,
           "LD_PRELOAD": os.path.join(BUILD, "tests", ".libs", "fault-sync.so"),
           "ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":verify_asan_link_order=0"}
    with Smd(env=env) as smd:
        first, second = smd.make_sr("first"), smd.make_sr("second")
        check(smd, faults, first, second, power_cut=False)
        check(smd, faults, first, second, power_cut=True)

        # The call that meets it has the place and the reason.
        smd.login()
        disk_fails(faults)
        error = expect_error("INTERNAL_ERROR", smd.call, "SR.set_name_label", first, "lost")
        assert smd.state in str(error) and "Input/output error" in str(error), error
        expect_end(smd)
        start_again(smd, faults, power_cut=True)
        expect_eq(smd.call("SR.get_name_label", first), "first", "name")

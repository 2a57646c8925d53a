#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""A format module that opens a path, makes a socket, starts a program, reaches for others,
takes all memory, spins or writes past its quota is stopped each time; its task fails
and says by which wall, nothing of its disk is left, and the daemon serves on. Without the
walls in the kernel smd says so at its start, or does not start (require_sandbox)."""
from smdtest import *

requires("cc")
if sanitized():
    skip("sanitizers need what the sandbox denies")

ACTS = [(1, "denied a path, by system call openat"), (2, "killed by seccomp: system call socket"),
        (3, "killed by seccomp: system call clone"),
        (4, "killed by seccomp: system call execve"),
        (5, "killed by seccomp: system call ptrace"),
        (6, "killed by seccomp: system call kill"),
        (7, "out of its memory limit of 128 MiB"),
        (8, "out of its CPU limit of 2 s of processor time"),
        (9, "a write past its quota of "),
        (10, "killed by seccomp: system call pidfd_open"),
        (11, "killed by seccomp: system call socket")]  # whose handler cannot be taken away

plugins = tempfile.mkdtemp(prefix="smd-test-plugins.")
run("cc", "-D_GNU_SOURCE", "-I" + SRC, "-shared", "-fPIC", "-w", "-o",
    plugins + "/smd-format-bad.so", os.path.join(SRC, "tests", "misbehaves.c"))
os.chmod(plugins, 0o755)
try:
    with Smd(config="worker_cpu_seconds = 2\nworker_memory = 134217728\n",
             plugin_dir=os.environ["SMD_PLUGIN_PATH"] + ":" + plugins) as smd:
        assert "the kernel has no" not in smd.read_log(), smd.read_log()
        sr = smd.make_sr("one")
        before = sorted(os.listdir(smd.sr_path(sr)))
        for number, wall in ACTS:
            task = smd.call("Async.VDI.create", {
                "name_label": "bad", "name_description": "", "SR": sr,
                "virtual_size": str(number * MIB), "type": "user", "sharable": False,
                "read_only": False, "other_config": {}, "sm_config": {"image-format": "bad"}})
            record = smd.wait_task(task)
            expect_eq(record["status"], "failure", "act %d" % number)
            says = " ".join(record["error_info"]) + record["other_config"]["error_message"]
            assert wall in says, "act %d: %r is not in %r" % (number, wall, says)
            expect_eq(smd.call("SR.get_VDIs", sr), [], "VDIs")
            expect_eq(sorted(os.listdir(smd.sr_path(sr))), before, "files after act %d" % number)
        smd.call("VDI.destroy", smd.make_vdi(sr, MIB, "qcow2"))
finally:
    shutil.rmtree(plugins)

# A kernel without walls is told by a worker that says so.
worker = tempfile.NamedTemporaryFile("w", prefix="smd-test-worker.", delete=False)
with worker:
    worker.write("#!/bin/bash\nexec %s \"$@\" > >(sed 's/\"sandbox\": *{[^}]*}/"
                 "\"sandbox\":{\"landlock\":0,\"seccomp\":false}/')\n" % os.environ["SMD_WORKER"])
os.chmod(worker.name, 0o755)
try:
    with Smd(config="worker = %s\n" % worker.name) as smd:
        assert "the kernel has no Landlock" in smd.read_log(), smd.read_log()
    try:
        Smd(config="worker = %s\nrequire_sandbox = yes\n" % worker.name)
        raise RuntimeError("it started")
    except AssertionError as e:
        assert "require_sandbox in smd.conf is yes" in str(e), e
finally:
    os.unlink(worker.name)

# One gone bad answers what is no answer: that is its image's trouble, and not the daemon's.
worker = tempfile.NamedTemporaryFile("w", prefix="smd-test-worker.", delete=False)
with worker:
    worker.write("#!/bin/bash\nexec %s \"$@\" > >(sed -e 's/\"images\": *\\[.*\\]/\"images\":5/' "
                 "-e 's/\"corruptions\": *0/\"corruptions\":1/' "
                 "-e 's/\"findings\": *\\[[^]]*\\]/\"findings\":5/')\n" % os.environ["SMD_WORKER"])
os.chmod(worker.name, 0o755)
try:
    with Smd(config="worker = %s\nwarm_worker_seconds = 0\n" % worker.name) as smd:
        sr = smd.make_sr("one")
        vdi = smd.make_vdi(sr, MIB, "vhd")
        smd.call("SR.scan", sr)
        config = smd.call("VDI.get_sm_config", vdi)
        assert "makes no sense" in config["image-error"], config
        with open(os.path.join(smd.sr_path(sr), smd.call("VDI.get_location", vdi)), "rb") as f:
            status, _, body = smd.http("PUT", "/import_raw_vdi?format=vhd&vdi=%s&session_id=%s"
                                       % (vdi, smd.login()), f.read())
        expect_eq(status, 400, body)
        assert b"IMAGE_CORRUPT" in body, body
finally:
    os.unlink(worker.name)

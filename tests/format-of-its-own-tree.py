#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""A format built outside of smd's tree, without parents of its own: its disks have snapshots in a
format that can say what it lies on, and are read back; the suite for every format takes it; what it
cannot do is refused, not done by halves."""
from smdtest import *

requires("cc")

plugins = tempfile.mkdtemp(prefix="smd-test-plugins.")
with open(os.path.join(SRC, "plugins", "format", "raw", "raw.c")) as f:
    source = f.read().replace('.name = "raw"', '.name = "flat"')
with open(plugins + "/flat.c", "w") as f:
    f.write(source)
run("cc", "-I" + SRC, "-shared", "-fPIC", "-w", "-o", plugins + "/smd-format-flat.so",
    plugins + "/flat.c")
os.chmod(plugins, 0o755)
with tempfile.TemporaryDirectory(prefix="smd-test.") as t:
    # It is there beside the others, and one that is left out says why.
    for line, says in ((None, None), ("	.extents = raw_extents,\n", "callback extents is missing")):
        with open(t + "/flat.c", "w") as f:
            f.write(source.replace(line, "") if line else source)
        run("cc", "-I" + SRC, "-shared", "-fPIC", "-w", "-o", t + "/smd-format-flat.so",
            t + "/flat.c")
        done = subprocess.run(["smd-img", "convert", "--plugin-dir", t, "-f", "raw", "-O", "flat",
                               t + "/flat.c", t + "/out"], capture_output=True, text=True)
        expect_eq(done.returncode, 1 if says else 0, done.stderr)
        assert not says or says in done.stderr, done.stderr
os.environ["SMD_PLUGIN_PATH"] = plugins + ":" + os.environ["SMD_PLUGIN_PATH"]
try:
    with tempfile.TemporaryDirectory(prefix="smd-test.") as t:
        out = run(os.path.join(os.environ["SMD_BUILD"], "tests", "image-every-format"), t)
        assert "flat" in out.split(), out
        flat, over = t + "/disk.flat", t + "/over."
        run("smd-img", "create", "-f", "flat", flat, "1M")
        for name, says in (("vhd", "vhd image cannot lie on one in flat"),
                           ("flat", "flat has no parents")):
            done = subprocess.run(["smd-img", "create", "-f", name, "-b", flat, "-F", "flat",
                                   over + name], capture_output=True, text=True)
            assert done.returncode == 1 and says in done.stderr, done
            assert not os.path.exists(over + name), "it left a file"
        done = subprocess.run(["smd-img", "check", "-f", "flat", flat], capture_output=True,
                              text=True)
        expect_eq((done.returncode, done.stdout), (63, ""), "a check of what cannot be checked")
        assert "flat images cannot be checked" in done.stderr, done
    with Smd() as smd:
        sr = smd.make_sr("one")
        vdi = smd.make_vdi(sr, MIB, "flat")
        disk = plugins + "/disk.raw"
        fill_raw(disk, MIB)
        smd.import_vdi(vdi, disk)
        snapshot = smd.call("VDI.snapshot", vdi)
        for ref in (vdi, snapshot):
            expect_eq(smd.vdi_sha256(ref), sha256_of_file(disk), "content")
            expect_eq(smd.vdi_format(ref), "qcow2", "format")
finally:
    shutil.rmtree(plugins)

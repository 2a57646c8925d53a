#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""A scan asks two workers about thousands of images. One that kills its worker, answers in its
place or has it say something costs nobody but itself, and neither do hundreds that are broken."""
from smdtest import *

requires("cc")
if sanitized():
    skip("sanitizers need what the sandbox denies")

N = 1500
ENDS = {"k": "killed by signal 9", "f": "killed by signal 6", "x": "ended with status 0",
        "s": "killed by seccomp: system call socket", "e": "it is no image"}

with tempfile.TemporaryDirectory(prefix="smd-test-plugins.") as plugins:
    run("cc", "-D_GNU_SOURCE", "-I" + SRC, "-shared", "-fPIC", "-w", "-o",
        plugins + "/smd-format-mad.so", os.path.join(SRC, "tests", "kills-who-looks.c"))
    os.chmod(plugins, 0o755)
    with Smd(plugin_dir=os.environ["SMD_PLUGIN_PATH"] + ":" + plugins) as smd:
        sr = smd.make_sr("one")
        acts = {}
        for i in range(N):
            uuid_ = "%08d-1111-4111-8111-111111111111" % i
            # Some in a row, some alone; every third of the rest is broken.
            acts[uuid_] = "kfsxaw"[i % 6] if i in range(300, 306) or i % 211 == 0 else \
                "e" if i % 3 == 0 else "."
            with open(os.path.join(smd.sr_path(sr), uuid_ + ".mad"), "w") as f:
                f.write(acts[uuid_])
        smd.call("SR.scan", sr)
        records = {r["uuid"]: r for r in smd.call("VDI.get_all_records").values()}
        expect_eq(sorted(records), sorted(acts), "VDIs")
        for uuid_, act in acts.items():
            why = records[uuid_]["sm_config"].get("image-error", "")
            if act in ENDS:
                assert ENDS[act] in why, (act, why)
            else:
                expect_eq((why, records[uuid_]["virtual_size"]), ("", str(3 * MIB)), act)
        assert "words of an image" in smd.read_log(), "what an image had its worker say"
        expect_eq(smd.workers(), [], "workers that stay after it")

#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
# An SR with other-config:auto-scan=true notices by itself what appeared on its
# storage; one without does not.
from smdtest import *

with Smd(config="scan_interval = 5\n") as smd:
    scanned, left_alone = smd.make_sr("one"), smd.make_sr("two")
    smd.call("SR.add_to_other_config", scanned, "auto-scan", "true")
    token = smd.json_call("event.from", ["VDI"], "", 0.0)["token"]
    name = "11111111-2222-3333-4444-555555555555.raw"
    for sr in (left_alone, scanned):
        fill_raw(os.path.join(smd.sr_path(sr), name.replace("1", "9") if sr == left_alone
                              else name), MIB)
    batch = smd.json_call("event.from", ["VDI"], token, 60.0)
    expect_eq([(e["operation"], e["snapshot"]["uuid"]) for e in batch["events"]],
              [("add", name[:36])], "what was noticed")
    expect_eq(smd.call("SR.get_VDIs", left_alone), [], "the SR left alone")

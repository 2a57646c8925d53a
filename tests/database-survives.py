#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
# What was acknowledged is there after a stop and after a kill; a newer or foreign
# database, and a second daemon on one, are refused with a sentence that says so.
import sqlite3
import threading
from smdtest import *


def smd_fails(smd, text, *args):
    done = subprocess.run(["smd", "--foreground", "--config", smd.conf, "--state-dir", smd.state,
                           "--socket", smd.socket + "2", *args], capture_output=True, text=True,
                          env=smd.env, timeout=60)
    expect_eq(done.returncode, 1, "exit status: " + done.stderr)
    assert text in done.stderr, "wanted \"%s\" in: %s" % (text, done.stderr)


with Smd() as smd:
    sr = smd.make_sr("one")
    vdi = smd.make_vdi(sr, MIB, "raw", "kept")
    smd_fails(smd, "another smd uses " + smd.state)

    def records(cls):
        everything = smd.json_call(cls + ".get_all_records")
        for record in everything.values():
            record.pop("physical_utilisation", None)    # others write to the disk, too
        return everything

    before = {cls: records(cls) for cls in ("SR", "VDI", "PBD", "SM", "pool")}
    smd.restart()
    for cls in before:
        expect_eq(records(cls), before[cls], cls + " after a restart")

    # Killed while clients write: every answer that came stands.
    done = []

    def write(session, i):
        try:
            for n in range(1000):
                smd.json_raw("pool.add_to_other_config", session, pool, "%d.%d" % (i, n), "v")
                done.append("%d.%d" % (i, n))
        except (OSError, HttpError, http.client.HTTPException, ValueError):
            pass

    for _ in range(3):
        pool = smd.call("pool.get_all")[0]
        writers = [threading.Thread(target=write, args=(smd.login(), i)) for i in range(4)]
        for writer in writers:
            writer.start()
        while len(done) < 40:
            time.sleep(0.01)
        smd.kill()
        for writer in writers:
            writer.join()
        smd.start()
        kept = smd.call("pool.get_other_config", pool)
        expect_eq([key for key in done if key not in kept], [], "acknowledged and gone")
        smd.call("pool.set_other_config", pool, {})
        done.clear()
    expect_eq(smd.call("VDI.get_name_label", vdi), "kept", "after three kills")

    # Refused, and left as it is.
    smd.stop()
    path = os.path.join(smd.state, "smd.db")
    database = sqlite3.connect(path)
    version = database.execute("PRAGMA user_version").fetchone()[0]
    database.execute("PRAGMA user_version = %d" % (version + 1))
    database.commit()
    smd_fails(smd, "was written by a newer smd")
    database.execute("PRAGMA user_version = %d" % version)
    database.execute("PRAGMA application_id = 1")
    database.commit()
    smd_fails(smd, "is not a database of smd")
    database.execute("PRAGMA application_id = %d" % 0x736d6462)
    database.commit()
    database.close()
    smd.start()
    expect_eq(smd.call("VDI.get_name_label", vdi), "kept", "after it was refused")
    smd.stop()
    with open(path, "r+b") as f:
        f.write(b"no database at all" * 10)
    smd_fails(smd, "not a database")
    os.unlink(path)
    smd.start()

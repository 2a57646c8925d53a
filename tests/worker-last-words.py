#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""What a worker says on its standard error is in its task and in the log, whether it dies of a
signal, ends by itself, fails in order or even does what it should; and smctl shows what the
daemon says of an error, of tasks and of calls alike."""
from smdtest import *

WORDS = "the cable is loose: \\x1b[31m port 3"
ENDS = [("kill -SEGV $$", "killed by signal 11"), ("exit 3", "ended with status 3"),
        ("exec %(worker)s \"$@\"", None)]

with tempfile.TemporaryDirectory(prefix="smd-test-worker.") as path:
    os.chmod(path, 0o755)
    script, end = os.path.join(path, "worker"), os.path.join(path, "end")
    with open(script, "w") as f:
        f.write("#!/bin/bash\n[ -e %s ] && . %s\nexec %s \"$@\"\n"
                % (end, end, os.environ["SMD_WORKER"]))
    os.chmod(script, 0o755)
    with Smd(config="worker = %s\nwarm_worker_seconds = 0\n" % script) as smd:
        one, two = smd.make_sr("one"), smd.make_sr("two")
        vdi = smd.make_vdi(one, MIB, "vhd")
        smd.write_vdi(vdi, b"x" * 5000)
        for how, says in ENDS:
            with open(end, "w") as f:
                f.write("echo -e 'first\\n%s' >&2\n%s\n"
                        % (WORDS, how % {"worker": os.environ["SMD_WORKER"]}))
            task = smd.call("Async.VDI.copy", vdi, two)
            record = smd.wait_task(task)
            os.unlink(end)
            config = record["other_config"]
            words = "first\nthe cable is loose: ?[31m port 3"
            assert config["last_words"].endswith(words), config
            assert "says: first the cable" in smd.read_log(), smd.read_log()
            if says:
                expect_eq(record["error_info"][0], "JOB_WORKER_FAILED")
                for part in says, words:
                    assert part in config["error_message"], config
            else:
                expect_eq(record["status"], "success", "of one that only talks")

        # In order, but not without a word of what was wrong.
        with open(smd.vdi_file(vdi), "r+b") as f:
            f.truncate(100)
        with open(end, "w") as f:
            f.write("echo -e '%s' >&2\n" % WORDS)
        record = smd.wait_task(smd.call("Async.VDI.copy", vdi, two))
        expect_eq(record["status"], "failure")
        assert "loose" in record["other_config"]["last_words"], record
        os.unlink(end)

        # Calls that are no tasks: the wire has xapi's code and parameters alone, a header the rest.
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "VDI.resize",
                           "params": [smd.session, vdi, "7"]})
        connection = UnixConnection(smd.socket)
        connection.request("POST", "/jsonrpc", body, {"Content-Type": "application/json"})
        reply = connection.getresponse()
        message = reply.getheader("Smd-Message")
        expect_eq(sorted(json.load(reply)["error"]), ["code", "data", "message"], "members")
        assert "cannot shrink to 7" in message, message
        connection.close()
        done = subprocess.run(["smctl", "--socket", smd.socket, "vdi-measure", "exact=maybe",
                               "uuid=" + smd.call("VDI.get_uuid", vdi), "sr-uuid=one"],
                              capture_output=True, text=True)
        expect_eq(done.stderr, "The value is not valid.\nfield: exact\nvalue: maybe\n"
                               "message: exact is true or false, not \"maybe\"\n")

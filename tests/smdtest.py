# SPDX-License-Identifier: BSD-2-Clause
"""What the Python tests share: a private daemon, both wires, images.

    from smdtest import *

    with Smd(tcp=True) as smd:
        sr = smd.make_sr("one")
        vdi = smd.call("VDI.create", {...})

Standard library only. A test ends with status 0, or 77 through skip().
"""
import base64
import fcntl
import hashlib
import http.client
import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import xmlrpc.client

if "SMD_SRC" not in os.environ:     # started by hand: go under ./run
    _run = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "run")
    os.execv(_run, [_run, sys.executable] + sys.argv)

SRC = os.environ["SMD_SRC"]
BUILD = os.environ["SMD_BUILD"]
# make check: where daemons record their calls, for every-method-is-called.py; a directory a
# test. One by hand has none.
if "SMD_CALLS" in os.environ and "SMD_CALLS_HERE" not in os.environ:
    os.environ["SMD_CALLS_HERE"] = os.path.join(os.environ["SMD_CALLS"],
                                                os.path.basename(sys.argv[0]))
    shutil.rmtree(os.environ["SMD_CALLS_HERE"], ignore_errors=True)
    os.makedirs(os.environ["SMD_CALLS_HERE"])
NULL_REF = "OpaqueRef:NULL"
SAYS_WHY_MS = 10000
MIB = 1 << 20
GIB = 1 << 30


class ApiError(Exception):
    """A Failure of the API: code and params as they came."""

    def __init__(self, description):
        super().__init__(": ".join([description[0], ", ".join(description[1:])]))
        self.code = description[0]
        self.params = list(description[1:])


class HttpError(Exception):
    def __init__(self, status, body):
        super().__init__("HTTP %d: %.200r" % (status, body))
        self.status = status
        self.body = body


def skip(why):
    print("skipped:", why)
    sys.exit(77)


def requires(*programs):
    for program in programs:
        if not shutil.which(program):
            skip(program + " is missing")


def sanitized():
    """Whether smd was built with ASan, whose quarantine makes memory grow."""
    with open(shutil.which("smd"), "rb") as f:
        return b"__asan_init" in f.read()


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path, timeout=120):
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class UnixTransport(xmlrpc.client.Transport):
    """For xmlrpc.client.ServerProxy("http://localhost/", transport=...)."""

    def __init__(self, path):
        super().__init__()
        self.path = path

    def make_connection(self, host):
        return UnixConnection(self.path)


class Smd:
    """A private daemon: its state, socket, log and SRs lie in self.dir, which is
    removed at the end. Calls go over the unix socket, or over TCP if tcp=True; with
    tls=True self.tls_port has TLS, with self.certificate, which it signed itself."""

    def __init__(self, tcp=False, config="", args=(), env=None, plugin_dir=None, tls=False):
        self.dir = tempfile.mkdtemp(prefix="smd-test.")
        self.socket = os.path.join(self.dir, "smd.sock")
        self.log = os.path.join(self.dir, "smd.log")
        self.state = os.path.join(self.dir, "state")
        self.conf = os.path.join(self.dir, "smd.conf")
        os.mkdir(self.state)
        self.args = list(args)
        if tls:
            config += self.make_tls()
        with open(self.conf, "w") as f:
            f.write(config)
            if "SMD_CALLS_HERE" in os.environ:
                f.write("\nrecord_calls = %s\n" % os.path.join(
                    os.environ["SMD_CALLS_HERE"], os.path.basename(self.dir)))
        self.tcp = tcp
        self.port = free_port() if tcp else None
        self.env = dict(os.environ, **(env or {}))
        self.plugin_dir = plugin_dir or os.environ["SMD_PLUGIN_PATH"]
        self.user, self.password = "root", "secret"
        self.process = None
        self.session = None
        if tcp:
            self.add_user(self.user, "pool-admin", self.password)
        self.start()

    def make_tls(self):
        self.certificate = run("smd", "--make-certificate", "--state-dir", self.state).strip()
        self.tls_port = free_port()
        self.args += ["--listen-tls", "127.0.0.1:%d" % self.tls_port]
        return "\ntls_certificate = %s\ntls_key = %s/tls.key\n" % (self.certificate, self.state)

    # -- the process --

    def start(self):
        argv = os.environ.get("SMD_VALGRIND", "").split()
        argv += ["smd", "--foreground", "--config", self.conf, "--state-dir", self.state,
                 "--socket", self.socket, "--plugin-dir", self.plugin_dir]
        if self.tcp:
            argv += ["--listen", "127.0.0.1:%d" % self.port]
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(argv + self.args, stdin=subprocess.DEVNULL,
                                            stdout=log, stderr=log, env=self.env)
        deadline = time.monotonic() + 60
        while not self._answers():
            if self.process.poll() is not None:
                raise AssertionError("smd ended at its start: " + self.read_log())
            if time.monotonic() > deadline:
                raise AssertionError("smd does not answer after a minute: " + self.read_log())
            time.sleep(0.05)
        self.session = None

    def _answers(self):
        try:
            return "session.logout" in self.proxy().system.listMethods()
        except (OSError, http.client.HTTPException, xmlrpc.client.Error):
            return False

    def stop(self):
        """SIGTERM; it must end by itself, with success."""
        self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(60)
        assert status == 0, "smd ended with status %d: %s" % (status, self.read_log())

    def kill(self):
        """SIGKILL, as a crash would."""
        self.process.kill()
        self.process.wait()

    def workers(self, forking=False):
        """The daemon's children that do jobs, or those that fork for them."""
        return [pid for pid in self.children()
                if (process_name(pid) == "smd-worker-fork") == forking and
                process_name(pid) not in ("smd-worker-make", "smd-worker-next")]

    def waiting(self):
        """Those that were forked ahead of their jobs."""
        return [pid for pid in self.children() if process_name(pid) == "smd-worker-next"]

    def makers(self):
        """Those that make empty images."""
        return [pid for pid in self.children() if process_name(pid) == "smd-worker-make"]

    def children(self):
        pids = []
        for task in os.listdir("/proc/%d/task" % self.process.pid):
            try:
                with open("/proc/%d/task/%s/children" % (self.process.pid, task)) as f:
                    pids += [int(p) for p in f.read().split()]
            except OSError:
                pass
        return pids

    def pending_tasks(self):
        """The records of those that are not the collector's, which comes when it likes."""
        return [r for r in self.call("task.get_all_records").values()
                if r["status"] == "pending" and r["name_label"] != "SR.collect"]

    def wait_jobs(self, timeout=600):
        """Until the copies that this start of the daemon took up again have ended."""
        deadline = time.monotonic() + timeout
        while tasks := self.pending_tasks():
            assert time.monotonic() < deadline, tasks
            time.sleep(0.05)

    def kill_a_worker(self, rng):
        """Whether there was one."""
        pids = self.workers()
        try:
            if pids:
                os.kill(rng.choice(pids), signal.SIGKILL)
                return True
        except ProcessLookupError:
            pass
        return False

    def restart(self):
        if self.process.poll() is None:
            self.stop()
        self.start()

    def running(self):
        return self.process.poll() is None

    def read_log(self):
        with open(self.log, errors="replace") as f:
            return "".join(f.readlines()[-60:])

    def __enter__(self):
        return self

    def __exit__(self, kind, value, traceback):
        if self.running():
            self.kill() if kind else self.stop()
        if not kind:
            self.expect_reasons()
        if kind and not issubclass(kind, SystemExit):
            print("--- the daemon's log, its end ---\n" + self.read_log())
        shutil.rmtree(self.dir, ignore_errors=True)

    def expect_reasons(self):
        """No task stood still for 2 s without saying what it waits for: the daemon, by its
        own clock, logs those that did. One that said it too late on a machine that has
        much else to do is none."""
        silent = []
        with open(self.log, errors="replace") as f:
            for line in f:
                late = re.search(r"stands still for (\d+) ms, and its work says (\w+)", line)
                if late and (late[2] == "nothing" or int(late[1]) > SAYS_WHY_MS):
                    silent.append(line)
        assert not silent, "".join(silent)

    def add_user(self, name, role, password):
        subprocess.run(["smctl", "passwd", "--file", os.path.join(self.state, "users"), name,
                        role], input=password + "\n", text=True, check=True,
                       stdout=subprocess.DEVNULL)

    # -- the wires --

    def connect(self, timeout=120, tcp=None):
        """An HTTPConnection to the daemon."""
        if self.tcp if tcp is None else tcp:
            return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        return UnixConnection(self.socket, timeout)

    def proxy(self):
        """Python's own XML-RPC client, as a user would make it."""
        if self.tcp:
            return xmlrpc.client.ServerProxy("http://127.0.0.1:%d/" % self.port)
        return xmlrpc.client.ServerProxy("http://localhost/", transport=UnixTransport(self.socket))

    def raw_call(self, name, *params):
        """An XML-RPC call without a session; the Value, or ApiError."""
        with self.proxy() as proxy:
            reply = getattr(proxy, name)(*params)
        if not isinstance(reply, dict) or "Status" not in reply:
            return reply
        if reply["Status"] == "Success":
            return reply["Value"]
        raise ApiError(reply["ErrorDescription"])

    def login(self):
        if not self.session:
            self.session = self.raw_call("session.login_with_password", self.user, self.password,
                                         "1.0", "smdtest")
        return self.session

    def call(self, name, *params):
        """An XML-RPC call in a session of ours. Numbers come back as text."""
        return self.raw_call(name, self.login(), *params)

    def http(self, method, path, body=None, headers=None, timeout=120):
        """(status, headers, body) of one request."""
        connection = self.connect(timeout)
        try:
            connection.request(method, path, body, headers or {})
            reply = connection.getresponse()
            return reply.status, reply.headers, reply.read()
        finally:
            connection.close()

    def json_raw(self, name, *params, version="2.0"):
        """The whole JSON-RPC reply of a call without a session."""
        request = {"method": name, "params": list(params), "id": 1}
        if version == "2.0":
            request["jsonrpc"] = "2.0"
        status, headers, body = self.http("POST", "/jsonrpc", json.dumps(request),
                                          {"Content-Type": "application/json"})
        if status != 200:
            raise HttpError(status, body)
        assert headers["Content-Type"] == "application/json", headers["Content-Type"]
        return json.loads(body)

    def json_call(self, name, *params):
        """A JSON-RPC call in a session of ours; numbers are numbers."""
        reply = self.json_raw(name, self.login(), *params)
        assert reply["id"] == 1 and reply["jsonrpc"] == "2.0", reply
        if "error" in reply:
            error = reply["error"]
            raise ApiError([error["message"]] + error["data"])
        return reply["result"]

    # -- objects --

    def host(self):
        return self.call("host.get_all")[0]

    def make_sr(self, name, **device_config):
        """A file SR in self.dir/name, attached; its ref."""
        path = os.path.join(self.dir, name)
        os.makedirs(path, exist_ok=True)
        config = {"location": path}
        config.update({k.replace("_", "-"): v for k, v in device_config.items()})
        return self.call("SR.create", self.host(), config, "0", name, "", "file", "user", False,
                         {})

    def sr_path(self, sr):
        """Where a file SR's volumes lie."""
        pbd = self.call("SR.get_PBDs", sr)[0]
        return self.call("PBD.get_device_config", pbd)["location"]

    def make_vdi(self, sr, size, fmt=None, name="disk"):
        return self.call("VDI.create", {
            "name_label": name, "name_description": "", "SR": sr, "virtual_size": str(size),
            "type": "user", "sharable": False, "read_only": False, "other_config": {},
            "sm_config": {"image-format": fmt} if fmt else {}})

    def vdi_file(self, vdi):
        """The path of a VDI's volume in a file SR."""
        record = self.call("VDI.get_record", vdi)
        return os.path.join(self.sr_path(record["SR"]), record["location"])

    def vdi_format(self, vdi):
        return self.call("VDI.get_sm_config", vdi).get("image-format")

    def import_vdi(self, vdi, path, fmt="raw"):
        """PUT /import_raw_vdi of a whole file."""
        with open(path, "rb") as f:
            status, _, body = self.http(
                "PUT", "/import_raw_vdi?session_id=%s&vdi=%s&format=%s" % (self.login(), vdi, fmt),
                f, {"Content-Length": str(os.path.getsize(path))}, timeout=600)
        if status != 200:
            raise HttpError(status, body)

    def export_vdi(self, vdi, path, fmt="raw"):
        """GET /export_raw_vdi into a file."""
        connection = self.connect(600)
        try:
            connection.request("GET", "/export_raw_vdi?session_id=%s&vdi=%s&format=%s"
                               % (self.login(), vdi, fmt))
            reply = connection.getresponse()
            if reply.status != 200:
                raise HttpError(reply.status, reply.read())
            with open(path, "wb") as f:
                shutil.copyfileobj(reply, f, MIB)
                if reply.length:
                    raise HttpError(reply.status, b"%d bytes are missing" % reply.length)
        finally:
            connection.close()

    def vdi_chain(self, vdi):
        """The paths of a VDI's images, leaf first, by what sm_config says of parents."""
        record = self.call("VDI.get_record", vdi)
        chain = [os.path.join(self.sr_path(record["SR"]), record["location"])]
        parent = record["sm_config"].get("vhd-parent")
        return chain + (self.vdi_chain(self.call("VDI.get_by_uuid", parent)) if parent else [])

    def vdis_of(self, sr):
        """{ref: record} of an SR's VDIs, as they are at one moment."""
        return self.call("VDI.get_all_records_where", 'field "SR" = "%s"' % sr)

    def expect_files_of_rows(self, sr, timeout=120):
        """Every volume has its row and the reverse, once the collector has nothing under way."""
        deadline = time.monotonic() + timeout
        while True:
            rows = sorted(r["location"] for r in self.vdis_of(sr).values())
            files = sorted(f for f in os.listdir(self.sr_path(sr)) if f[0] != ".")
            if rows == files or time.monotonic() > deadline:
                return expect_eq(files, rows, "files and rows")
            time.sleep(0.1)

    def open_chain(self, vdi):
        """The files of vdi_chain, locked as a program that writes to the leaf does it."""
        deadline = time.monotonic() + 60
        while True:
            try:
                paths = self.vdi_chain(vdi)
                files = [open(path, "rb" if i else "r+b") for i, path in enumerate(paths)]
            except (FileNotFoundError, ApiError):   # the collector was faster
                paths, files = None, []
            if (files and all(image_lock(f, i == 0) for i, f in enumerate(files)) and
                    paths == self.vdi_chain(vdi)):
                return files
            for f in files:
                f.close()
            assert time.monotonic() < deadline, "the disk stays in use"
            time.sleep(0.05)

    def write_vdi(self, vdi, data, mend=False):
        """Write to the disk from its first byte on, as a guest would: into its leaf. mend: what
        a job that was cut off left in it is carried out or given up first."""
        if mend and self.vdi_format(vdi) == "vhd":
            subprocess.run(["smd-img", "check", "-q", "-r", "all", "-f", "vhd",
                            self.vdi_file(vdi)])
        files = self.open_chain(vdi)
        layers = [{"fd": f.fileno(), "name": f.name, "format": f.name.rpartition(".")[2]}
                  for f in files]
        with tempfile.TemporaryFile() as pipe:
            pipe.write(data)
            pipe.seek(0)
            request = {"op": "import-raw", "fd": pipe.fileno(), "size": len(data),
                       "source": {"layers": layers, "write": True, "foreign": False}}
            done = subprocess.run(
                [os.environ["SMD_WORKER"], "--formats", self.plugin_dir],
                input=json.dumps(request) + "\n", text=True, stdout=subprocess.PIPE, check=True,
                pass_fds=[pipe.fileno()] + [f.fileno() for f in files])
        for f in files:
            f.close()
        assert '"result"' in done.stdout, done.stdout

    def vdi_sha256(self, vdi):
        """Of what an export gives."""
        with tempfile.NamedTemporaryFile(dir=self.dir, suffix=".raw") as f:
            self.export_vdi(vdi, f.name)
            return sha256_of_file(f.name)

    # -- the collector --

    def hold_collector(self, sr):
        """Nothing is collected in an SR until let_collect."""
        self.call("SR.add_to_other_config", sr, "gc", "false")

    def let_collect(self, sr):
        self.call("SR.remove_from_other_config", sr, "gc")

    def collections(self):
        """The records of the collector's tasks, by ref."""
        return {ref: r for ref, r in self.call("task.get_all_records").items()
                if r["name_label"] == "SR.collect"}

    def wait_collected(self, sr, n_images, timeout=120):
        """Until so many VDIs are left in the SR and no run of the collector is under way."""
        deadline = time.monotonic() + timeout
        while (len(self.call("SR.get_VDIs", sr)) != n_images or
               any(r["status"] == "pending" for r in self.collections().values())):
            if time.monotonic() > deadline:
                raise AssertionError("%d images are left, not %d: %s" % (
                    len(self.call("SR.get_VDIs", sr)), n_images,
                    run("smctl", "--socket", self.socket, "vdi-tree",
                        "sr-uuid=" + self.call("SR.get_uuid", sr))))
            time.sleep(0.05)

    def check_chains(self, sr, killed=False):
        """Other programs find every image sound, and the parents that smd knows of; the SR
        holds an image for each row and none besides. killed: what a worker that was killed had
        taken may belong to nobody, until it is given back here."""
        locations = []
        for vdi in self.call("SR.get_VDIs", sr):
            chain = self.vdi_chain(vdi)
            locations.append(os.path.basename(chain[0]))
            fmt = chain[0].rpartition(".")[2]
            if fmt == "vhd":        # qemu has no VHD with a parent
                info = json.loads(run("smd-img", "info", "--output=json", "-u", "-f", "vhd", chain[0]))
                run("smd-img", "check", "-f", "vhd", chain[0])
            else:
                info = image_info(chain[0], fmt)
            if fmt == "qcow2":
                if killed:
                    run("smd-img", "check", "-q", "-r", "leaks", "-f", "qcow2", chain[0])
                qemu_img("check", "-q", "-f", "qcow2", chain[0])
            expect_eq(info.get("backing-filename"),
                      os.path.basename(chain[1]) if len(chain) > 1 else None,
                      "the parent that %s names" % chain[0])
        files = [f for f in os.listdir(self.sr_path(sr)) if not f.startswith(".")]
        expect_eq(sorted(files), sorted(locations), "files and rows")

    def wait_task(self, task, timeout=300, on_progress=None):
        """Wait for a task's end; its record. on_progress(float) at each look."""
        deadline = time.monotonic() + timeout
        while True:
            record = self.call("task.get_record", task)
            if on_progress:
                on_progress(float(record["progress"]))
            if record["status"] in ("success", "failure", "cancelled"):
                return record
            if time.monotonic() > deadline:
                raise AssertionError("the task still runs after %d s: %r" % (timeout, record))
            time.sleep(0.02)

    def call_async(self, name, *params, timeout=300):
        """Async.NAME to its end: the result (without its <value> tags), or ApiError."""
        task = self.call("Async." + name, *params)
        record = self.wait_task(task, timeout)
        self.call("task.destroy", task)
        if record["status"] != "success":
            raise ApiError(record["error_info"])
        return record["result"].replace("<value>", "").replace("</value>", "")


def process_name(pid):
    """"": it is gone."""
    try:
        with open("/proc/%d/comm" % pid) as f:
            return f.read().strip()
    except OSError:
        return ""


def image_lock(file, write):
    """qemu's image lock (common/lock.c) until the file is closed; whether we got it."""
    def ask(command, kind, byte):
        lock = struct.pack("hhqqi4x", kind, os.SEEK_SET, byte, 1, 0)
        return struct.unpack("hhqqi4x", fcntl.fcntl(file, command, lock))[0]

    F_OFD_GETLK, F_OFD_SETLK, READ, WRITE, RESIZE = 36, 37, 0, 1, 3
    for used, permission in [(True, READ)] + [(True, WRITE), (True, RESIZE)] * write + \
            [(False, WRITE), (False, RESIZE)]:
        own, other = (100, 200) if used else (200, 100)
        try:
            ask(F_OFD_SETLK, fcntl.F_RDLCK, own + permission)
        except (BlockingIOError, PermissionError):
            return False
        if ask(F_OFD_GETLK, fcntl.F_WRLCK, other + permission) != fcntl.F_UNLCK:
            return False
    return True


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


# -- images --

def qemu_format(fmt):
    return "vpc" if fmt == "vhd" else fmt


def qemu_img(*args):
    """Run qemu-img; its output."""
    return run("qemu-img", *args)


def run(*argv, status=0):
    """Run a program that must end with this status; its standard output."""
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert done.returncode == status, "%s ended with %d: %s%s" % (
        " ".join(argv), done.returncode, done.stdout, done.stderr)
    return done.stdout


def fill_raw(path, size, seed=1, runs=24, longest=MIB):
    """A sparse raw disk of this size with runs of data spread over it, the same
    for the same seed; returns how many bytes were written."""
    import random
    rng = random.Random(seed)
    longest = min(longest, size)
    written = 0
    with open(path, "wb") as f:
        f.truncate(size)
        for i in range(runs):
            count = rng.randrange(1, longest + 1)
            # The first byte, the last one, and places in between.
            at = 0 if i == 0 else size - count if i == 1 else rng.randrange(0, size - count + 1)
            f.seek(at)
            f.write(rng.randbytes(count))
            written += count
    return written


def make_image(path, fmt, size, seed=1, options="", compressed=False):
    """An image written by qemu-img, with fill_raw's content; the content's sha256.
    options: qemu-img's -o text. VHDs keep their exact size."""
    raw = path + ".raw"
    fill_raw(raw, size, seed)
    if fmt == "vhd":
        options = ",".join(filter(None, [options, "force_size=on"]))
    argv = ["convert", "-f", "raw", "-O", qemu_format(fmt)]
    argv += ["-c"] if compressed else []
    argv += ["-o", options] if options else []
    qemu_img(*argv, raw, path)
    digest = sha256_of_file(raw)
    os.unlink(raw)
    return digest


def changed_blocks(text, size):
    """What VDI.list_changed_blocks says of a disk of this size: numbers of blocks of 64 KiB."""
    bits = base64.b64decode(text, validate=True)
    n = -(-size // (64 << 10))
    assert len(bits) == -(-n // 32) * 4, (len(bits), n)
    found = {i for i in range(8 * len(bits)) if bits[i // 8] & 0x80 >> i % 8}
    assert not found or max(found) < n, (max(found), n)
    return found


def sha256_of_file(path, size=None):
    digest = hashlib.sha256()
    left = os.path.getsize(path) if size is None else size
    with open(path, "rb") as f:
        while left > 0:
            block = f.read(min(left, MIB))
            if not block:
                break
            digest.update(block)
            left -= len(block)
    return digest.hexdigest()


def sha256_of_disk(path, fmt):
    """Of the whole disk in an image, read by qemu-img and not by us."""
    if fmt == "raw":
        return sha256_of_file(path)
    with tempfile.NamedTemporaryFile(suffix=".raw", dir=os.path.dirname(path)) as raw:
        qemu_img("convert", "-f", qemu_format(fmt), "-O", "raw", path, raw.name)
        return sha256_of_file(raw.name)


def image_info(path, fmt):
    return json.loads(qemu_img("info", "--output=json", "-f", qemu_format(fmt), path))


def allocated(path):
    return os.stat(path).st_blocks * 512


# -- assertions --

def expect_eq(actual, expected, what=""):
    assert actual == expected, "%s: got %.2000r, wanted %.2000r" % (what, actual, expected)


def expect_error(code, function, *args, params=None):
    """function(*args) must fail with this code (and these params); the error."""
    try:
        result = function(*args)
    except ApiError as e:
        assert e.code == code, "wanted %s, got %s" % (code, e)
        if params is not None:
            expect_eq(e.params, params, "parameters of " + code)
        return e
    raise AssertionError("wanted %s, got a success: %r" % (code, result))

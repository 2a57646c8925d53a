#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
# smd's start and stop: options and the file, what is refused and how, systemd's
# messages and sockets, the background, SIGHUP.
import resource
import threading
from smdtest import *


def ends(status, text, *argv, env=None):
    done = subprocess.run(["smd", *argv], capture_output=True, text=True, timeout=60,
                          stdin=subprocess.DEVNULL, env=dict(os.environ, **(env or {})))
    expect_eq(done.returncode, status, "status of smd %s: %s" % (" ".join(argv), done.stderr))
    assert text in done.stdout + done.stderr, "wanted \"%s\" in: %s%s" % (text, done.stdout,
                                                                         done.stderr)


def has_open(pid, path):
    try:
        return any(os.readlink("/proc/%d/fd/%s" % (pid, fd)) == path
                   for fd in os.listdir("/proc/%d/fd" % pid))
    except OSError:
        return False


def write(path, text):
    with open(path, "w") as f:
        f.write(text)


ends(0, "Usage: smd", "--help")
ends(0, "max_workers", "--help-config")
ends(0, "smd 0.", "--version")
ends(2, "Usage: smd", "--nonsense")
ends(2, "Usage: smd", "extra")

with tempfile.TemporaryDirectory(prefix="smd-test.") as t:
    conf = os.path.join(t, "conf")
    common = ["--foreground", "--state-dir", t + "/state", "--socket", t + "/sock"]
    ends(1, "No such file", *common, "--config", conf)
    for text, why in (("nonsense = 1\n", "line 1: there is no key nonsense"),
                      ("# fine\n\nmax_workers = 0\n", "line 3: max_workers is 0, outside 1..256"),
                      ("max_workers = many\n", "not a number"),
                      ("log_level = loud\n", "not error, warning"),
                      ("just words\n", "is not key = value")):
        write(conf, text)
        ends(1, why, *common, "--config", conf)
    write(conf, "")
    ends(1, "no plugin directory", *common, "--config", conf, "--plugin-dir", t + "/none")
    ends(1, "nothing to listen on", "--foreground", "--config", conf, "--state-dir", t + "/state",
         "--socket", "none")

    # What systemd is told, in order.
    notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    notify.bind(t + "/notify")
    notify.settimeout(30)
    told = []

    def told_until(word):
        while not any(word in message for message in told):
            told.append(notify.recv(4096).decode())

    with Smd(env={"NOTIFY_SOCKET": t + "/notify", "WATCHDOG_USEC": "60000000"}) as smd:
        told_until("READY=1")
        told_until("WATCHDOG=1")
        # SIGHUP: what can change does; what cannot, and a broken file, change nothing.
        for text, want in (("log_level = debug\nlisten = 127.0.0.1:1\n", "listen changed in"),
                           ("nonsense = 1\n", "configuration unchanged"),
                           ("log_level = info\n", "read again")):
            told.clear()
            write(smd.conf, text)
            smd.process.send_signal(signal.SIGHUP)
            told_until("RELOADING=1")
            told_until("READY=1")
            assert want in smd.read_log(), smd.read_log()
        # A stop ends calls that wait, with an answer.
        replies = []
        waiting = threading.Thread(target=lambda: replies.append(smd.json_raw(
            "event.from", smd.session, ["SR"], batch["token"], 60.0)))
        batch = smd.json_call("event.from", ["SR"], "", 0.0)
        waiting.start()
        time.sleep(0.2)
        smd.stop()
        waiting.join(10)
        told_until("STOPPING=1")
        expect_eq([reply["error"]["message"] for reply in replies], ["SESSION_INVALID"], "a wait")

    # A socket that is handed over, an IPv6 listener, a state directory that is made.
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(t + "/handed")
    listener.listen()

    port = free_port()
    listen6 = ["--listen", "[::1]:%d" % port] if socket.has_dualstack_ipv6() else []
    process = subprocess.Popen(
        ["sh", "-c", "ulimit -Sn 500; LISTEN_PID=$$ LISTEN_FDS=1 exec smd \"$@\"", "smd",
         "--foreground", "--config", conf, "--state-dir", t + "/a/b/c", *listen6],
        preexec_fn=lambda: os.dup2(listener.fileno(), 3), close_fds=False, stderr=subprocess.DEVNULL)
    proxy = xmlrpc.client.ServerProxy("http://localhost/", transport=UnixTransport(t + "/handed"))
    assert "VDI.create" in proxy.system.listMethods()
    if listen6:
        proxy6 = xmlrpc.client.ServerProxy("http://[::1]:%d/" % port)
        assert "VDI.create" in proxy6.system.listMethods()
    soft, hard = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)
    expect_eq(soft, min(hard, 65536), "its limit of descriptors")
    expect_eq(os.stat(t + "/a/b/c").st_mode & 0o777, 0o700, "mode of the state directory")
    expect_eq(os.stat(t + "/a/b/c/smd.db").st_mode & 0o777, 0o600, "mode of the database")
    process.terminate()
    expect_eq(process.wait(30), 0, "its end")
    # The socket that was handed over still listens: who comes now waits for the next daemon.
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(t + "/handed")
        listener.settimeout(30)
        listener.accept()[0].close()

    # In the background: it serves when the first process has ended; a second cannot.
    background = ["smd", "--config", conf, "--state-dir", t + "/bg", "--socket", t + "/bg.sock"]
    expect_eq(subprocess.run(background, timeout=60, stderr=subprocess.DEVNULL).returncode, 0,
              "start in the background")
    proxy = xmlrpc.client.ServerProxy("http://localhost/", transport=UnixTransport(t + "/bg.sock"))
    assert "VDI.create" in proxy.system.listMethods()
    expect_eq(subprocess.run(background, timeout=60, stderr=subprocess.DEVNULL).returncode, 1,
              "a second one")
    pid, = [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc")))
            if has_open(pid, t + "/bg/lock")]
    os.kill(pid, signal.SIGTERM)
    while os.path.exists("/proc/%d" % pid):
        time.sleep(0.05)

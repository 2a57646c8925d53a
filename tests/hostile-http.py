#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Clients that trickle, stop half-way, send many requests at once, hold connections, talk
no TLS where it is spoken, and guess passwords: honest clients go on to be answered, and
when the others are gone so is all they took.

SMD_HOSTILE_SECONDS: how long (4); with it set, honest answers must also come in time."""
import mmap
import random
import resource
import ssl
import threading

from smdtest import *

SECONDS = float(os.environ.get("SMD_HOSTILE_SECONDS", "4"))
IN_TIME = 0.5 if "SMD_HOSTILE_SECONDS" in os.environ else 60.0
CONNECTIONS, LOGINS = 1000, 1000
ENEMY = "127.0.0.66"       # all of them; honest clients come from elsewhere
GET = b"GET /nothing HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"


def dial(port):
    s = socket.socket()
    s.settimeout(30)
    s.bind((ENEMY, 0))
    s.connect(("127.0.0.1", port))
    return s


class Count:
    """A number that both processes see."""

    def __init__(self):
        self.memory = mmap.mmap(-1, 8)

    def get(self):
        return struct.unpack("Q", self.memory[:8])[0]

    def add(self):
        self.memory[:8] = struct.pack("Q", self.get() + 1)


def attack_for_ever(attack, port):
    """Again and again; that it is cut off is what it must expect."""
    rng = random.Random(attack.__name__)
    while True:
        try:
            attack(rng, port)
        except OSError:
            time.sleep(0.01)
        counts[attack].add()


def start_enemies(port, tls_port):
    """In a process of their own, which is killed in the end: its pid."""
    pid = os.fork()
    if pid == 0:
        threads = [threading.Thread(target=attack_for_ever,
                                    args=(attack, tls_port if attack is noise else port))
                   for attack in counts]
        for thread in threads:
            thread.start()
        threads[0].join()
    return pid


def slowloris(rng, port):
    """Heads that come byte by byte."""
    sockets = [dial(port) for _ in range(20)]
    for i in range(400):
        time.sleep(0.05)
        for s in sockets:
            s.sendall(bytes([(GET * 9)[i]]))
    for s in sockets:
        s.close()


def halves(rng, port):
    """Requests that end anywhere, and connections that then stay or go."""
    whole = rng.choice([GET, b"POST /jsonrpc HTTP/1.1\r\nHost: x\r\nContent-Length: 200000\r\n\r\n"
                        + b"x" * 5000, b"PUT /import_raw_vdi HTTP/1.1\r\nContent-Length: 99\r\n\r\nxx"])
    s = dial(port)
    s.sendall(whole[:rng.randrange(1, len(whole))])
    if rng.random() < 0.2 and len(kept) < 300:
        kept.append(s)
    else:
        s.close()


def pipelining(rng, port):
    """Requests by the hundred, and few answers are read."""
    with dial(port) as s:
        s.settimeout(2)
        s.sendall(GET * 300)
        s.recv(rng.randrange(1, 100000))


def many(rng, port):
    """As many connections as there can be, of which nothing is heard."""
    sockets = []
    try:
        while len(sockets) < CONNECTIONS:
            sockets.append(dial(port))
        time.sleep(0.5)
    finally:
        for s in sockets:
            s.close()


def noise(rng, port):
    """Anything but TLS, and the beginnings of it."""
    with dial(port) as s:
        s.sendall(rng.choice([b"", b"\x16\x03\x01\x02\x00\x01\x00"]) +
                  rng.randbytes(rng.randrange(1, 5000)))
        s.settimeout(0.2)
        s.recv(100)


def guesses(rng, port):
    """Passwords, for many names."""
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "session.login_with_password",
                       "params": ["user%d" % rng.randrange(50), "guess"]}).encode()
    head = b"POST /jsonrpc HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body)
    sockets = [dial(port) for _ in range(25)]
    for s in sockets:
        s.sendall(head + body)
    for s in sockets:
        if b"AUTHENTICATION_FAILED" in s.recv(65536):
            logins.add()
        s.close()


def honest(smd, context, tls_port):
    """What somebody does who has a password: the slowest answer."""
    slowest = 0.0
    for port, wrap in (smd.port, False), (tls_port, True):
        begun = time.monotonic()
        with socket.create_connection(("127.0.0.1", port), 60) as raw:
            s = context.wrap_socket(raw, server_hostname="localhost") if wrap else raw
            body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "session.login_with_password",
                               "params": [smd.user, smd.password]}).encode()
            s.sendall(b"POST /jsonrpc HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (
                len(body), body))
            answer = s.recv(65536)
            while answer.count(b"\r\n\r\n") == 0 or not answer.endswith(b"}"):
                answer += s.recv(65536)
            assert b'"result":"OpaqueRef:' in answer, answer
            if wrap:
                s.close()
        slowest = max(slowest, time.monotonic() - begun)
    begun = time.monotonic()
    smd.json_call("pool.get_all_records")
    return max(slowest, time.monotonic() - begun)


def held(pid):
    """What the daemon has: descriptors, threads, KiB."""
    with open("/proc/%d/status" % pid) as f:
        rss = next(int(line.split()[1]) for line in f if line.startswith("VmRSS"))
    return [len(os.listdir("/proc/%d/%s" % (pid, what))) for what in ("fd", "task")] + [rss]


def wait_settled(pid, before):
    """The descriptors and threads come back down."""
    deadline = time.monotonic() + 90
    while True:
        fds, threads, rss = held(pid)
        if fds <= before[0] + 10 and threads <= before[1] + 10:
            return rss
        assert time.monotonic() < deadline, "%d descriptors, %d threads are left of %r" % (
            fds, threads, before)
        time.sleep(0.2)


soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 8192)), hard))
kept, logins = [], Count()
counts = {attack: Count() for attack in (slowloris, halves, pipelining, many, guesses, noise)}
with Smd(tcp=True, tls=True, config="max_connections = 1500\n") as smd:
    context = ssl.create_default_context(cafile=smd.certificate)
    assert smd.login()
    honest(smd, context, smd.tls_port)
    before = held(smd.process.pid)
    enemies = start_enemies(smd.port, smd.tls_port)
    times, end = [], time.monotonic() + SECONDS
    while time.monotonic() < end or logins.get() < LOGINS * SECONDS / 60:
        times.append(honest(smd, context, smd.tls_port))
    os.kill(enemies, signal.SIGKILL)
    os.waitpid(enemies, 0)
    times.sort()
    print("%d honest rounds: median %.0f ms, slowest %.0f ms; %d guesses; attacks: %s" % (
        len(times), 1000 * times[len(times) // 2], 1000 * times[-1], logins.get(),
        ", ".join("%s %d" % (a.__name__, n.get()) for a, n in counts.items())))
    assert times[-1] < IN_TIME, "an honest client waited for %.1f s" % times[-1]
    rss = wait_settled(smd.process.pid, before)
    print("%d KiB before, %d after" % (before[2], rss))
    assert sanitized() or rss < before[2] + 100 * 1024, "grown by %d KiB" % (rss - before[2])
    honest(smd, context, smd.tls_port)

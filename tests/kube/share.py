"""What the containers of tests/kube/share.sh do. In /shared they write numbers that
grow while all is well, and NAME.error when something is not as it has to be."""
import ctypes
import os
import signal
import socket
import struct
import sys
import threading
import time
import traceback

SHARED = "/shared/"


def put(name, text):
    """In one write, over what was there: numbers only grow."""
    fd = os.open(SHARED + name, os.O_WRONLY | os.O_CREAT, 0o644)
    os.pwrite(fd, str(text).encode(), 0)
    os.close(fd)


def get(name):
    while True:
        try:
            with open(SHARED + name) as f:
                text = f.read()
            if text:
                return text
        except FileNotFoundError:
            pass
        time.sleep(0.05)


def asked(name, what):
    try:
        with open(SHARED + name + ".do") as f:
            return f.read().strip() == what
    except FileNotFoundError:
        return False


def guarded(name, work, *args):
    try:
        work(*args)
    except Exception:
        put(name + ".error", traceback.format_exc())
        raise


def thread(name, work, *args):
    threading.Thread(target=guarded, args=(name, work, *args), daemon=True).start()


# ---- processes: each signals the other's, which it knows by number only
heard = 0


def on_signal(*_):
    global heard
    heard += 1


def orphan():
    if os.fork() == 0:
        if os.fork() == 0:
            time.sleep(0.5)
            put("two.orphan", os.getppid())
            time.sleep(3600)
        os._exit(0)
    os.wait()


def processes(me):
    signal.signal(signal.SIGUSR1, on_signal)
    put(me + ".pid", os.getpid())
    if me == "two":
        child = os.fork()
        if child == 0:
            while True:
                time.sleep(3600)
        put("two.child", child)
    other = int(get("two.pid" if me == "one" else "one.pid"))
    made = False
    while True:
        os.kill(other, signal.SIGUSR1)
        time.sleep(0.05)
        if me == "one":
            put("signals", heard)
            os.kill(int(get("two.child")), 0)
        elif not made and asked("two", "orphan"):
            made = True
            orphan()


# ---- System V: a word in a segment says whose turn it is
libc = ctypes.CDLL(None, use_errno=True)
libc.shmat.restype = ctypes.c_void_p
libc.shmat.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_int]
IPC_CREAT, PAGE, PAGES = 0o1000, 4096, 256


def must(n, what):
    if n is None or n == -1 or n == ctypes.c_void_p(-1).value:
        raise OSError(ctypes.get_errno(), what)
    return n


def segment(key, pages):
    at = must(libc.shmat(must(libc.shmget(key, pages * PAGE, IPC_CREAT | 0o666), "shmget"), None, 0), "shmat")
    return (ctypes.c_uint64 * (pages * PAGE // 8)).from_address(at)


class Message(ctypes.Structure):
    _fields_ = [("type", ctypes.c_long), ("turn", ctypes.c_uint64)]


class Semop(ctypes.Structure):
    _fields_ = [("num", ctypes.c_ushort), ("op", ctypes.c_short), ("flags", ctypes.c_short)]


def segments(me):
    both, mine = segment(0x1234, PAGES), segment(0, PAGES)
    queue = must(libc.msgget(0x1235, IPC_CREAT | 0o666), "msgget")
    sem = must(libc.semget(0x1236, 1, IPC_CREAT | 0o666), "semget")
    parity = 0 if me == "one" else 1
    if me == "one":
        must(libc.semop(sem, ctypes.byref(Semop(0, 5, 0)), 1), "semop")
    put(me + ".up", 1)
    get("two.up" if me == "one" else "one.up")
    while True:
        turn = both[0]
        if turn % 2 != parity:
            time.sleep(0.002)
            continue
        word = (1 + turn % (PAGES - 1)) * PAGE // 8
        before = (1 + (turn - 1) % (PAGES - 1)) * PAGE // 8
        if turn and both[before] != turn:
            raise AssertionError(f"turn {turn}: the other one's page has {both[before]}")
        both[word] = turn + 1
        mine[turn % PAGES * PAGE // 8] = turn
        if turn % 64 == parity:
            for page in range(parity, PAGES, 2):
                last = turn - (turn - page) % PAGES
                if last > 0 and mine[page * PAGE // 8] != last:
                    raise AssertionError(f"page {page} of my segment has {mine[page * PAGE // 8]}, not {last}")
        m = Message(1, turn)
        if me == "two":
            must(libc.msgrcv(queue, ctypes.byref(m), 8, 0, 0), "msgrcv")
            if m.turn != turn - 1:
                raise AssertionError(f"turn {turn}: the message is of {m.turn}")
        else:
            must(libc.msgsnd(queue, ctypes.byref(m), 8, 0), "msgsnd")
        value = must(libc.semctl(sem, 0, 12), "semctl")  # GETVAL
        if value != 5 + turn % 2:
            raise AssertionError(f"turn {turn}: the semaphore is {value}")
        must(libc.semop(sem, ctypes.byref(Semop(0, 1 - 2 * parity, 0)), 1), "semop")
        both[0] = turn + 1
        if turn % 16 == 0:
            put("turns", turn)
        time.sleep(0.002)


# ---- unix sockets
def listen(name, kind=socket.SOCK_STREAM):
    s = socket.socket(socket.AF_UNIX, kind)
    s.bind(SHARED + name)
    s.listen()
    return s


def connect(name, kind=socket.SOCK_STREAM):
    while True:
        s = socket.socket(socket.AF_UNIX, kind)
        try:
            s.connect(SHARED + name)
            return s
        except (FileNotFoundError, ConnectionRefusedError):
            s.close()
            time.sleep(0.1)


def echo_server(l):
    c, _ = l.accept()
    while True:
        data = c.recv(100)
        if not data:
            put("closed", 1)
            return
        c.sendall(data)


def echo_client():
    s, n = connect("echo"), 0
    while not asked("client", "close"):
        n += 1
        want = struct.pack("<Q", n)
        s.sendall(want)
        got = s.recv(8, socket.MSG_WAITALL)
        if got != want:
            raise AssertionError(f"echo {n}: {got}")
        put("echoes", n)
        time.sleep(0.01)
    s.close()


def flood(l, size):
    """As much as goes in: there is always something unread."""
    c, _ = l.accept()
    n = 0
    while True:
        n += 1
        c.sendall(struct.pack("<Q", n) * size)


def drain(name, kind, size):
    s, n = connect(name, kind), 0
    while True:
        n += 1
        got = s.recv(8 * size, socket.MSG_WAITALL if kind == socket.SOCK_STREAM else 0)
        if got != struct.pack("<Q", n) * size:
            raise AssertionError(f"{name} {n}: {len(got)} bytes, {got[:8]}")
        put(name + ".n", n)
        time.sleep(0.02)


def half_server(l):
    c, _ = l.accept()
    n = 0
    while True:
        n += 1
        if c.recv(100) not in (b"bye" if n == 1 else b"", b""):
            raise AssertionError("an end came undone")
        c.sendall(struct.pack("<Q", n))
        time.sleep(0.05)


def half_client():
    s, n = connect("half"), 0
    s.sendall(b"bye")
    s.shutdown(socket.SHUT_WR)
    while True:
        n += 1
        if s.recv(8, socket.MSG_WAITALL) != struct.pack("<Q", n):
            raise AssertionError(f"half {n}")
        put("half.n", n)
        try:
            s.send(b"x")
            raise AssertionError("a shut end can be written to")
        except BrokenPipeError:
            pass


def server():
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    thread("server", echo_server, listen("echo"))
    thread("server", flood, listen("stream"), 100)
    thread("server", flood, listen("packets", socket.SOCK_SEQPACKET), 25)
    thread("server", half_server, listen("half"))
    while not asked("server", "rights"):
        time.sleep(0.1)
    s = connect("rights")
    socket.send_fds(s, [b"x"], [0])
    put("rights.sent", 1)
    time.sleep(3600)


def client():
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    thread("client", echo_client)
    thread("client", drain, "stream", socket.SOCK_STREAM, 100)
    thread("client", drain, "packets", socket.SOCK_SEQPACKET, 25)
    thread("client", half_client)
    l = listen("rights")
    c, _ = l.accept()
    while not asked("client", "read"):
        time.sleep(0.1)
    for fd in socket.recv_fds(c, 1, 1)[1]:
        os.close(fd)  # it is of another container's files
    put("rights.read", 1)
    time.sleep(3600)


# ---- datagrams
def receiver():
    s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    s.bind(SHARED + "log")
    while True:
        put("lines", s.recv(100).decode())


def sender():
    s = connect("log", socket.SOCK_DGRAM)
    n = 0
    while True:
        n += 1
        s.send(str(n).encode())
        time.sleep(0.1)


if __name__ == "__main__":
    args = sys.argv[1:]
    guarded(args[-1], globals()[args[0]], *args[1:])

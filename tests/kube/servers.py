"""Clients of tests/kube/servers.sh, one process for each server that is moved.

    servers.py KIND HOST STOP     KIND: http, nginx, memcached, mariadb

Some connections, each made once and kept; a request every few milliseconds, every
answer checked against what this connection has stored itself. When the file STOP
appears everything is read once more, and a line of JSON says how it was: requests,
connections, longest wait from sending to the answer, what this side has sent twice.
What is wrong ends a connection at once, and the program with 1.
"""
import hashlib
import json
import os
import random
import socket
import struct
import sys
import threading
import time

CONNECTIONS, KEYS, PAUSE = 4, 200, 0.005
REPEAT = 256  # the servers answer with the value so many times


class Line:
    """A TCP connection that is read by lines and lengths."""

    def __init__(self, host, port):
        self.sock = socket.create_connection((host, port))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.file = self.sock.makefile("rb")

    def ask(self, text):
        self.sock.sendall(text.encode())

    def line(self):
        line = self.file.readline()
        if not line.endswith(b"\n"):
            raise EOFError("connection was closed")
        return line.strip().decode()

    def read(self, n):
        body = self.file.read(n)
        if len(body) != n:
            raise EOFError("connection was closed")
        return body


class Http(Line):
    def __init__(self, host):
        super().__init__(host, 8080)

    def get(self, path):
        self.ask("GET %s HTTP/1.1\r\nHost: zoo\r\n\r\n" % path)
        return self.read(self.head())

    def head(self):
        status, length, line = self.line(), None, "-"
        if " 200 " not in status + " ":
            raise ValueError(status)
        while line:
            line = self.line()
            if line.lower().startswith("content-length:"):
                length = int(line.split(":")[1])
            elif line.lower() == "connection: close":
                raise EOFError("server closes the connection")
        return length

    def store(self, key, value):
        if self.get("/set/%s/%s" % (key, value)) != b"ok":
            raise ValueError("not stored")

    def load(self, key):
        return self.get("/get/" + key).decode()


class Memcached(Line):
    def __init__(self, host):
        super().__init__(host, 11211)

    def store(self, key, value):
        value *= REPEAT
        self.ask("set %s 0 0 %d\r\n%s\r\n" % (key, len(value), value))
        if (answer := self.line()) != "STORED":
            raise ValueError(answer)

    def load(self, key):
        self.ask("get %s\r\n" % key)
        head = self.line().split()
        if head[:2] != ["VALUE", key]:
            raise ValueError("%s is lost: %s" % (key, head))
        value = self.read(int(head[3]) + 2)[:-2].decode()
        if (end := self.line()) != "END":
            raise ValueError(end)
        return value


class Values:
    """Stores keys of its own, and remembers them."""

    def __init__(self, kind, host, no):
        self.to, self.no, self.mine, self.count = kind(host), no, {}, 0

    def step(self):
        self.count += 1
        key = "k%d-%d" % (self.no, random.randrange(KEYS))
        if self.count % 2 or key not in self.mine:
            self.to.store(key, "v%d" % self.count)
            self.mine[key] = "v%d" % self.count
        else:
            self.check(key)

    def check(self, key):
        if (value := self.to.load(key)) != self.mine[key] * REPEAT:
            raise ValueError("%s is %.30s, not %s" % (key, value, self.mine[key]))

    def end(self):
        for key in self.mine:
            self.check(key)


class Nginx:
    """Connection 0 loads /limited once, which nginx sends slowly; the last one loads
    /big, as slowly as it reads itself until STOP. Those between ask for small files."""

    def __init__(self, host, no):
        self.to, self.no, self.sum, self.left = Http(host), no, hashlib.sha256(), 0
        if no in (0, CONNECTIONS - 1):
            self.to.ask("GET /%s HTTP/1.1\r\nHost: zoo\r\n\r\n" % ("big" if no else "limited"))
            self.left = self.size = self.to.head()

    def step(self):
        if self.no in (0, CONNECTIONS - 1):
            piece = self.to.file.read1(min(self.left, 16384)) if self.left else b"-"
            if not piece:
                raise EOFError("%d bytes of the download are missing" % self.left)
            self.left -= len(piece) if self.left else 0
            self.sum.update(piece)
            time.sleep(0.1 if self.no or not self.left else 0)
        else:
            n = random.randrange(200) + 1
            if self.to.get("/%d" % n) != b"file %06d\n" % n * 64:
                raise ValueError("file %d is another" % n)

    def end(self):
        if self.no not in (0, CONNECTIONS - 1):
            return
        while self.left:
            piece = self.to.read(min(self.left, 1 << 20))
            self.left -= len(piece)
            self.sum.update(piece)
        whole = hashlib.sha256(b"".join(b"%015d\n" % n for n in range(1, self.size // 16 + 1)))
        if whole.digest() != self.sum.digest():
            raise ValueError("a download has another checksum")


class Mariadb:
    """Moves money between accounts, each transaction with a row of history."""

    def __init__(self, host, no):
        import pymysql
        self.db = pymysql.connect(host=host, user="root", database="zoo", autocommit=True)
        self.to, self.no, self.count = self.db.cursor(), no, 0
        if not no:
            self.to.execute("CREATE OR REPLACE TABLE account (id INT PRIMARY KEY, balance INT NOT NULL, filler CHAR(200) NOT NULL)")
            self.to.execute("CREATE OR REPLACE TABLE history (id INT AUTO_INCREMENT PRIMARY KEY, who INT, n INT, amount INT)")
            self.to.executemany("INSERT INTO account VALUES (%s, 0, 'x')", [(n,) for n in range(5000)])

    def step(self):
        self.count += 1
        low, high = sorted(random.sample(range(5000), 2))
        amount = random.randrange(-100, 100)
        self.to.execute("START TRANSACTION")
        self.to.execute("UPDATE account SET balance = balance + %s WHERE id = %s", (amount, low))
        self.to.execute("UPDATE account SET balance = balance - %s WHERE id = %s", (amount, high))
        self.to.execute("INSERT INTO history (who, n, amount) VALUES (%s, %s, %s)", (self.no, self.count, amount))
        self.to.execute("COMMIT")

    def one(self, question):
        self.to.execute(question)
        return self.to.fetchone()

    def end(self):
        if (row := self.one("SELECT COUNT(*), MAX(n) FROM history WHERE who = %d" % self.no)) != (self.count, self.count):
            raise ValueError("committed %d, history has %s" % (self.count, row))
        if (row := self.one("SELECT SUM(balance), COUNT(*) FROM account")) != (0, 5000):
            raise ValueError("accounts sum up to %s" % (row,))
        if (row := self.one("CHECK TABLE account EXTENDED"))[3] != "OK":
            raise ValueError("the table is damaged: %s" % (row,))


def retransmits(user):
    sock = user.db._sock if isinstance(user, Mariadb) else user.to.sock
    total_retrans = 100  # its offset in struct tcp_info
    return struct.unpack_from("I", sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104), total_retrans)[0]


def client(kind, host, no):
    if kind == "mariadb":
        return Mariadb(host, no)
    if kind == "nginx":
        return Nginx(host, no)
    return Values({"http": Http, "memcached": Memcached}[kind], host, no)


def run(user, stop, out):
    try:
        while not os.path.exists(stop):
            t = time.monotonic()
            user.step()
            out["wait_max_ms"] = max(out["wait_max_ms"], round((time.monotonic() - t) * 1000))
            out["requests"] += 1
            time.sleep(PAUSE)
    except Exception as e:
        out["errors"].append("connection %d after %d requests: %s: %s" % (user.no, out["requests"], type(e).__name__, e))
        return
    out["retransmits"] = retransmits(user)
    try:
        user.end()
    except Exception as e:
        out["errors"].append("connection %d at the end: %s: %s" % (user.no, type(e).__name__, e))


kind, host, stop = sys.argv[1:]
users = [client(kind, host, no) for no in range(CONNECTIONS)]
outs = [{"wait_max_ms": 0, "requests": 0, "errors": []} for _ in users]
threads = [threading.Thread(target=run, args=(u, stop, o)) for u, o in zip(users, outs)]
for t in threads:
    t.start()
open(stop + ".runs", "w").close()
for t in threads:
    t.join()
# How long the downloads of nginx wait is their own affair.
waits = outs[1:-1] if kind == "nginx" else outs
errors = [e for o in outs for e in o["errors"]]
print(json.dumps({
    "connections": len(users),
    "requests": sum(o["requests"] for o in outs),
    "wait_max_ms": max(o["wait_max_ms"] for o in waits),
    "retransmits": sum(o.get("retransmits", 0) for o in waits),
    "errors": errors,
}))
sys.exit(1 if errors else 0)

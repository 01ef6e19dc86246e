#!/usr/bin/env python3
"""knock.py STOP ADDR:PORT...: a new connection to each address every 50 ms until the file STOP
is there; each sends a redis PING and wants +PONG within 10 s. At the end a line of JSON per
address: how many were answered, what went wrong, the longest wait in ms."""
import collections, json, os, socket, sys, threading, time

stop, addresses = sys.argv[1], sys.argv[2:]
lock = threading.Lock()
answered = collections.Counter()
wrong = {a: collections.Counter() for a in addresses}
longest = collections.Counter()


def knock(address):
    host, port = address.rsplit(":", 1)
    begun = time.monotonic()
    try:
        with socket.create_connection((host, int(port)), timeout=10) as s:
            s.sendall(b"PING\r\n")
            got = s.recv(64)
        error = None if got == b"+PONG\r\n" else "answer %r" % got
    except OSError as e:
        error = type(e).__name__ + ": " + str(e)
    ms = int((time.monotonic() - begun) * 1000)
    with lock:
        if error:
            wrong[address]["%s" % error] += 1
            print("# %.3f %s: %s" % (time.time(), address, error), file=sys.stderr, flush=True)
        else:
            answered[address] += 1
        longest[address] = max(longest[address], ms)


threads = []
due = time.monotonic()
while not os.path.exists(stop):
    for a in addresses:
        t = threading.Thread(target=knock, args=(a,))
        t.start()
        threads.append(t)
    threads = [t for t in threads if t.is_alive()]
    due += 0.05
    time.sleep(max(0, due - time.monotonic()))
for t in threads:
    t.join()
for a in addresses:
    print(json.dumps({"to": a, "answered": answered[a], "wrong": dict(wrong[a]), "longest_ms": longest[a]}))

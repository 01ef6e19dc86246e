#!/usr/bin/env python3
"""knock.py [--every S] STOP ADDR:PORT...: a new connection to each address every 50 ms until STOP
is there; each sends a redis PING and wants +PONG within 10 s. At the end a line of JSON per
address: how many were answered, what went wrong, the longest wait in ms, and how many SYNs were
sent again (a second late each)."""
import collections, json, os, socket, struct, sys, threading, time

every = 0.05
if sys.argv[1] == "--every":
    every = float(sys.argv[2])
    del sys.argv[1:3]
stop, addresses = sys.argv[1], sys.argv[2:]
lock = threading.Lock()
answered = collections.Counter()
wrong = {a: collections.Counter() for a in addresses}
longest = collections.Counter()
again = collections.Counter()


def segments_again(s):
    """tcpi_total_retrans of struct tcp_info; asked once the connection stands, it is the SYN's."""
    return struct.unpack_from("I", s.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104), 100)[0]


def knock(address):
    host, port = address.rsplit(":", 1)
    begun = time.monotonic()
    try:
        with socket.create_connection((host, int(port)), timeout=10) as s:
            syns = segments_again(s)
            with lock:
                again[address] += syns
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
    due += every
    time.sleep(max(0, due - time.monotonic()))
for t in threads:
    t.join()
for a in addresses:
    print(json.dumps({"to": a, "answered": answered[a], "wrong": dict(wrong[a]), "longest_ms": longest[a], "syn_again": again[a]}))

"""bench/kube_report.py SAMPLES KUBE_JSON: rows and a table out of what bench/kube measured."""
import json
import sys

from report import STEPS, quantile, show, spread, table


def row_of(samples, key):
    mine = [s for s in samples if "row" in s and (s["row"], s["rss_mib"], s["rate"]) == key]
    ours = [s for s in mine if s["kind"] == "godwit"]
    ends = [s for s in mine if s["kind"] == "connection"]
    drains = [s for s in mine if s["kind"] == "drain"]
    if not ours:
        return None
    api = [s["result"]["apiRequests"] for s in ours if "apiRequests" in s["result"]]
    # A client that said nothing at its end has lost all it held, and at least one.
    lost = [s["end"].get("lost", 1) + s["end"].get("wrong_answers", 0) + s["end"].get("keys_wrong", 0) for s in ends]
    return {
        "kind": key[0],
        "rss_mib": key[1],
        "writes_per_s": key[2],
        "runs": len(ours),
        "failed": sum(s["kind"] == "failed" for s in mine),
        "freeze_ms": spread([s["result"]["freezeUs"] / 1000 for s in ours]),
        "client_stall_ms": spread([s["client"]["wait_max_us"] / 1000 for s in ours]),
        "stall_over_freeze_ms": spread([(s["client"]["wait_max_us"] - s["result"]["freezeUs"]) / 1000 for s in ours]),
        "total_s": spread([s["total_ms"] / 1000 for s in ours]),
        "api_requests": spread(api) if api else None,
        "retransmits": sum(s["client"]["retransmits"] + s["server_retransmits"] for s in ours),
        "loss_probes": sum(s["client"]["probes"] for s in ours),
        "timeouts": sum(s["client"]["timeouts"] for s in ours),
        "lost": sum(lost) if lost else None,
        "keys_checked": sum(s["end"].get("keys_checked", 0) for s in ends),
        "connections": len(ends),
        "resets": sum(s["resets"] for s in ours) + sum("connection is lost" in s["end"].get("why", "connection is lost") for s in ends),
        "same_connection": all(s["end"].get("same_port", False) for s in ends) if ends else None,
        "steps_ms": {k: quantile([s["result"]["stepsUs"].get(k, 0) / 1000 for s in ours], 0.5)
                     for k in STEPS},
        "loadavg_before": spread([s["loadavg"] for s in ours]),
        "drain": {
            "runs": len(drains),
            "without_service_s": spread([s["without_service_s"] for s in drains]),
            "keys_before": quantile([s["keys_before"] for s in drains], 0.5),
            "keys_lost": quantile([s["keys_lost"] for s in drains], 0.5),
        },
    }


def report(rows, c):
    print(f"\nMeasured: redis {c['redis']} in a pod, a client pod on a third node that holds one connection and sends one "
          f"write at a time,\nnodes and control plane in namespaces of one machine: {c['cores']} cores ({c['cpu']}), "
          f"{c['memory_mib']} MiB, Linux {c['kernel']}, cgroup {c['cgroup']},\nKubernetes {c['kubernetes']}, containerd "
          f"{c['containerd']}, runc {c['runc']}, CRIU {c['criu']}, TLS between the nodes. The first load average of the\n"
          "machine before the moves stands in the last column: anything above 2 is work of others on its cores.")
    print("\nMoved by godwit (ms; stall: the client's longest wait; total: from the command to its end, s)")
    spreads = ("p50", "p90", "max")
    table(["kind", "MiB", "writes/s", "runs", "failed", "freeze p50", "p90", "max", "stall p50", "p90", "max",
           "longer p50", "total p50", "p90", "max", "API", "retrans", "lost", "resets", "load"],
          [[r["kind"], show(r["rss_mib"]), show(r["writes_per_s"]), show(r["runs"]), show(r["failed"])]
           + [show(r["freeze_ms"][k]) for k in spreads] + [show(r["client_stall_ms"][k]) for k in spreads]
           + [show(r["stall_over_freeze_ms"]["p50"])] + [show(r["total_s"][k], 2) for k in spreads]
           + [show(r["api_requests"]["p50"] if r["api_requests"] else None), show(r["retransmits"]), show(r["lost"]),
              show(r["resets"]), show(r["loadavg_before"]["p50"])] for r in rows])
    print("\nThe same move by kubectl drain: deleted, made anew by its controller (a client that connects anew each time)")
    table(["kind", "MiB", "runs", "seconds without service p50", "p90", "max", "keys before", "keys lost"],
          [[r["kind"], show(r["rss_mib"]), show(r["drain"]["runs"])]
           + [show(r["drain"]["without_service_s"][k], 2) for k in spreads]
           + [show(r["drain"]["keys_before"]), show(r["drain"]["keys_lost"])] for r in rows])
    print("(redis without persistence and without a volume: what is in memory goes with the pod. What a drain also does "
          "to\nthe open connection, a reset, is not counted.)")
    print("\nWhere the freeze goes (ms, p50)")
    table(["kind", "MiB"] + STEPS, [[r["kind"], show(r["rss_mib"])] + [show(r["steps_ms"][k]) for k in STEPS] for r in rows])


def main():
    samples = [json.loads(line) for line in open(sys.argv[1])]
    conditions = next((s for s in samples if s["kind"] == "conditions"), {})
    conditions.pop("kind", None)
    keys = list(dict.fromkeys((s["row"], s["rss_mib"], s["rate"]) for s in samples if "row" in s))
    rows = [r for r in (row_of(samples, k) for k in keys) if r]
    with open(sys.argv[2], "w") as f:
        json.dump({"rows": rows, "conditions": conditions}, f, indent=1)
        f.write("\n")
    if not rows:
        sys.exit("no migration was measured")
    report(rows, conditions)
    print(f"\n{sys.argv[2]}")


main()

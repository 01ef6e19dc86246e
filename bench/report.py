"""bench/report.py SAMPLES FREEZE_JSON: rows and a table out of what bench/run measured."""
import json
import platform
import sys

STEPS = ["stop", "last_pages", "dump", "images", "restore", "commit", "route", "resume"]


def quantile(values, q):
    """The nearest-rank quantile: always a value that was measured."""
    v = sorted(values)
    return v[min(len(v) - 1, max(0, -(-int(q * 1000) * len(v) // 1000) - 1))] if v else None


def spread(values):
    return {"p50": quantile(values, 0.5), "p90": quantile(values, 0.9), "max": max(values, default=None)}


def row_of(samples, rss, rate):
    mine = [s for s in samples if s.get("rss_mib") == rss and s.get("rate") == rate]
    ours = [s for s in mine if s["kind"] == "godwit"]
    plain = [s for s in mine if s["kind"] == "plain"]
    link = [s["mib_per_s"] for s in mine if s["kind"] == "link"]
    ends = [s for s in mine if s["kind"] == "end"]
    if not ours:
        return None
    result = [s["result"] for s in ours]
    rates = [s["rate_precopy"] / s["rate_before"] for s in ours if s["rate_before"] and s["rate_precopy"]]
    client = ends[-1]["client"] if ends else {}
    lost = client.get("lost", 0) + client.get("keys_wrong", 0) + client.get("wrong_answers", 0) if client else None
    return {
        "rss_mib": rss,
        "writes_per_s": rate,
        "runs": len(ours),
        "freeze_ms": spread([r["freeze_ms"] for r in result]),
        "client_stall_ms": spread([s["client"]["wait_max_us"] / 1000 for s in ours]),
        "retransmits": sum(s["client"]["retransmits"] + s["pod_retransmits"] for s in ours),
        "loss_probes": sum(s["client"]["probes"] for s in ours),
        "timeouts": sum(s["client"]["timeouts"] for s in ours),
        "lost": lost,
        "same_connection": client.get("same_port"),
        "baseline_runs": len(plain),
        "baseline_freeze_ms": {"p50": quantile([s["result"]["freeze_ms"] for s in plain], 0.5)},
        "baseline_stall_ms": {"p50": quantile([s["client"]["wait_max_us"] / 1000 for s in plain], 0.5)},
        "precopy_mib_per_s": quantile([r["precopy_mib_per_s"] for r in result], 0.5),
        "link_mib_per_s": quantile(link, 0.5) if link else None,
        "client_rate_ratio": quantile(rates, 0.5),
        "dest_peak_over_rss": quantile([(s["dest_peak"] - s["dest_usage"]) / s["container_rss"] for s in ours], 0.5),
        "predicted_freeze_ms": {"p50": quantile([r["predicted_freeze_ms"] for r in result], 0.5)},
        "rounds": quantile([r["rounds"] for r in result], 0.5),
        "steps_ms": {k: quantile([r.get("steps", {}).get(k, 0) for r in result], 0.5) for k in STEPS},
        "client_wait_ms": {k: quantile([s["waits"][k] / 1000 for s in ours], 0.5) for k in ("before", "freeze", "after")},
        "cut_short": bool(ends and ends[-1]["failed"]),
    }


def show(v, digits=1):
    return "-" if v is None else f"{v:.{digits}f}" if isinstance(v, float) else str(v)


def table(heads, lines):
    wide = [max(len(h), *(len(r[i]) for r in lines)) for i, h in enumerate(heads)]
    for r in [heads] + lines:
        print("  " + "  ".join(c.rjust(w) for c, w in zip(r, wide)))


def report(rows, daemon):
    print("\nHow long it is frozen (ms; stall: the client's longest wait in a migration)")
    table(["MiB", "writes/s", "runs", "freeze p50", "p90", "max", "stall p50", "p90", "max", "retrans", "lost",
           "plain freeze", "plain stall"],
          [[show(r["rss_mib"]), show(r["writes_per_s"]), show(r["runs"])]
           + [show(r["freeze_ms"][k]) for k in ("p50", "p90", "max")]
           + [show(r["client_stall_ms"][k]) for k in ("p50", "p90", "max")]
           + [show(r["retransmits"]), show(r["lost"]), show(r["baseline_freeze_ms"]["p50"]),
              show(r["baseline_stall_ms"]["p50"])] for r in rows])
    print("\nWhat it costs before")
    table(["MiB", "writes/s", "pre-copy MiB/s", "link MiB/s", "of the link", "client's rate", "dest. peak/RSS", "rounds",
           "predicted ms"],
          [[show(r["rss_mib"]), show(r["writes_per_s"]), show(r["precopy_mib_per_s"], 0), show(r["link_mib_per_s"], 0),
            show(r["precopy_mib_per_s"] / r["link_mib_per_s"] if r["link_mib_per_s"] else None, 2),
            show(r["client_rate_ratio"], 2), show(r["dest_peak_over_rss"], 2), show(r["rounds"]),
            show(r["predicted_freeze_ms"]["p50"])] for r in rows])
    print("\nWhere the freeze goes (ms, p50; last pages run beside the dump, resume is part of commit)")
    table(["MiB", "writes/s"] + STEPS,
          [[show(r["rss_mib"]), show(r["writes_per_s"])] + [show(float(r["steps_ms"][k])) for k in STEPS] for r in rows])
    print("\nThe client's longest wait (ms, p50) of what it sent while memory was copied, in the freeze, and afterwards")
    table(["MiB", "writes/s", "before", "freeze", "after"],
          [[show(r["rss_mib"]), show(r["writes_per_s"])] + [show(r["client_wait_ms"][k]) for k in ("before", "freeze", "after")]
           for r in rows])
    if daemon:
        print(f"\nidle godwitd: {daemon['rss_kib'] / 1024:.1f} MiB RSS; all of it took {daemon['took_s'] / 60:.1f} minutes")


def main():
    samples = [json.loads(line) for line in open(sys.argv[1])]
    keys = []
    for s in samples:
        if "rate" in s and (s["rss_mib"], s["rate"]) not in keys:
            keys.append((s["rss_mib"], s["rate"]))
    rows = [r for r in (row_of(samples, *k) for k in keys) if r]
    daemon = next((s for s in samples if s["kind"] == "daemon"), None)
    out = {"rows": rows, "kernel": platform.release(), "machine": platform.machine(),
           "daemon_rss_mib": daemon["rss_kib"] / 1024 if daemon else None,
           "took_s": daemon["took_s"] if daemon else None}
    with open(sys.argv[2], "w") as f:
        json.dump(out, f, indent=1)
        f.write("\n")
    if rows:
        report(rows, daemon)
    print(f"\n{sys.argv[2]}")


if __name__ == "__main__":
    main()
